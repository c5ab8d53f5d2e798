# SPDX-License-Identifier: Apache-2.0
"""Choose from the repositories' offers: the requested names, or all wanted images."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from podman_cvmfs.errors import InputError, OtherPlatformError, PodmanCvmfsError, printable
from podman_cvmfs.names.reference import ImageName
from podman_cvmfs.oci.platform import Platform
from podman_cvmfs.repository.offers import Offer, Offers, may_lie_below
from podman_cvmfs.repository.records import OtherPlatforms
from podman_cvmfs.sync.held import Held, still_held
from podman_cvmfs.sync.report import Errors
from podman_cvmfs.sync.request import SyncRequest


@dataclass(frozen=True)
class Choice:
    """The chosen offers."""

    #: The offers that the store is to have.
    offers: Sequence[Offer]
    #: Name -> source ID of all images that the store is to have.
    wanted: Mapping[ImageName, str]
    #: Requested images that are missing, and paths that can't be read.
    failed: Errors = field(default_factory=dict)
    #: Images for other architectures only, or refused by podman's policy.
    left_out: Errors = field(default_factory=dict)
    #: A name that was requested -> the name under which a repository has it.
    found: Mapping[str, str] = field(default_factory=dict)


def choose_requested(
    offers: Offers,
    requested: Mapping[str, Sequence[ImageName]],
    platform: Platform,
    held: Mapping[ImageName, Held],
    refusal: Callable[[ImageName], str] = lambda name: "",
) -> Choice:
    """The offers with the requested names. The store is to have them in addition to its images. It
    has no image that ``refusal`` gives a rule against: like podman, a short name then goes on to
    its next meaning."""
    by_name: dict[ImageName, Offer] = {}
    for offer in offers.offers:
        by_name.setdefault(offer.image.name.canonical, offer)
    others = {each.name.canonical: _other_platform(each, platform) for each in offers.others}
    chosen: dict[str, Offer] = {}
    failed: dict[str, PodmanCvmfsError] = {}
    for text, names in requested.items():
        found = [by_name[name] for name in names if name in by_name]
        if found:
            accepted = next((each for each in found if not refusal(each.image.name)), None)
            if accepted is None:
                name = found[0].image.name
                failed[text] = refused_by(name, refusal(name))
            else:
                chosen[text] = accepted
            continue
        errors: list[PodmanCvmfsError] = [others[name] for name in names if name in others]
        errors += [
            problem.error
            for _, problem in offers.problems
            if any(may_lie_below(name.repository_path, problem.path) for name in names)
        ]
        failed[text] = (
            errors[0]
            if errors
            else InputError(
                f"no such image in the repository: {printable(text)}",
                "names are as podman writes them, with their tag: registry/repository:tag",
            )
        )
    wanted = {
        name: each.source
        for name, each in held.items()
        if each.repository not in offers.forged and not refusal(name)
    }
    wanted.update((each.image.name, each.image.image_id.hex) for each in chosen.values())
    found_as = {text: str(each.image.name) for text, each in chosen.items()}
    return Choice(tuple(chosen.values()), wanted, failed, found=found_as)


def _other_platform(image: OtherPlatforms, wanted: Platform) -> OtherPlatformError:
    return OtherPlatformError(
        f"{image.name} exists for {' and '.join(map(str, image.platforms))}, not for {wanted}"
    )


def refused_by(name: ImageName, rule: str) -> InputError:
    """The error that podman's policy refuses the image called ``name`` by this ``rule``."""
    return InputError(
        f"{name}: {rule}",
        "podman wouldn't pull it; signatures of images in a repository can't be checked",
    )


def choose_selected(
    offers: Offers,
    hidden: Collection[str],
    request: SyncRequest,
    held: Mapping[ImageName, Held],
) -> Choice:
    """The wanted offers. The store is to have these. It also keeps images that can't be read now,
    except those of ``hidden`` repositories."""
    chosen = []
    failed: dict[str, PodmanCvmfsError] = {}
    left_out: dict[str, PodmanCvmfsError] = {}
    wanted: dict[ImageName, str] = {}
    places = [os.path.abspath(root) for root in request.repositories]
    # The names of a repository that is down still count before those of later repositories.
    kept = {
        name: places.index(root)
        for root in offers.down.keys() - hidden
        for name in still_held(held, root)
        if request.selection.wants(name)
    }
    for offer in offers.offers:
        if kept.get(offer.image.name, len(places)) < places.index(offer.repository.root):
            continue
        if offer.image.name not in wanted and request.selection.wants(offer.image.name):
            chosen.append(offer)
            wanted[offer.image.name] = offer.image.image_id.hex
    for name in {offer.image.name: None for offer in offers.offers}:
        rule = request.selection.refusal(name)
        if rule and request.selection.selects(name):
            left_out[str(name)] = refused_by(name, rule)
    for each in offers.others:
        if each.name not in wanted and request.selection.wants(each.name):
            left_out[str(each.name)] = _other_platform(each, request.platform)
    for root, problem in offers.problems:
        failed[problem.path or root] = problem.error
        for name, source in still_held(held, root, problem.path).items():
            if request.selection.wants(name):
                wanted.setdefault(name, source)
    for root in offers.down.keys() - hidden:
        for name, source in still_held(held, root).items():
            if name in kept:
                wanted.setdefault(name, source)
    return Choice(chosen, wanted, failed, left_out)


def keep_old(
    wanted: Mapping[ImageName, str],
    held: Mapping[ImageName, Held],
    undone: Iterable[Offer],
    left_out: Collection[str],
) -> dict[ImageName, str]:
    """The images ``wanted`` if the offers ``undone`` can't be completed: their names keep their old
    image, unless they have none or are ``left_out``."""
    wanted = dict(wanted)
    for offer in undone:
        name = offer.image.name
        if wanted.get(name) != offer.image.image_id.hex:
            continue  # another repository's image has the name
        if name in held and str(name) not in left_out:
            wanted[name] = held[name].source
        else:
            wanted.pop(name, None)
    return wanted
