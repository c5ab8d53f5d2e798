# SPDX-License-Identifier: Apache-2.0
"""Choose from what repositories offer: what was asked for by name, or all that is wished for."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence

from podman_cvmfs.errors import InputError, OtherPlatformError, PodmanCvmfsError, printable
from podman_cvmfs.names.reference import ImageName
from podman_cvmfs.oci.platform import Platform
from podman_cvmfs.repository.offers import Offer, Offers, may_lie_below
from podman_cvmfs.repository.records import OtherPlatforms
from podman_cvmfs.sync.held import Held, still_held
from podman_cvmfs.sync.report import SyncReport
from podman_cvmfs.sync.request import Wishes


def choose_requested(
    offers: Offers,
    requested: Mapping[str, Sequence[ImageName]],
    platform: Platform,
    report: SyncReport,
) -> list[Offer]:
    """The offers that were asked for by name; what there is none for goes to the report."""
    by_name: dict[ImageName, Offer] = {}
    for offer in offers.offers:
        by_name.setdefault(offer.image.name.canonical, offer)
    others = {each.name.canonical: _other_platform(each, platform) for each in offers.others}
    chosen = []
    for text, names in requested.items():
        found = [by_name[name] for name in names if name in by_name]
        if found:
            chosen.append(found[0])
            report.found[text] = str(found[0].image.name)
            continue
        errors: list[PodmanCvmfsError] = [others[name] for name in names if name in others]
        errors += [
            problem.error
            for _, problem in offers.problems
            if any(may_lie_below(name.repository_path, problem.path) for name in names)
        ]
        report.failed[text] = (
            errors[0]
            if errors
            else InputError(
                f"no such image in the repository: {printable(text)}",
                "names are as podman writes them, with their tag: registry/repository:tag",
            )
        )
    return chosen


def _other_platform(image: OtherPlatforms, wanted: Platform) -> OtherPlatformError:
    return OtherPlatformError(
        f"{image.name} is there for {' and '.join(map(str, image.platforms))}, not for {wanted}"
    )


def choose_selected(
    offers: Offers,
    hidden: Collection[str],
    wishes: Wishes,
    held: Mapping[ImageName, Held],
    report: SyncReport,
) -> tuple[list[Offer], dict[ImageName, str]]:
    """The offers that the store shall hold, and name -> source ID of all it shall hold: with them,
    what can't be read just now in repositories that aren't ``hidden``."""
    chosen = []
    wanted: dict[ImageName, str] = {}
    places = [os.path.abspath(root) for root in wishes.repositories]
    # What a repository that is down has goes on to have its name before those of later ones.
    kept = {
        name: places.index(root)
        for root in offers.down.keys() - hidden
        for name in still_held(held, root)
        if wishes.selection.wants(name)
    }
    for offer in offers.offers:
        if kept.get(offer.image.name, len(places)) < places.index(offer.repository.root):
            continue
        if offer.image.name not in wanted and wishes.selection.wants(offer.image.name):
            chosen.append(offer)
            wanted[offer.image.name] = offer.image.image_id.hex
    for each in offers.others:
        if each.name not in wanted and wishes.selection.wants(each.name):
            report.left_out[str(each.name)] = _other_platform(each, wishes.platform)
    for root, problem in offers.problems:
        report.failed[problem.path or root] = problem.error
        for name, source in still_held(held, root, problem.path).items():
            if wishes.selection.wants(name):
                wanted.setdefault(name, source)
    for root in offers.down.keys() - hidden:
        for name, source in still_held(held, root).items():
            if name in kept:
                wanted.setdefault(name, source)
    return chosen, wanted


def keep_old(
    wanted: dict[ImageName, str],
    held: Mapping[ImageName, Held],
    group: Iterable[Offer],
    report: SyncReport,
) -> None:
    """Let names whose new image can't be done lead to their old one, if they have one; but not
    those of an image that is left out."""
    for offer in group:
        name = offer.image.name
        if wanted.get(name) != offer.image.image_id.hex:
            continue  # another repository's image has the name
        if name in held and str(name) not in report.left_out:
            wanted[name] = held[name].source
        else:
            wanted.pop(name, None)
