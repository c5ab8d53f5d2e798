# SPDX-License-Identifier: Apache-2.0
"""The cache as a file: what goes out comes in, and nothing else does."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from podman_cvmfs.cache import archive as cache_archive
from podman_cvmfs.cache.archive import Shipped, export_cache, import_cache
from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.errors import InputError, StoreError
from podman_cvmfs.oci.documents import Digest
from tests.support.caches import BLOBS, END, exported, files, filled, name_of, shipped


def test_round_trip(tmp_path: Path) -> None:
    archive = exported(filled(tmp_path / "a"))
    done = import_cache(BlobCache(str(tmp_path / "b")), io.BytesIO(archive), "x")
    assert done == Shipped(len(BLOBS), sum(map(len, BLOBS)), len(BLOBS))
    assert files(tmp_path / "a") == files(tmp_path / "b")
    again = import_cache(BlobCache(str(tmp_path / "b")), io.BytesIO(archive), "x")
    assert again.new == 0


def test_equal_caches_give_equal_bytes(tmp_path: Path) -> None:
    one, other = filled(tmp_path / "a"), filled(tmp_path / "b", reversed(BLOBS))
    for path in (tmp_path / "b").rglob("*"):
        os.utime(path, (5, 5))
    assert exported(one) == exported(other)


def test_any_tar_can_read_it(tmp_path: Path) -> None:
    archive = tmp_path / "x.tar"
    archive.write_bytes(exported(filled(tmp_path / "a")))
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-xf", archive, "-C", tmp_path / "out"], check=True)
    assert files(tmp_path / "out") == files(tmp_path / "a")
    with tarfile.open(archive) as tar:
        for each in tar:
            assert (each.uid, each.gid, each.mtime, each.mode) == (0, 0, 0, 0o644)
        assert tar.getnames() == sorted(tar.getnames())
    # What hostile archives are made of is what an export writes.
    assert exported(filled(tmp_path / "one", [b"one"])) == shipped(b"one") + END


def test_only_sound_blobs_are_exported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = filled(tmp_path / "a", [b"good", b"bad"])
    (tmp_path / "a" / name_of(b"bad")).write_bytes(b"changed")
    (tmp_path / "a/sha256/.new-123").mkdir()
    (tmp_path / "a" / os.path.dirname(name_of(b"good")) / "note").write_text("x")
    (tmp_path / "a/markers/00").mkdir(parents=True)
    (tmp_path / "a/markers/00" / ("0" * 64)).write_text("{}")
    output = io.BytesIO()
    assert export_cache(cache, output) == Shipped(1, 4, broken=1)
    with tarfile.open(fileobj=io.BytesIO(output.getvalue())) as tar:
        assert tar.getnames() == [name_of(b"good")]
    assert str(Digest.of(b"bad")) in caplog.text


def test_no_cache_is_an_empty_one(tmp_path: Path) -> None:
    archive = exported(BlobCache(str(tmp_path / "none")))
    assert archive == bytes(1024)
    assert import_cache(BlobCache(str(tmp_path / "b")), io.BytesIO(archive), "x") == Shipped()
    assert not (tmp_path / "b").exists() and not (tmp_path / "none").exists()


def test_a_pipe_can_be_imported(tmp_path: Path) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    archive = exported(filled(tmp_path / "a"))
    import_cache(BlobCache(str(tmp_path / "b")), Pipe(archive), "x")
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_blobs_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = exported(filled(tmp_path / "a"))
    monkeypatch.setattr(cache_archive, "_MAX_BLOBS", len(BLOBS) - 1)
    with pytest.raises(InputError, match="more than 4 blobs"):
        import_cache(BlobCache(str(tmp_path / "b")), io.BytesIO(archive), "x")
    assert not (tmp_path / "b").exists()


def test_a_full_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = exported(filled(tmp_path / "a"))
    cache = filled(tmp_path / "b", [b"mine", BLOBS[2]])
    before = files(tmp_path / "b")
    put, left = cache.put, [2]

    def failing(data: bytes) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise StoreError("can't write to the cache: No space left on device")
        put(data)

    monkeypatch.setattr(cache, "put", failing)
    with pytest.raises(StoreError):
        import_cache(cache, io.BytesIO(archive), "x")
    assert files(tmp_path / "b") == before


def test_a_broken_blob_is_mended(tmp_path: Path) -> None:
    archive = exported(filled(tmp_path / "a"))
    cache = filled(tmp_path / "b")
    (tmp_path / "b" / name_of(b"one")).write_bytes(b"0ne")
    assert import_cache(cache, io.BytesIO(archive), "x").new == 1
    assert cache.get(Digest.of(b"one")) == b"one"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=1500), max_size=6))
def test_every_cache_round_trips(
    tmp_path_factory: pytest.TempPathFactory, blobs: list[bytes]
) -> None:
    top = tmp_path_factory.mktemp("c")
    archive = exported(filled(top / "a", blobs))
    done = import_cache(BlobCache(str(top / "b")), io.BytesIO(archive), "x")
    assert done.new == len(set(blobs))
    assert exported(BlobCache(str(top / "b"))) == archive
