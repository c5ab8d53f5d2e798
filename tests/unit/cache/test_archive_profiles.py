# SPDX-License-Identifier: Apache-2.0
"""Start-up profiles go with the cache from host to host."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from podman_cvmfs.cache.archive import export_cache, import_cache
from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.errors import InputError
from podman_cvmfs.oci.documents import Digest
from tests.support.caches import END, exported, files, filled, shipped

IMAGE = Digest("b" * 64)


def test_round_trip(tmp_path: Path) -> None:
    cache = filled(tmp_path / "a")
    cache.keep_profile(IMAGE, b"a profile")
    output = io.BytesIO()
    assert export_cache(cache, output).profiles == 1
    done = import_cache(BlobCache(str(tmp_path / "b")), io.BytesIO(output.getvalue()), "x")
    assert done.profiles == 1
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_what_was_recorded_here_stays(tmp_path: Path) -> None:
    cache, other = filled(tmp_path / "a"), BlobCache(str(tmp_path / "b"))
    cache.keep_profile(IMAGE, b"theirs")
    other.keep_profile(IMAGE, b"ours")
    import_cache(other, io.BytesIO(exported(cache)), "x")
    assert other.profile(IMAGE, 100) == b"ours"


@pytest.mark.parametrize("data", [b"", b"no digest\nprofile", b"sha256:\xff\nprofile"])
def test_a_wrong_profile_changes_nothing(tmp_path: Path, data: bytes) -> None:
    archive = shipped(data, kind="profiles") + shipped(b"blob") + END
    with pytest.raises(InputError, match="a profile in it is wrong"):
        import_cache(BlobCache(str(tmp_path / "b")), io.BytesIO(archive), "x")
    assert not (tmp_path / "b").exists()
