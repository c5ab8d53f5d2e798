# SPDX-License-Identifier: Apache-2.0
"""Says what podman or CRI-O will do with a name, and why. Pure: no I/O.

The answer is a hit if ``podman run`` starts the image from the store without a pull. A moved tag or
a made-up config doesn't make it a miss.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from podman_cvmfs.errors import printable
from podman_cvmfs.podman.pause import RESTART
from podman_cvmfs.reports.configured import CRIO
from podman_cvmfs.reports.evidence import Evidence
from podman_cvmfs.resolve.config import SYNTHESISED
from podman_cvmfs.settings.advice import on_store
from podman_cvmfs.store.records import StoredImage

#: So many other tags are named.
_SHOWN = 5


class Code(str, Enum):
    """The code of a reason, for programs."""

    IN_STORE = "in-store"
    STALE = "stale-tag"
    SYNTHESISED = "synthesised-config"
    GONE = "gone-from-repository"
    RETIRED = "retired"
    CLOSED = "closed-files"
    SERVICES = "services-without-store"
    NOT_CONFIGURED = "store-not-configured"
    PODMAN_FAILS = "podman-fails"
    OWN_COPY = "own-copy"
    SHADOWED = "shadowed"
    ARCHITECTURE = "other-architecture"
    DOUBTFUL = "doubtful-architecture"
    DOWN = "repository-down"
    FILES_GONE = "files-gone"
    UNSEEN = "mount-unseen"
    NOT_SYNCED = "not-synced"
    NOT_WISHED = "not-wished"
    REFUSED = "refused-by-policy"
    NOT_IN_REPOSITORY = "not-in-repository"
    SHORT_NAME = "short-name"
    PULL_POLICY = "pull-policy"


_POLICY_CURE = (
    "change policy.json; for images that need a signature you can also set "
    "'signatures = \"ignored\"' in the settings"
)
#: Each of these makes the answer a miss.
_PREVENT = {
    *(Code.NOT_CONFIGURED, Code.PODMAN_FAILS, Code.SHADOWED, Code.ARCHITECTURE, Code.DOWN),
    *(Code.FILES_GONE, Code.UNSEEN),
    *(Code.NOT_SYNCED, Code.NOT_WISHED, Code.NOT_IN_REPOSITORY, Code.SHORT_NAME),
}


@dataclass(frozen=True)
class Reason:
    """One fact that decides, in words, and how to change it if it should be changed."""

    code: Code
    text: str
    cure: str | None = None


@dataclass(frozen=True)
class Answer:
    """Whether the name is a hit, its image ID, the reasons, and what ``podman run``, or CRI-O, will
    do."""

    hit: bool
    image_id: str | None
    reasons: tuple[Reason, ...]
    podman_run: str


def judge(evidence: Evidence) -> Answer:
    """Draw the conclusion."""
    reasons = _absent(evidence) if evidence.stored is None else _present(evidence)
    if _is_crio(evidence):
        reasons += _kubernetes(evidence)
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
    reasons += _unreachable(evidence, image)
    reasons += _architecture(evidence)
    if evidence.retired:
        reasons.append(
            Reason(
                Code.RETIRED,
                "it has lost its names; the store keeps it only for containers made from it",
            )
        )
    elif offer is not None and offer.image.image_id.hex not in image.all_sources:
        reasons.append(
            Reason(
                Code.STALE,
                f"{printable(offer.repository.root)} now has another image with this name"
                + (f", {offer.image.expected_id.hex[:12]}" if offer.image.expected_id else ""),
                on_store(evidence.store, "sync"),
            )
        )
    elif offer is None and not evidence.down:
        reasons.append(
            Reason(
                Code.GONE,
                f"{printable(image.repository)} no longer has it",
                f"the next '{on_store(evidence.store, 'sync')}' takes it out of the store",
            )
        )
    if evidence.refusal:
        text = f"{evidence.refusal}; the next sync takes it out of the store"
        reasons.append(Reason(Code.REFUSED, text, _POLICY_CURE))
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
                "its config is made up, because nobody had the genuine one: user, working "
                "directory "
                "and labels may be missing, and its ID is not the genuine one"
                + (f", {genuine.hex[:12]}" if genuine else ""),
                f"{on_store(evidence.store, 'sync')}, as soon as the registry can be reached",
            )
        )
    return reasons


def _unreachable(evidence: Evidence, image: StoredImage) -> list[Reason]:
    """The reasons if files of the image can't be reached, by anybody or by podman."""
    if evidence.missing:
        path = printable(evidence.missing[0])
        if evidence.has_left:
            sync = on_store(evidence.store, "sync")
            return [Reason(Code.FILES_GONE, f"its files have left the repository: {path}", sync)]
        cure = f"ls {printable(image.repository)}; cvmfs_config probe"
        return [Reason(Code.DOWN, f"some of its files can't be reached: {path}", cure)]
    if evidence.hidden:
        path = printable(evidence.hidden[0])
        text = f"podman's pause process started before the mount and doesn't see {path}"
        return [Reason(Code.UNSEEN, text, RESTART)]
    return []


def _own(evidence: Evidence) -> Reason:
    own, image = evidence.own, evidence.stored
    assert own is not None and image is not None
    where = printable(own.place)
    if own.on_ours:
        text = f"{_engine(evidence)} has its own record of it in {where}, on the store's layers"
        return Reason(Code.OWN_COPY, text)
    same = "a copy of its own" if own.image_id == image.image_id else "another image of this name"
    remove = "crictl" if _is_crio(evidence) else "podman"
    cure = f"{remove} rmi {printable(evidence.found_as)}"
    if own.place in evidence.stores:
        # Nobody can remove images from an additional store.
        cure = f"name {printable(evidence.store)} before it in additionalimagestores"
    text = f"{_engine(evidence)} finds {same} first, {own.image_id[:12]} in {where}"
    return Reason(Code.SHADOWED, text, cure)


def _absent(evidence: Evidence) -> list[Reason]:
    reasons = []
    asked = printable(evidence.asked)
    offer = evidence.offer
    if evidence.own is not None:
        where = printable(evidence.own.place)
        text = f"{_engine(evidence)} has its own copy, {evidence.own.image_id[:12]} in {where}"
        reasons.append(Reason(Code.SHADOWED, text))
    if evidence.other_platforms:
        there = printable(" and ".join(map(str, evidence.other_platforms)))
        text = f"other architecture: repositories have it for {there}, not for {evidence.host}"
        reasons.append(Reason(Code.ARCHITECTURE, text))
    elif offer is not None:
        what = f"{printable(offer.repository.root)} has {offer.image.name}"
        sync = on_store(evidence.store, "sync", str(offer.image.name))
        if evidence.refusal:
            text = f"{what}, but {evidence.refusal}"
            reasons.append(Reason(Code.REFUSED, text, _POLICY_CURE))
        elif evidence.wished:
            text = f"{what}, but no sync has put it into the store {printable(evidence.store)}"
            reasons.append(Reason(Code.NOT_SYNCED, text, sync))
        else:
            reasons.append(
                Reason(
                    Code.NOT_WISHED,
                    f"{what}, but the wish lists or settings leave it out",
                    f"{sync}; 'podman-cvmfs config' shows the rule",
                )
            )
    elif evidence.down:
        text = f"not in the store; whether a repository has it is unknown: {evidence.down[0]}"
        reasons.append(Reason(Code.DOWN, text))
    else:
        text = f"no repository has {asked}"
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


def _kubernetes(evidence: Evidence) -> list[Reason]:
    """What a pod must say for CRI-O to find the image, and not to ask for it."""
    if evidence.is_too_short:
        cure = f"use the full name, {evidence.names[-1]}" if evidence.names else None
        text = "CRI-O needs the full name: registries.conf tells no registry for short ones"
        return [Reason(Code.SHORT_NAME, text, cure)]
    if evidence.stored is None:
        return []
    text = (
        "with imagePullPolicy: Always, the default for the tag latest, CRI-O asks the registry "
        "first and fails without it"
    )
    return [Reason(Code.PULL_POLICY, text, "in the pod: imagePullPolicy: IfNotPresent")]


def _engine(evidence: Evidence) -> str:
    return evidence.configured.engine


def _is_crio(evidence: Evidence) -> bool:
    return _engine(evidence) == CRIO


def _configuration(evidence: Evidence) -> list[Reason]:
    """The reasons that come from podman's configuration."""
    configured = evidence.configured
    reasons = []
    if configured.failure:
        cure = on_store(evidence.store, "doctor")
        reasons.append(Reason(Code.PODMAN_FAILS, printable(configured.failure), cure))
    if configured.problem:
        problem = printable(configured.problem)
        reasons.append(Reason(Code.NOT_CONFIGURED, problem, configured.cure))
    if configured.services:
        first = configured.services[0]
        more = f" and {len(configured.services) - 1} more" if configured.services[1:] else ""
        text = (
            f"podman in the service {printable(first.path)}{more} has options of its own and "
            f"leaves the store out: {printable(' '.join(first.options))}"
        )
        cure = f"give podman --storage-opt=imagestore={printable(evidence.store)} there, too"
        reasons.append(Reason(Code.SERVICES, text, cure))
    return reasons


def _architecture(evidence: Evidence) -> list[Reason]:
    host, its, published = evidence.host, evidence.platform, evidence.published_for
    if host.runs(its):
        return []
    if published is not None and published.os == its.os and host.runs(published):
        # As podman does: an index counts more than a config.
        text = f"it is published for {published}, but its config says {printable(str(its))}"
        return [Reason(Code.DOUBTFUL, text)]
    text = f"other architecture: it is for {printable(str(its))}, this host is {host}"
    return [Reason(Code.ARCHITECTURE, text)]


def _podman_run(evidence: Evidence, found: set[Code]) -> str:
    """What ``podman run`` will do: the end of the sentence."""
    own, image = evidence.own, evidence.stored
    if Code.PODMAN_FAILS in found:
        return f"fails: {printable(evidence.configured.failure)}"
    if Code.SHORT_NAME in found:
        return "fails: it can't tell which image is meant"
    if own is not None and not (own.on_ours and image):
        return f"starts {own.image_id[:12]} from {printable(own.place)}, without a pull"
    if image is None or Code.NOT_CONFIGURED in found:
        if evidence.no_pull:
            return f"fails: {printable(evidence.no_pull)}"
        return f"pulls it from {printable(' or '.join(evidence.pulls_from))}"
    short_id = image.image_id[:12]
    if Code.UNSEEN in found:
        return f"fails: it starts {short_id} from the store, on an empty root"
    if Code.DOWN in found or Code.FILES_GONE in found:
        # podman sees the record, so it never asks the registry.
        return f"fails: it finds {short_id} in the store, but not its files"
    if Code.ARCHITECTURE in found:
        return (
            f"starts {short_id} from the store with a warning; its programs run only if this host "
            f"emulates {printable(str(evidence.platform))}"
        )
    warned = " and with a warning" if Code.DOUBTFUL in found else ""
    return f"starts {short_id} from the store, without a pull{warned}"
