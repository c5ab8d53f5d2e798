# SPDX-License-Identifier: Apache-2.0
"""Says what podman will do with a name, and why. Pure: no I/O.

It is a hit if ``podman run`` starts the image from the store, with nothing pulled. What else is to
be known of a hit (its tag has moved, its config is made up) doesn't make it a miss.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from podman_cvmfs.errors import printable
from podman_cvmfs.reports.evidence import Evidence
from podman_cvmfs.resolve.config import SYNTHESISED
from podman_cvmfs.settings.advice import on_store

#: So many other tags are named.
_SHOWN = 5


class Code(str, Enum):
    """What is so, in one word for programs."""

    IN_STORE = "in-store"
    STALE = "stale-tag"
    SYNTHESISED = "synthesised-config"
    GONE = "gone-from-repository"
    RETIRED = "retired"
    CLOSED = "closed-files"
    NOT_CONFIGURED = "store-not-configured"
    PODMAN_FAILS = "podman-fails"
    OWN_COPY = "own-copy"
    SHADOWED = "shadowed"
    ARCHITECTURE = "other-architecture"
    DOWN = "repository-down"
    NOT_SYNCED = "not-synced"
    NOT_WISHED = "not-wished"
    NOT_IN_REPOSITORY = "not-in-repository"


#: With one of these it is no hit.
_PREVENT = {
    *(Code.NOT_CONFIGURED, Code.PODMAN_FAILS, Code.SHADOWED, Code.ARCHITECTURE, Code.DOWN),
    *(Code.NOT_SYNCED, Code.NOT_WISHED, Code.NOT_IN_REPOSITORY),
}


@dataclass(frozen=True)
class Reason:
    """One thing that is so, in words, and what changes it, if anything should."""

    code: Code
    text: str
    cure: str | None = None


@dataclass(frozen=True)
class Answer:
    """Whether it is a hit, under which ID, why, and what ``podman run`` will do."""

    hit: bool
    image_id: str | None
    reasons: tuple[Reason, ...]
    podman_run: str


def judge(evidence: Evidence) -> Answer:
    """Draw the conclusion."""
    reasons = _absent(evidence) if evidence.stored is None else _present(evidence)
    found = {reason.code for reason in reasons}
    hit = Code.IN_STORE in found and not _PREVENT & found
    image_id = None if evidence.stored is None else evidence.stored.image_id
    return Answer(hit, image_id, tuple(reasons), _podman_run(evidence, found))


def _present(evidence: Evidence) -> list[Reason]:
    image, offer = evidence.stored, evidence.offer
    assert image is not None
    short_id = image.image_id[:12]
    text = f"{printable(evidence.found_as)} is in the store {printable(evidence.store)}"
    reasons = [Reason(Code.IN_STORE, f"{text} as the image {short_id}, in the view {image.view}")]
    reasons += _configuration(evidence)
    if evidence.own is not None:
        reasons.append(_own(evidence))
    if evidence.missing:
        reasons.append(
            Reason(
                Code.DOWN,
                f"files of it can't be reached: {printable(evidence.missing[0])}",
                f"ls {printable(image.repository)}; cvmfs_config probe",
            )
        )
    if not evidence.host.runs(evidence.platform):
        reasons.append(
            Reason(
                Code.ARCHITECTURE,
                f"other architecture: it is for {printable(str(evidence.platform))}, "
                f"this host is {evidence.host}",
            )
        )
    if evidence.retired:
        reasons.append(
            Reason(Code.RETIRED, "it has lost its names, and stays only for containers made of it")
        )
    elif offer is not None and offer.image.image_id.hex not in image.all_sources:
        reasons.append(
            Reason(
                Code.STALE,
                f"{printable(offer.repository.root)} has another image under this name by now"
                + (f", {offer.image.expected_id.hex[:12]}" if offer.image.expected_id else ""),
                on_store(evidence.store, "sync"),
            )
        )
    elif offer is None and not evidence.down:
        reasons.append(
            Reason(
                Code.GONE,
                f"{printable(image.repository)} doesn't offer it any more",
                f"the next '{on_store(evidence.store, 'sync')}' takes it out of the store",
            )
        )
    if evidence.is_closed and evidence.own is None:
        name = printable(evidence.found_as) if evidence.names else "IMAGE"
        reasons.append(
            Reason(
                Code.CLOSED,
                "some of its files may be closed to you: then podman can't build on it, nor commit "
                "a container of it",
                f"before a build or commit: podman pull {name}",
            )
        )
    if image.config_origin == SYNTHESISED:
        genuine = None if offer is None else offer.image.expected_id
        reasons.append(
            Reason(
                Code.SYNTHESISED,
                "its config is made up, for nobody had the genuine one: user, working directory "
                "and labels may lack, and its ID is not the genuine one"
                + (f", {genuine.hex[:12]}" if genuine else ""),
                f"{on_store(evidence.store, 'sync')}, when the registry can be reached",
            )
        )
    return reasons


def _own(evidence: Evidence) -> Reason:
    own, image = evidence.own, evidence.stored
    assert own is not None and image is not None
    where = printable(own.place)
    if own.on_ours:
        return Reason(
            Code.OWN_COPY, f"podman has a record of its own of it in {where}, on the store's layers"
        )
    same = "a copy of its own" if own.image_id == image.image_id else "another image of this name"
    cure = f"podman rmi {printable(evidence.found_as)}"
    if own.place in evidence.stores:
        # Of another additional store nothing can be removed.
        cure = f"name {printable(evidence.store)} before it in additionalimagestores"
    return Reason(Code.SHADOWED, f"podman finds {same} first, {own.image_id[:12]} in {where}", cure)


def _absent(evidence: Evidence) -> list[Reason]:
    reasons = []
    asked = printable(evidence.asked)
    offer = evidence.offer
    if evidence.own is not None:
        where = printable(evidence.own.place)
        text = f"podman has it itself, {evidence.own.image_id[:12]} in {where}"
        reasons.append(Reason(Code.SHADOWED, text))
    if evidence.other_platforms:
        there = printable(" and ".join(map(str, evidence.other_platforms)))
        text = f"other architecture: repositories have it for {there}, not for {evidence.host}"
        reasons.append(Reason(Code.ARCHITECTURE, text))
    elif offer is not None:
        what = f"{printable(offer.repository.root)} has {offer.image.name}"
        sync = on_store(evidence.store, "sync", str(offer.image.name))
        if evidence.wished:
            text = f"{what}, but it hasn't been synced into the store {printable(evidence.store)}"
            reasons.append(Reason(Code.NOT_SYNCED, text, sync))
        else:
            reasons.append(
                Reason(
                    Code.NOT_WISHED,
                    f"{what}, but wish lists and settings leave it out",
                    f"{sync}, or 'podman-cvmfs config' for the rule",
                )
            )
    elif evidence.down:
        text = f"not in the store, and can't tell whether it is on offer: {evidence.down[0]}"
        reasons.append(Reason(Code.DOWN, text))
    else:
        text = f"no repository offers {asked}"
        meant = [name for name in evidence.names if name != evidence.asked]
        if meant:
            text += f" ({', '.join(meant)})"
        others = evidence.other_tags
        cure = None
        if others:
            more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
            cure = f"there is {', '.join(others[:_SHOWN])}{more}"
        reasons.append(Reason(Code.NOT_IN_REPOSITORY, text, cure))
    return reasons + _configuration(evidence)


def _configuration(evidence: Evidence) -> list[Reason]:
    """What podman's configuration makes of it."""
    configured = evidence.configured
    reasons = []
    if configured.failure:
        cure = on_store(evidence.store, "doctor")
        reasons.append(Reason(Code.PODMAN_FAILS, printable(configured.failure), cure))
    if configured.problem:
        problem = printable(configured.problem)
        reasons.append(Reason(Code.NOT_CONFIGURED, problem, configured.cure))
    return reasons


def _podman_run(evidence: Evidence, found: set[Code]) -> str:
    """What ``podman run`` will do, whole sentence."""
    own, image = evidence.own, evidence.stored
    if Code.PODMAN_FAILS in found:
        return f"fails: {printable(evidence.configured.failure)}"
    if own is not None and not (own.on_ours and image):
        return f"starts {own.image_id[:12]} from {printable(own.place)}, without a pull"
    if image is None or Code.NOT_CONFIGURED in found:
        if evidence.no_pull:
            return f"fails: {printable(evidence.no_pull)}"
        return f"pulls it from {printable(' or '.join(evidence.pulls_from))}"
    short_id = image.image_id[:12]
    if Code.DOWN in found:
        # podman sees the record, so it never asks the registry.
        return f"fails: it finds {short_id} in the store, but not its files"
    if Code.ARCHITECTURE in found:
        return (
            f"starts {short_id} from the store with a warning; its programs run only if this host "
            f"emulates {printable(str(evidence.platform))}"
        )
    return f"starts {short_id} from the store, without a pull"
