# SPDX-License-Identifier: Apache-2.0
"""Which files of an image to read early: its profile's, or guessed ones."""

from __future__ import annotations

from dataclasses import dataclass

from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.profiles.find import find_profile
from podman_cvmfs.profiles.profile import Use
from podman_cvmfs.profiles.shown import ShownImage, shown_image
from podman_cvmfs.store.records import StoreContent, StoredImage


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
    return Chosen(shown, (), "a guess")
