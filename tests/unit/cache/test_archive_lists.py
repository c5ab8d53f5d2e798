# SPDX-License-Identifier: Apache-2.0
"""File lists and tar-splits in the archive of the cache."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from podman_cvmfs.cache.archive import export_cache, import_cache
from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.errors import InputError
from podman_cvmfs.lists.kept import KeptLists, Source
from podman_cvmfs.oci.documents import Digest
from tests.support import nasty_layers
from tests.support.unpacked_layer import listed

_LAYER = Digest.of(b"layer")


def _filled(directory: Path) -> bytes:
    """The archive of a cache with a list and a tar-split."""
    kept = KeptLists(str(directory), 1 << 30)
    entries, split = listed(nasty_layers.blob("hard-links"))
    kept.keep("/r", _LAYER, entries, Source.REGISTRY)
    kept.keep_tar_split(_LAYER, split)
    cache = BlobCache(str(directory))
    cache.put(b"{}")
    output = io.BytesIO()
    assert export_cache(cache, output).lists == 3
    return output.getvalue()


def test_lists_are_carried(tmp_path: Path) -> None:
    archive = _filled(tmp_path / "one")
    other = BlobCache(str(tmp_path / "other"))
    for _ in range(2):
        done = import_cache(other, io.BytesIO(archive), "the archive")
        assert (done.blobs, done.lists) == (1, 3)
    kept = KeptLists(other.directory, 1 << 30)
    entries, split = listed(nasty_layers.blob("hard-links"))
    note = kept.note("/elsewhere", _LAYER)
    assert note is not None and note[0] is Source.REGISTRY
    assert [*kept.entries(note[1])] == entries and kept.tar_split(_LAYER) == split
    again = io.BytesIO()
    export_cache(other, again)
    assert again.getvalue() == archive


def test_what_is_there_stays_and_a_broken_archive_changes_nothing(tmp_path: Path) -> None:
    archive = _filled(tmp_path / "one")
    other = tmp_path / "other"
    changed = archive.replace(b"tar-splits/", b"tar-splitz/")
    for broken in (archive[:-1024] + b"x" * 1024, changed):
        with pytest.raises(InputError, match="the archive"):
            import_cache(BlobCache(str(other)), io.BytesIO(broken), "the archive")
        assert not [name for _, _, names in os.walk(other) for name in names]
    place = other / f"tar-splits/{_LAYER.hex[:2]}/{_LAYER.hex}"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"own")
    import_cache(BlobCache(str(other)), io.BytesIO(archive), "the archive")
    assert place.read_bytes() == b"own"
