# SPDX-License-Identifier: Apache-2.0
"""Notes in archives of caches: they tell which manifests an image has."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from podman_cvmfs.cache.archive import import_cache
from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.errors import StoreError
from podman_cvmfs.oci.documents import OCI_CONFIG, OCI_MANIFEST, Digest
from tests.support.caches import (
    BLOBS,
    END,
    GENUINE,
    IMAGE,
    OF_ANOTHER,
    exported,
    files,
    filled,
    manifest_of,
    shipped,
)


def test_manifests_are_known_at_the_other_end(tmp_path: Path) -> None:
    cache, ids = filled(tmp_path / "a"), [Digest(digit * 64) for digit in "123"]
    first, second = (manifest_of(each) for each in ids[:2])
    cache.keep_manifests(ids[0], first, b"index")
    cache.keep_manifests(ids[1], second, None)
    cache.keep_manifest_digests(ids[2], [Digest("4" * 64)])  # its blob is lost
    other = filled(tmp_path / "b", [])
    before = manifest_of(ids[1], known="before")
    other.keep_manifests(ids[1], before, None)
    done = import_cache(other, io.BytesIO(exported(cache)), "x")
    assert done.blobs == done.new == len(BLOBS) + 3
    assert other.manifests(ids[0]) == (first, b"index")
    assert other.manifests(ids[1]) == (before, None)
    assert other.manifest_digests(ids[2]) == ()
    third = BlobCache(str(tmp_path / "c"))
    import_cache(third, io.BytesIO(exported(cache)), "x")
    assert exported(third) == exported(cache)


#: From worthless to certain; an ID of OSG's is no config's.
NOTES: list[tuple[str, bytes | None]] = [
    ("lost", None),
    ("no manifest", b"x"),
    ("an index", b'{"manifests": []}'),
    ("of another config", OF_ANOTHER),
    ("genuine", GENUINE),
]


@pytest.mark.parametrize(("new", "data"), NOTES)
@pytest.mark.parametrize(("old", "known"), NOTES)
def test_a_worthless_note_keeps_no_better_one_away(
    tmp_path: Path, old: str, known: bytes | None, new: str, data: bytes | None
) -> None:
    cache = filled(tmp_path / "cache", [])
    text = f"{IMAGE}\n{Digest.of(data or b'lost')}\n".encode()
    archive = shipped(text, "manifests") + (
        b"" if data is None else exported(filled(tmp_path / "a", [data]))
    )
    if data is None:
        archive += END
    if known is None:
        cache.keep_manifest_digests(IMAGE, [Digest.of(b"unknown")])
    else:
        cache.keep_manifests(IMAGE, known, None)
    before = cache.manifest_digests(IMAGE)
    done = import_cache(cache, io.BytesIO(archive), "x")
    worth = {"of another config": 1, "genuine": 2}
    is_better = worth.get(new, 0) > worth.get(old, 0)
    assert done.new_notes == is_better
    assert cache.manifest_digests(IMAGE) == ((Digest.of(data or b""),) if is_better else before)


def test_a_full_disk_changes_no_notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, ids = filled(tmp_path / "a"), [Digest(digit * 64) for digit in "123"]
    for each in ids:
        source.keep_manifests(each, manifest_of(each), None)
    cache = filled(tmp_path / "b", [])
    cache.keep_manifest_digests(ids[0], [Digest("4" * 64)])
    before, keep, left = files(tmp_path / "b"), cache.keep_manifest_digests, [2]

    def failing(*arguments: Any) -> None:
        left[0] -= 1
        if left[0] == -1:
            raise StoreError("can't write to the cache: No space left on device")
        keep(*arguments)

    monkeypatch.setattr(cache, "keep_manifest_digests", failing)
    with pytest.raises(StoreError):
        import_cache(cache, io.BytesIO(exported(source)), "x")
    assert files(tmp_path / "b") == before


def test_two_notes_of_an_image_are_both_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second is worth more than the first, and for a third the disk is full."""

    def manifest(config: bytes) -> bytes:
        own = {"mediaType": OCI_CONFIG, "digest": str(Digest.of(config)), "size": len(config)}
        return json.dumps(
            {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": own, "layers": []}
        ).encode()

    def notes(number: int) -> list[tuple[bytes, bytes]]:
        image, third = b"image %d" % number, b"third %d" % number
        pairs = [(image, manifest(b"")), (image, manifest(image)), (third, manifest(third))]
        return [
            (f"{Digest.of(config)}\n{Digest.of(document)}\n".encode(), document)
            for config, document in pairs
        ]

    # They come in the order of their digests.
    made = next(
        each
        for each in map(notes, range(1000))
        if each == sorted(each, key=lambda pair: Digest.of(pair[0]).hex)
    )
    archive = b""
    for data, kind in [(note, "manifests") for note, _ in made] + [
        (blob, "sha256") for _, blob in sorted(made, key=lambda pair: Digest.of(pair[1]).hex)
    ]:
        archive += shipped(data, kind)
    cache = filled(tmp_path, [])
    image = Digest.parse(made[0][0].decode().splitlines()[0])
    cache.keep_manifest_digests(image, [Digest.of(b"gone")])
    before = files(tmp_path)
    keep = BlobCache.keep_manifest_digests

    def full(self: BlobCache, image_id: Digest, digests: Any) -> None:
        if image_id != image:
            raise StoreError("full")
        keep(self, image_id, digests)

    monkeypatch.setattr(BlobCache, "keep_manifest_digests", full)
    with pytest.raises(StoreError):
        import_cache(cache, io.BytesIO(archive + bytes(1024)), "x")
    assert files(tmp_path) == before
