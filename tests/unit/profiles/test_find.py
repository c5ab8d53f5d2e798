# SPDX-License-Identifier: Apache-2.0
"""Where an image's profile is looked for, in which order, and what broken ones do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.profiles.find import find_profile, with_cached
from podman_cvmfs.profiles.profile import Profile, Use, render_profile
from podman_cvmfs.repository.layout import profile_file
from tests.support.world import World, app


class Places:
    """An image, and the three places of its profile."""

    def __init__(self, root: Path) -> None:
        self.world = World(root)
        self.world.make("repository", 1)
        self.world.sync()
        self.image = self.world.stored(app(0))
        self.source = self.image.source_id
        self.repository = self.world.repository / profile_file(self.source)
        self.site = root / "site" / self.source
        self.cache = BlobCache(str(root / "cache"))

    def profile(self, *names: str) -> Profile:
        return Profile(self.source, tuple(map(Use, names)))

    def put(self, path: Path, *names: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(render_profile(self.profile(*names)))

    def found(self) -> str | None:
        found = find_profile(self.image, str(self.site.parent), self.cache)
        return None if found is None else found.profile.files[0].path


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path)


def test_the_repository_comes_first_and_the_cache_last(places: Places) -> None:
    assert places.found() is None
    data = render_profile(places.profile("cached"))
    places.cache.keep_profile(Digest(places.source), data)
    assert places.found() == "cached"
    places.put(places.site, "of-the-site")
    assert places.found() == "of-the-site"
    places.put(places.repository, "published")
    assert places.found() == "published"


def test_a_broken_profile_gives_way_to_the_next(
    places: Places, caplog: pytest.LogCaptureFixture
) -> None:
    places.put(places.site, "of-the-site")
    places.put(places.repository, "../../etc/shadow")
    assert places.found() == "of-the-site"
    assert "a profile is ignored" in caplog.text
    places.repository.unlink()
    os.mkfifo(places.repository)
    assert places.found() == "of-the-site"
    assert "can't read the profile" in caplog.text


def test_a_sync_pays_no_attention_to_profiles(places: Places) -> None:
    places.put(places.repository, "published")
    assert places.world.sync().failed == {}
    assert places.world.names == {app(0): places.image.image_id}


def test_recordings_add_up(places: Places) -> None:
    assert with_cached(places.profile("a"), places.cache) == places.profile("a")
    places.cache.keep_profile(Digest(places.source), render_profile(places.profile("a", "b")))
    assert with_cached(places.profile("c", "b"), places.cache) == places.profile("a", "c", "b")
