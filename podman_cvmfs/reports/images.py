# SPDX-License-Identifier: Apache-2.0
"""The images of repositories and of the store, side by side, by podman's names. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase

from podman_cvmfs.names.reference import podman_names
from podman_cvmfs.repository.offers import Offer, Offers, may_lie_below
from podman_cvmfs.resolve.config import SYNTHESISED
from podman_cvmfs.store.records import StoreContent, StoredImage
from podman_cvmfs.sync.selection import Selection


class State(str, Enum):
    """How a name stands in the store, compared with the repositories."""

    IN_STORE = "in store"
    STALE = "stale tag"
    NOT_SYNCED = "not synced"
    NOT_WISHED = "not wished"
    REFUSED = "refused by policy"
    OTHER_PLATFORM = "other architecture"
    GONE = "gone from repository"
    NOT_ASKED = "repository not asked"
    UNKNOWN = "repository unreadable"


@dataclass(frozen=True)
class Row:
    """One name. ``stored`` is the store's image with this name, ``offer`` a repository's."""

    name: str
    state: State
    stored: StoredImage | None
    offer: Offer | None
    #: The rule of podman's policy against it.
    refusal: str = ""

    @property
    def image_id(self) -> str:
        """The ID that podman shows, or would if the genuine config is found."""
        if self.stored is not None:
            return self.stored.image_id
        expected = None if self.offer is None else self.offer.image.expected_id
        return "" if expected is None else expected.hex

    @property
    def repository(self) -> str:
        """The directory the image is from."""
        if self.stored is not None:
            return self.stored.repository
        return "" if self.offer is None else self.offer.repository.root

    @property
    def config(self) -> str:
        """Whether its config is genuine or synthesised; empty for an image not in the store."""
        return "" if self.stored is None else config_kind(self.stored)


def config_kind(image: StoredImage) -> str:
    """Whether the config of ``image`` is the genuine one, or synthesised."""
    return SYNTHESISED if image.config_origin == SYNTHESISED else "genuine"


def listed(content: StoreContent) -> dict[str, StoredImage]:
    """The store's images by name, without those that only containers still need."""
    return {
        name: content.images[image_id]
        for name, image_id in content.names.items()
        if content.images[image_id].published
    }


def offered(offers: Offers) -> dict[str, Offer]:
    """The repositories' images by podman's names: exact names before derived ones."""
    found: dict[str, Offer] = {}
    for offer in offers.offers:
        found.setdefault(str(offer.image.name), offer)
    for offer in offers.offers:
        for name in podman_names(offer.image.name):
            found.setdefault(name, offer)
    return found


def catalogue(
    content: StoreContent,
    offers: Offers,
    selection: Selection,
    pattern: str | None = None,
    runs: Callable[[Offer], bool] = lambda offer: True,
) -> list[Row]:
    """All names in order, or the names that match ``pattern``. It is a shell's glob, but its ``*``
    also matches slashes. ``runs`` says whether an image that isn't in the store could run, as far
    as that is known."""
    stored = listed(content)
    on_offer = offered(offers)
    others = {name for each in offers.others for name in podman_names(each.name)}
    rows = []
    for name in sorted(stored.keys() | on_offer.keys() | others):
        if pattern is not None and not fnmatchcase(name, pattern):
            continue
        image, offer = stored.get(name), on_offer.get(name)
        if image is None and (offer is None or not runs(offer)):
            state = State.OTHER_PLATFORM
        else:
            state = state_of(image, offer, offers, selection)
        rule = "" if offer is None else selection.refusal(offer.image.name)
        rows.append(Row(name, state, image, offer, rule))
    return rows


def state_of(
    stored: StoredImage | None, offer: Offer | None, offers: Offers, selection: Selection
) -> State:
    """How a name stands; at least one of ``stored`` and ``offer`` is there."""
    if stored is None:
        assert offer is not None
        if not selection.selects(offer.image.name):
            return State.NOT_WISHED
        return State.REFUSED if selection.refusal(offer.image.name) else State.NOT_SYNCED
    if stored.repository in offers.down or _is_broken(stored, offers):
        return State.UNKNOWN
    if offer is None:
        return State.GONE if stored.repository in offers.asked else State.NOT_ASKED
    return State.IN_STORE if offer.image.image_id.hex in stored.all_sources else State.STALE


def _is_broken(stored: StoredImage, offers: Offers) -> bool:
    """Whether just the part of the repository that names ``stored`` can't be read."""
    return any(
        root == stored.repository
        and any(may_lie_below(path, problem.path) for path in stored.published)
        for root, problem in offers.problems
    )


def counts(rows: list[Row]) -> Mapping[State, int]:
    """How many names are in each state, without states that don't occur."""
    found: dict[State, int] = {}
    for row in rows:
        found[row.state] = found.get(row.state, 0) + 1
    return {state: found[state] for state in State if state in found}
