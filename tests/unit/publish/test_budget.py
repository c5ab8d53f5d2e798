# SPDX-License-Identifier: Apache-2.0
"""Small images that would cost publish hours, or the whole disk."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from podman_cvmfs.errors import InputError, RepositoryError
from podman_cvmfs.names.reference import parse_name
from podman_cvmfs.oci.platform import Platform
from podman_cvmfs.publish.publisher import publish
from podman_cvmfs.publish.source.budget import Budget, parse_size, shown_size
from podman_cvmfs.publish.source.open import open_source
from podman_cvmfs.registry.client import RegistryClient
from tests.support.layers import (
    Blob,
    Entry,
    directory,
    file,
    hardlink,
    pack,
    sha256,
    symlink,
    tar,
    whiteout,
)
from tests.support.memory_images import Images, put

NAME = "example.org/a:1"
DEPTH = 1500


@pytest.fixture
def images() -> Images:
    return Images()


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "repository"
    # pytest can't remove trees as deep as these.
    subprocess.run(["rm", "-rf", tmp_path / "repository"], check=True)


def _stated(depth: int) -> list[Entry]:
    return [directory("/".join(["d"] * number)) for number in range(1, depth + 1)]


_DEEP = {
    "implied": [file("d/" * DEPTH + "x")],
    "stated": _stated(DEPTH),
    "whiteout": [file("d/" * DEPTH + ".wh.x")],
    "opaque": [file("d/" * DEPTH + ".wh..wh..opq")],
}


@pytest.mark.parametrize("kind", _DEEP)
def test_a_deep_tree_takes_no_longer_than_a_wide_one(
    repository: Path, images: Images, kind: str
) -> None:
    """Its cost once grew with the third power of the depth: 800 levels took hours."""
    image = images.image(NAME, _DEEP[kind])
    assert sum(map(len, images.blobs.values())) < 25_000
    wide = images.image(
        "example.org/wide:1", [directory(f"{number:04}") for number in range(DEPTH)]
    )
    took = []
    for each in (wide, image):
        begun = time.process_time()
        put(repository, images, each)
        took.append(time.process_time() - begun)
    # Processor time: other tests may keep the disk busy.
    assert took[1] < 2 and took[1] < 20 * took[0] + 0.5


def _back_and_forth() -> list[Entry]:
    """Each entry leads through a thousand directories that the one before it didn't."""
    ways = ["a/" * 1000, "b/" * 1000]
    return [file(f"{ways[number % 2]}{number}") for number in range(1200)]


def _through_links() -> list[Entry]:
    way, back = "d/" * 500, "../" * 500
    links = [symlink(f"l{number}", f"{way}{back}l{number - 1}") for number in range(1, 30)]
    files = [file(f"{('l29', 'e')[number % 2]}/{number}") for number in range(200)]
    return [file(f"{way}x"), directory("e"), symlink("l0", "e"), *links, *files]


def _links_to_links() -> list[Entry]:
    ways = ["a/" * 1000, "b/" * 1000]
    first = [file(f"{ways[0]}x"), file(f"{ways[1]}x")]
    return [*first, *(hardlink(f"{ways[n % 2]}{n}", f"{ways[1 - n % 2]}x") for n in range(1200))]


@pytest.mark.parametrize(
    "entries", [_back_and_forth, _through_links, _links_to_links], ids=lambda each: each.__name__
)
def test_long_ways_are_refused(repository: Path, images: Images, entries: object) -> None:
    assert callable(entries)
    image = images.image(NAME, entries())
    assert sum(map(len, images.blobs.values())) < 150_000
    begun = time.process_time()
    with pytest.raises(InputError, match="takes more than"):
        put(repository, images, image)
    assert time.process_time() - begun < 10
    assert os.listdir(repository) == [".podman-cvmfs-lock"]


def _zeros(size: int, name: str) -> Blob:
    plain = tar([file(name, bytes(size))])
    return Blob(zstandard.ZstdCompressor().compress(plain), sha256(plain), "zstd")


def test_two_layers_of_zeros(repository: Path, images: Images) -> None:
    """30 KB that were 1.6 GB on the disk."""
    bombs = [_zeros(400_000_000, "a"), _zeros(400_000_000, "b")]
    assert sum(len(bomb.data) for bomb in bombs) < 80_000
    image = images.of_blobs(NAME, bombs)
    with pytest.raises(InputError) as caught:
        put(repository, images, image)
    assert "more than 51" in caught.value.message and "KiB that were read" in caught.value.message
    assert "--max-size 1G" in str(caught.value.hint)
    assert os.listdir(repository) == [".podman-cvmfs-lock"]


def test_it_can_be_asked_for(repository: Path, images: Images) -> None:
    image = images.of_blobs(NAME, [_zeros(4 << 20, "a"), _zeros(4 << 20, "b")])
    with pytest.raises(InputError, match="the --max-size given"):
        publish(str(repository), image, images.layer, max_size=6 << 20)
    publish(str(repository), image, images.layer, max_size=9 << 20)
    assert (repository / NAME / "b").stat().st_size == 4 << 20


def test_one_layer_as_often_as_the_manifest_likes(repository: Path, images: Images) -> None:
    blob = pack([file("big", os.urandom(2 << 20)), *(file(f"f{n}") for n in range(100))])
    begun = time.process_time()
    with pytest.raises(InputError, match="takes more than"):
        publish(
            str(repository),
            images.of_blobs(NAME, [blob] * 400),
            images.layer,
            max_size=20 << 20,
        )
    assert time.process_time() - begun < 10
    with pytest.raises(InputError, match="501 layers; podman takes at most 500"):
        images.of_blobs(NAME, [blob] * 501)
    put(repository, images, images.of_blobs(NAME, [blob, pack([whiteout("big")]), blob]))
    assert (repository / NAME / "big").exists()


def test_a_compressed_archive(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.tar.zst"
    bomb.write_bytes(zstandard.ZstdCompressor().compress(bytes(600 << 20)))
    with RegistryClient() as client, pytest.raises(InputError, match="takes more than 51"):
        open_source(str(bomb), parse_name(NAME), client, Platform.of_host())


def test_no_more_than_there_is_room_for(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    status = os.fstatvfs(fd)
    free = status.f_bavail * status.f_frsize
    budget = Budget(1 << 62, fd)
    os.close(fd)
    budget.spend(free // 2)
    with pytest.raises(RepositoryError, match="has free"):
        budget.spend(free)


def test_what_is_read_counts() -> None:
    budget = Budget()
    budget.spend(512 << 20)
    with pytest.raises(InputError, match=r"more than 512 MiB.*0 bytes that were read"):
        budget.spend(1)
    budget.earn(1 << 20)
    budget.spend(100 << 20 >> 1)
    with pytest.raises(InputError, match=r"more than 612 MiB.*1024 KiB that were read"):
        budget.spend((50 << 20) + 1)


@pytest.mark.parametrize(
    ("text", "size"),
    [("5", 5), ("20G", 20 << 30), ("20g", 20 << 30), ("1MB", 1 << 20), ("2TiB", 2 << 40)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1", "1.5G", "1X", "1e9", "9" * 30, "1G\n1"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(InputError, match="not a size"):
        parse_size(text)


def test_sizes_in_messages() -> None:
    shown = [shown_size(each) for each in (0, 10_000, 30_720, 512 << 20, 11 << 40)]
    assert shown == ["0 bytes", "10000 bytes", "30 KiB", "512 MiB", "11 TiB"]
