# SPDX-License-Identifier: Apache-2.0
"""Reads the sources of the answers: the store, the repositories, the wishes."""

from __future__ import annotations

import contextlib
import logging
import os
from dataclasses import replace

from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.errors import InputError, RepositoryError, printable
from podman_cvmfs.names.spec import ImageSpec
from podman_cvmfs.oci.documents import Digest, parse_config, parse_manifest
from podman_cvmfs.oci.platform import Platform
from podman_cvmfs.registry.signature_policy import read_signature_policy
from podman_cvmfs.repository.collect import collect
from podman_cvmfs.repository.offers import Offer, Offers
from podman_cvmfs.settings import paths
from podman_cvmfs.settings.files import DEFAULT, Settings, Signatures
from podman_cvmfs.store.reader import read_store
from podman_cvmfs.store.records import StoreContent
from podman_cvmfs.sync.held import held_by, repositories_of
from podman_cvmfs.sync.selection import Selection

log = logging.getLogger(__name__)


def target_of(settings: Settings, for_user: bool | None = None) -> Settings:
    """The settings with the store to look at. It is the store named there. For an ordinary user who
    names no store it is their own (``for_user`` true) or the system's (false). With None it is
    their own if there is one, else the system's if they can read it. The system's store comes with
    its cache, unless the settings name another cache."""
    if os.geteuid() == 0:
        return settings
    if settings.source("store") == DEFAULT:
        if for_user is None:
            # Only root may be able to read root's store.
            readable = os.access(paths.SYSTEM_STORE, os.R_OK | os.X_OK)
            for_user = os.path.isdir(settings.store) or not readable
        if not for_user:
            settings = replace(settings, store=paths.SYSTEM_STORE)
    if settings.store == paths.SYSTEM_STORE and settings.source("cache") == DEFAULT:
        settings = replace(settings, cache=paths.SYSTEM_CACHE)
    return settings


def content_of(settings: Settings) -> StoreContent:
    """The content of the store; empty if there is no store yet. Raises StoreError."""
    return read_store(settings.store) or StoreContent()


def offers_of(settings: Settings, content: StoreContent, selection: Selection) -> Offers:
    """The offers of the repositories. The log names repositories that can't be read."""
    holding = repositories_of(held_by(content))
    offers = collect(settings.repositories, holding, settings.platform, selection.specs)
    for root, error in offers.down.items():
        hint = f" ({error.hint})" if error.hint else ""
        log.warning("can't read the images of %s: %s%s", printable(root), error.message, hint)
    return offers


def known_platform(settings: Settings, offer: Offer, cached_only: bool = False) -> Platform | None:
    """The platform of the image on offer; None if it is unknown. Its place in the repository tells
    it, or its config in the cache, or, unless ``cached_only``, its config in the repository. The
    place doesn't tell the operating system. Registries aren't asked."""
    stated = offer.image.platform
    cache = BlobCache(settings.cache)
    digest = offer.image.expected_id
    with contextlib.suppress(InputError, RepositoryError):
        if digest is None:
            manifest, _ = cache.manifests(offer.image.image_id)
            digest = None if manifest is None else parse_manifest(manifest).config.digest
        config = None if digest is None else cache.get(digest)
        if config is None and not cached_only:
            config = _config_in_repository(offer)
        found = None if config is None else parse_config(config).platform
        if stated is None or (found is not None and found.os != stated.os):
            stated = found
    return stated


def _config_in_repository(offer: Offer) -> bytes | None:
    """The genuine config of the image on offer, if its repository has it. Raises
    RepositoryError."""
    data = offer.repository.config_blob(offer.image.image_id)
    return data if data is not None and Digest.of(data) == offer.image.image_id else None


def selection_of(settings: Settings) -> Selection:
    """Which images a sync would put into the store. Raises InputError."""
    specs: list[ImageSpec] | None = None
    if settings.wish_lists:
        from podman_cvmfs.sync.wish_list import read_wish_list

        specs = []
        for place in settings.wish_lists:
            try:
                specs.extend(read_wish_list(place, settings.cache).specs)
            except InputError as err:
                log.warning("%s", err.message)
    refusals = {}
    try:
        policy = read_signature_policy(settings.signatures is Signatures.IGNORED)
        if policy is not None:
            refusals["refusal"] = policy.refusal
    except InputError as err:
        log.warning("%s", err.message)
    return Selection(specs, settings.include, settings.exclude, **refusals)
