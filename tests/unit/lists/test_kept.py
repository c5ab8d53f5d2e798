# SPDX-License-Identifier: Apache-2.0
"""The file lists in the cache."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import zstandard

from podman_cvmfs.errors import InputError, StoreError
from podman_cvmfs.lists.dump import write
from podman_cvmfs.lists.entry import Entry
from podman_cvmfs.lists.kept import KeptLists, Source, read_compressed
from podman_cvmfs.lists.layer_stream import WrongBlobError
from podman_cvmfs.lists.source import from_registry
from podman_cvmfs.oci.documents import Descriptor, Digest
from tests.support import nasty_layers
from tests.support.unpacked_layer import listed

_LAYER = Digest.of(b"layer")
_ENTRIES = [
    Entry("", stat.S_IFDIR | 0o755),
    Entry("file", stat.S_IFREG | 0o644, size=1, backing="file"),
]


@pytest.fixture
def kept(tmp_path: Path) -> KeptLists:
    return KeptLists(str(tmp_path), 1 << 20)


def test_a_list_comes_back(kept: KeptLists) -> None:
    assert kept.find("/r", _LAYER) is None
    digest = kept.keep("/r", _LAYER, _ENTRIES, Source.CATALOGUE)
    assert kept.note("/r", _LAYER) == (Source.CATALOGUE, digest)
    assert kept.find("/other", _LAYER) is None and kept.find("/r", Digest.of(b"x")) is None
    assert [*kept.entries(digest)] == _ENTRIES
    assert kept.keep("/other", _LAYER, _ENTRIES, Source.WALK) == digest


def test_what_a_registry_says_holds_for_every_repository(kept: KeptLists) -> None:
    kept.keep("/r", _LAYER, _ENTRIES[:1], Source.CATALOGUE)
    digest = kept.keep("/r", _LAYER, _ENTRIES, Source.REGISTRY)
    assert kept.note("/r", _LAYER) == kept.note("/other", _LAYER) == (Source.REGISTRY, digest)


def test_a_damaged_list_is_not_believed(kept: KeptLists, tmp_path: Path) -> None:
    digest = kept.keep("/r", _LAYER, _ENTRIES, Source.CATALOGUE)
    other = kept.keep("/r", Digest.of(b"x"), _ENTRIES[:1], Source.CATALOGUE)
    path = tmp_path / f"lists/{digest[:2]}/{digest}"
    swapped = (tmp_path / f"lists/{other[:2]}/{other}").read_bytes()
    for data in (b"", b"nothing", path.read_bytes()[:-3], swapped):
        path.write_bytes(data)
        with pytest.raises(StoreError, match="is damaged"):
            list(kept.entries(digest))
    path.unlink()
    with pytest.raises(StoreError, match="is gone"):
        list(kept.entries(digest))
    assert kept.find("/r", _LAYER) is None


def test_what_was_used_least_lately_goes(tmp_path: Path) -> None:
    kept = KeptLists(str(tmp_path), 100_000)
    digests = []
    for number in range(30):
        diff_id = Digest.of(b"%d" % number)
        kept.keep_tar_split(diff_id, os.urandom(5000))
        digests.append(diff_id)
        for used in digests[:1]:
            assert kept.tar_split(used) is not None
    assert kept.size() <= 100_000
    there = [number for number, each in enumerate(digests) if kept.has_tar_split(each)]
    assert there[0] == 0 and there[-1] == 29 and len(there) < 25


def test_lists_of_registries_come_with_tar_splits(kept: KeptLists) -> None:
    blob = nasty_layers.blob("hard-links")
    asked = []
    layer = Descriptor("", Digest.parse(blob.digest), len(blob.data))
    diff_id = Digest.parse(blob.diff_id)

    def stream(digest: Digest) -> list[bytes]:
        asked.append(digest)
        return [blob.data]

    entries, split = listed(blob)
    for _ in range(2):
        digest = from_registry(kept, layer, diff_id, lambda each: iter(stream(each)))
        assert [*kept.entries(digest)] == entries
        assert kept.tar_split(diff_id) == split
    assert asked == [layer.digest]
    with pytest.raises(InputError, match="configuration says"):
        from_registry(kept, layer, Digest.of(b"other"), lambda each: iter(stream(each)))
    wrong = Descriptor("", Digest.of(b"other"), len(blob.data))
    with pytest.raises(WrongBlobError):
        from_registry(kept, wrong, diff_id, lambda each: iter(stream(each)))


def test_a_cache_that_can_t_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="can't write to the cache"):
        KeptLists(str(tmp_path / "file"), 1).keep("/r", _LAYER, _ENTRIES, Source.WALK)


def test_a_published_list_takes_no_more_memory_than_a_layer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A line of a megabyte may hold hundreds of thousands of attributes."""
    monkeypatch.setattr("podman_cvmfs.lists.kept.MOST", 10 << 20)
    xattrs = tuple(sorted((f"user.{number}", b"") for number in range(10_000)))
    entries = [Entry("", stat.S_IFDIR | 0o755)]
    entries += [Entry(f"{number}", stat.S_IFREG | 0o644, xattrs=xattrs) for number in range(10, 20)]
    stored = zstandard.compress(b"".join(write(entries)))
    assert len(stored) < 100_000
    with pytest.raises(InputError, match="more files than"):
        list(read_compressed(stored, "the list"))
    assert list(read_compressed(zstandard.compress(b"".join(write(entries[:3]))), "it"))
