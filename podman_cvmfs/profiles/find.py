# SPDX-License-Identifier: Apache-2.0
"""Finds the profile of an image: in its repository, in the site's directory, in the cache."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass

from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.profiles.profile import MAX_PROFILE, Profile, merge, parse_profile
from podman_cvmfs.repository.layout import profile_file
from podman_cvmfs.store.records import StoredImage
from podman_cvmfs.util.foreign_file import read_bounded

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FoundProfile:
    """A profile, and in words where it is from."""

    profile: Profile
    origin: str


def find_profile(image: StoredImage, site: str, cache: BlobCache) -> FoundProfile | None:
    """The first profile of ``image`` that is fit for use; None if there is none.

    ``site`` is the site's directory: the profile's name in it is the image's source ID. The log
    tells of profiles that are broken, or can't be read.
    """
    source = image.source_id
    for path in (f"{image.repository}/{profile_file(source)}", f"{site}/{source}"):
        try:
            data = read_bounded(path, MAX_PROFILE)
        except FileNotFoundError:
            continue
        except OSError as err:
            log.warning("can't read the profile %s: %s", printable(path), err.strerror)
            continue
        found = _fit(data, source, printable(path))
        if found is not None:
            return FoundProfile(found, printable(path))
    kept = cached_profile(source, cache)
    return None if kept is None else FoundProfile(kept, f"the cache {printable(cache.directory)}")


def cached_profile(source: str, cache: BlobCache) -> Profile | None:
    """The cache's profile of the image with this source ID, if it has one that is fit for use."""
    data = cache.profile(Digest(source), MAX_PROFILE)
    where = printable(os.path.join(cache.directory, "profiles"))
    return None if data is None else _fit(data, source, f"the profile of {source[:12]} in {where}")


def with_cached(profile: Profile, cache: BlobCache) -> Profile:
    """``profile``, merged with the cache's of the same image."""
    kept = cached_profile(profile.image, cache)
    return profile if kept is None else merge([kept, profile])


def _fit(data: bytes, source: str, what: str) -> Profile | None:
    try:
        return parse_profile(data, source, what)
    except InputError as err:
        log.warning("a profile is ignored: %s", err.message)
        return None
