# SPDX-License-Identifier: Apache-2.0
"""Gathers everything that decides what podman does with one name. Changes nothing."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from podman_cvmfs.errors import InputError, RegistryError, printable
from podman_cvmfs.names.reference import ImageName
from podman_cvmfs.oci.platform import UNKNOWN, Platform
from podman_cvmfs.podman.pause import is_hidden, pause_root
from podman_cvmfs.registry.meanings import is_short, meanings
from podman_cvmfs.registry.registries_conf import load_registries_conf
from podman_cvmfs.registry.signature_policy import read_signature_policy
from podman_cvmfs.reports.configured import Configured, configured_store
from podman_cvmfs.reports.find import by_id, by_name, names_of
from podman_cvmfs.reports.image import config_of, places_of
from podman_cvmfs.reports.images import offered
from podman_cvmfs.reports.own_copy import OwnCopy, own_copy, own_places
from podman_cvmfs.reports.sources import content_of, known_platform, offers_of, selection_of
from podman_cvmfs.repository.offers import Offer, Offers
from podman_cvmfs.repository.owners import strangers_among
from podman_cvmfs.settings.files import Settings
from podman_cvmfs.store.records import StoreContent, StoredImage, chain_of
from podman_cvmfs.sync.selection import Selection
from podman_cvmfs.usage.unreadable import can_be_read
from podman_cvmfs.usage.vanished import is_missing

_NO_SEARCH = "podman knows no registry to look for a short name in"


@dataclass(frozen=True)
class Evidence:
    """Everything that decides.

    ``names`` are the full names that were meant, the best first. ``stored`` is the image in the
    store, found under ``found_as``. ``missing`` is the first place of its files that can't be
    reached, ``hidden`` are the places that only podman can't reach. ``has_left`` says that the
    files have left the repository, which is there; ``is_closed`` says that they belong to a
    stranger, so the user may not read all of them. ``platform`` is its platform, ``host`` this
    machine's. ``published_for`` is the platform of the directory in which it is published, None if
    it is in no such directory.
    ``other_platforms`` are the platforms for which repositories have the image if they lack it for
    this host. ``offers`` are the repositories' images with the names, ``other_tags`` their other
    images that differ in the tag alone. ``down`` are messages about repositories that can't be
    read. ``pulls_from`` are the places from which podman would pull; ``no_pull`` says why it can't.
    ``is_too_short``: the name lacks its registry, and registries.conf doesn't tell which one.
    ``stores`` are the other additional stores that podman uses. ``refusal`` is the rule of podman's
    policy against the image on offer.
    """

    asked: str
    store: str
    names: tuple[str, ...]
    configured: Configured
    stored: StoredImage | None = None
    found_as: str = ""
    retired: bool = False
    platform: Platform = UNKNOWN
    published_for: Platform | None = None
    host: Platform = UNKNOWN
    other_platforms: tuple[Platform, ...] = ()
    missing: tuple[str, ...] = ()
    is_closed: bool = False
    hidden: tuple[str, ...] = ()
    has_left: bool = False
    own: OwnCopy | None = None
    offer: Offer | None = None
    wished: bool = True
    refusal: str = ""
    other_tags: tuple[str, ...] = ()
    down: tuple[str, ...] = ()
    pulls_from: tuple[str, ...] = ()
    is_too_short: bool = False
    no_pull: str = ""
    stores: tuple[str, ...] = ()


def gather(text: str, settings: Settings, configured: Configured | None = None) -> Evidence:
    """Look for the image ``text`` in store, repositories and podman's configuration, or in the one
    that ``configured`` describes.

    Raises InputError for a malformed name or broken settings, StoreError for a broken store.
    """
    content = content_of(settings)
    names: tuple[ImageName, ...] = ()
    found_as = ""
    stored = by_id(content, text)
    if stored is not None:
        found_as = stored.image_id
    else:
        names = meanings(text)
        found = by_name(content, names)
        if found is not None:
            found_as, stored = str(found[0]), found[1]
    keys = [str(name) for name in names]
    selection = selection_of(settings)
    offers = offers_of(settings, content, selection)
    on_offer = offered(offers)
    offer = _offer(content, on_offer, stored, found_as, keys, selection)
    # Further meanings of a short name count only until something is found.
    before_ours = keys[: keys.index(found_as) + 1] if found_as in keys else keys
    if configured is None:
        configured = configured_store(settings.store)
    pulls_from, no_pull = _pulls(text, names)
    own = own_copy(own_places(configured), before_ours, stored, content)
    if own is None and (stored is None or not configured.used):
        own = own_copy(configured.after, keys, stored, content)
    shown = () if stored is None else _shown(settings.store, content, stored)
    pause = pause_root()
    return Evidence(
        asked=text,
        store=settings.store,
        names=tuple(keys),
        configured=configured,
        stored=stored,
        found_as=found_as,
        retired=stored is not None and not stored.published,
        platform=UNKNOWN if stored is None else config_of(settings.store, stored).platform,
        published_for=offer.image.platform
        if stored is not None and offer and offer.image.image_id.hex in stored.all_sources
        else None,
        host=settings.platform,
        other_platforms=_other_platforms(settings, offers, offer, names) if stored is None else (),
        is_closed=stored is not None and bool(strangers_among([stored.repository])),
        # With a dead server each look takes seconds.
        missing=tuple(itertools.islice((p for p in shown if not can_be_read(p)), 1)),
        hidden=tuple(path for path in shown if is_hidden(path, pause)),
        has_left=stored is not None
        and offers.is_listed(stored.repository)
        and any(map(is_missing, shown)),
        own=own,
        stores=(*configured.before, *configured.after),
        offer=offer,
        wished=offer is None or selection.selects(offer.image.name),
        refusal="" if offer is None else selection.refusal(offer.image.name),
        other_tags=_other_tags(names, on_offer) if stored is None and offer is None else (),
        down=tuple(f"{printable(root)}: {error.message}" for root, error in offers.down.items()),
        pulls_from=pulls_from,
        no_pull=no_pull,
        is_too_short=no_pull == _NO_SEARCH,
    )


def _offer(
    content: StoreContent,
    on_offer: Mapping[str, Offer],
    stored: StoredImage | None,
    found_as: str,
    keys: Sequence[str],
    selection: Selection,
) -> Offer | None:
    """The repositories' images with the name that counts. If the user gave an ID or digest, this is
    the same image under any name. Of a short name's meanings, the first one that podman's policy
    accepts counts."""
    if stored is None:
        found = [on_offer[key] for key in keys if key in on_offer]
        accepted = (each for each in found if not selection.refusal(each.image.name))
        return next(accepted, found[0] if found else None)
    if found_as in content.names:
        return on_offer.get(found_as)
    for name in names_of(content, stored):
        offer = on_offer.get(name)
        if offer is not None and offer.image.image_id.hex in stored.all_sources:
            return offer
    return None


def _other_platforms(
    settings: Settings, offers: Offers, offer: Offer | None, names: Sequence[ImageName]
) -> tuple[Platform, ...]:
    """The platforms for which repositories have the image, if they lack it for the wanted one; as
    far as that is known."""
    if offer is not None:
        known = known_platform(settings, offer)
        return () if known is None or settings.platform.runs(known) else (known,)
    canonical = {name.canonical for name in names}
    found = [each.platforms for each in offers.others if each.name.canonical in canonical]
    return found[0] if found else ()


def _shown(store: str, content: StoreContent, image: StoredImage) -> tuple[str, ...]:
    """Places outside the store with files of ``image``."""
    paths = [
        place.path
        for layer in chain_of(content, image.top_layer)
        for place in places_of(store, layer)
        if not place.in_store
    ]
    return tuple(dict.fromkeys(paths))


def _other_tags(names: Sequence[ImageName], on_offer: Mapping[str, Offer]) -> tuple[str, ...]:
    """The offered names that differ from one of ``names`` in the tag alone."""
    places = tuple(f"{name.registry}/{name.repository}" for name in names)
    return tuple(
        sorted(
            key
            for key in on_offer
            if any(key.startswith((f"{each}:", f"{each}@")) for each in places)
        )
    )


def _pulls(text: str, names: Sequence[ImageName]) -> tuple[tuple[str, ...], str]:
    """Where podman would pull ``names`` from, and why it can't, "" if it can."""
    if not names:
        return (), "an ID can't be pulled"
    conf = load_registries_conf()
    if is_short(text) and not conf.search_registries:
        short = text.partition("@")[0].partition(":")[0]
        if short not in conf.aliases:
            return (), _NO_SEARCH
    found: dict[str, None] = {}
    refusal = ""
    try:
        # podman can check signatures itself.
        policy = read_signature_policy(ignore_signatures=True)
    except InputError as err:
        return (), err.message
    for name in names:
        if name.registry == "localhost":
            continue
        rule = "" if policy is None else policy.refusal(name)
        if rule:
            refusal = refusal or rule
            continue
        try:
            found.update((str(each.name), None) for each in conf.endpoints(name))
        except RegistryError as err:
            refusal = refusal or err.message
    return tuple(found), "" if found else refusal or "it has no registry"
