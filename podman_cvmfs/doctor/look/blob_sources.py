# SPDX-License-Identifier: Apache-2.0
"""Look at the site's blob sources: whether they answer, and have what their names say."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from itertools import islice

from podman_cvmfs.cache.sources import BLOBS, path_in_tree
from podman_cvmfs.doctor.facts import BlobSource
from podman_cvmfs.errors import NotInRegistry, RegistryError, StoreError, printable
from podman_cvmfs.oci.documents import MAX_DOCUMENT, Digest
from podman_cvmfs.resolve.config import SYNTHESISED
from podman_cvmfs.settings.files import Settings
from podman_cvmfs.store.reader import read_store
from podman_cvmfs.store.records import StoreContent
from podman_cvmfs.util.foreign_file import read_bounded
from podman_cvmfs.util.probe import HangingError, bounded
from podman_cvmfs.util.web_address import is_web_address

#: So many blobs are asked for. A source that has been spoilt is seldom right in one place.
_ASKED = 4


def look_at_blob_sources(settings: Settings, seconds: float) -> tuple[BlobSource, ...]:
    """The sources of the settings. Each is asked for the configs of a few images of the store."""
    if not settings.blob_sources:
        return ()
    try:
        digests = bounded(lambda: _digests(settings.store), seconds)
    except (HangingError, OSError, StoreError):
        digests = ()
    return tuple(_source(place, digests, seconds) for place in settings.blob_sources)


def _digests(store: str) -> tuple[Digest, ...]:
    """The digests of some genuine configs. Raises StoreError."""
    content = read_store(store) or StoreContent()
    genuine = (
        Digest(image.image_id)
        for _, image in sorted(content.images.items())
        if image.config_origin != SYNTHESISED
    )
    return tuple(islice(genuine, _ASKED))


def _source(place: str, digests: Sequence[Digest], seconds: float) -> BlobSource:
    try:
        return bounded(lambda: _ask(place, digests, seconds), seconds)
    except HangingError:
        return BlobSource(place, f"no answer within {seconds:g} seconds")
    except OSError as err:
        return BlobSource(place, printable(err.strerror or str(err)))


def _ask(place: str, digests: Sequence[Digest], seconds: float) -> BlobSource:
    """Raises OSError."""
    wrong = []
    # Without any image in the store: does it answer at all?
    for digest in digests or [Digest.of(b"")]:
        path = f"{place.rstrip('/')}/{path_in_tree(BLOBS, digest)}"
        try:
            data = _fetched(path, place, seconds) if is_web_address(place) else _read(path, place)
        except RegistryError as err:
            return BlobSource(place, err.message)
        if data is not None and Digest.of(data) != digest:
            wrong.append(str(digest))
    return BlobSource(place, wrong=tuple(wrong))


def _fetched(address: str, place: str, seconds: float) -> bytes | None:
    from podman_cvmfs.registry.web import WebClient

    client = WebClient(timeout=seconds, retries=0, max_pause=0)
    try:
        found = client.get(address, f"the blob source {place}", MAX_DOCUMENT)
    except NotInRegistry:
        return None
    finally:
        client.close()
    return None if found is None else found.data


def _read(path: str, place: str) -> bytes | None:
    try:
        return read_bounded(path, MAX_DOCUMENT)
    except FileNotFoundError:
        if not os.path.isdir(place):
            raise OSError(errno.ENOENT, "no such directory", place) from None
        return None
