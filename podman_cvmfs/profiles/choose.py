# SPDX-License-Identifier: Apache-2.0
"""Which files of an image to read early: its profile's, or guessed ones."""

from __future__ import annotations

from dataclasses import dataclass

from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.errors import StoreError, printable
from podman_cvmfs.oci.big_data import big_data_file
from podman_cvmfs.oci.documents import MAX_DOCUMENT
from podman_cvmfs.profiles.find import find_profile
from podman_cvmfs.profiles.guess import guess
from podman_cvmfs.profiles.profile import Use
from podman_cvmfs.profiles.shown import ShownImage, shown_image
from podman_cvmfs.store.layout import POOL_IMAGES
from podman_cvmfs.store.records import StoreContent, StoredImage
from podman_cvmfs.util.foreign_file import read_bounded


@dataclass(frozen=True)
class Chosen:
    """An image's files, what to read of them, and in words who says so."""

    shown: ShownImage
    uses: tuple[Use, ...]
    origin: str


def choose(store: str, content: StoreContent, image: StoredImage, site: str, cache: str) -> Chosen:
    """What to read of ``image``: by its profile, or by a guess if there is no profile.

    Raises InputError if the image has no files to read, StoreError if the store is damaged.
    """
    shown = shown_image(store, content, image)
    found = find_profile(image, site, BlobCache(cache))
    if found is not None:
        return Chosen(shown, found.profile.files, f"the profile in {found.origin}")
    return Chosen(shown, guess(shown, config_of(store, image)), "a guess")


def config_of(store: str, image: StoredImage) -> bytes:
    """The config of ``image`` as the store has it. Raises StoreError."""
    place = f"{store}/{POOL_IMAGES}/{image.entry}"
    path = f"{place}/{big_data_file(f'sha256:{image.image_id}')}"
    try:
        return read_bounded(path, MAX_DOCUMENT)
    except OSError as err:
        raise StoreError(f"can't read {printable(path)}: {err.strerror}") from err
