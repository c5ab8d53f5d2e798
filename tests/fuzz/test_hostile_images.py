# SPDX-License-Identifier: Apache-2.0
"""A publish of an image, or into a repository, that means harm: it ends soon, with a clear word,
and changes nothing outside the repository."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from tests.support.cli import podman_cvmfs
from tests.support.layers import Blob, Entry, directory, file, hardlink, pack, sha256, tar, whiteout
from tests.support.memory_images import Images, put
from tests.support.trees import snapshot

_NAME = "example.org/a:1"
_SECONDS = 60
_LIMITS = ("prlimit", f"--as={2 << 30}", "--cpu=30")
_A, _B = "a/" * 1000, "b/" * 1000


def _zeros(name: str) -> Blob:
    plain = tar([file(name, bytes(400_000_000))])
    return Blob(zstandard.ZstdCompressor().compress(plain), sha256(plain), "zstd")


#: Layers, and the exit codes that are right.
_IMAGES: dict[str, tuple[Callable[[], list[list[Entry]] | list[Blob]], tuple[int, ...]]] = {
    "deep": (lambda: [[file("d/" * 1500 + "x")]], (0, 3)),
    "deep, each stated": (
        lambda: [[directory("/".join(["d"] * n)) for n in range(1, 1500)]],
        (0, 3),
    ),
    "deep whiteouts": (lambda: [[file("x")], [file("d/" * 1500 + ".wh.x")]] * 3, (0, 3)),
    "back and forth": (lambda: [[file(f"{(_A, _B)[n % 2]}{n}") for n in range(1200)]], (3,)),
    "hard links back and forth": (
        lambda: [
            [
                file(f"{_A}x"),
                file(f"{_B}x"),
                *(hardlink(f"{(_A, _B)[n % 2]}{n}", f"{(_B, _A)[n % 2]}x") for n in range(1200)),
            ]
        ],
        (3,),
    ),
    "zeros": (lambda: [_zeros("a"), _zeros("b")], (3,)),
    "one layer again and again": (lambda: [pack([file("a", bytes(4 << 20))])] * 400, (3,)),
    "whiteouts and files by turns": (
        lambda: [pack([file("a", bytes(4 << 20))]), pack([whiteout("a")])] * 250,
        (3,),
    ),
    "thousands of layers": (lambda: [pack([])] * 5000, (3,)),
    "capability of no form": (
        lambda: [[file("a", xattrs={"security.capability": b"junk"})]],
        (3,),
    ),
}


def _link(path: Path, outside: Path) -> None:
    path.rename(outside / "moved")
    path.symlink_to(outside / "moved")


def _fifo(path: Path, outside: Path) -> None:
    path.rename(outside / "moved")
    os.mkfifo(path)


_PLACES = [
    ".podman-cvmfs-lock",
    ".layers",
    ".flat",
    ".metadata",
    "example.org",
    "podmanStore",
    ".metadata/example.org/a:1/manifest.json",
    ".layers/*/*/.metadata/origin.json",
    "podmanStore/*/*/*",
]
_LAYOUT = ["blobs", "blobs/sha256", "blobs/sha256/*", "index.json"]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_text("untouched")
    yield tmp_path
    # Deeper than pytest can remove.
    subprocess.run(["rm", "-rf", tmp_path / "repository"], check=True)


def _publish(scene: Path) -> tuple[int, str]:
    """Publish the layout; return the exit code and what was said."""
    before = snapshot(scene / "outside")
    begun = time.monotonic()
    source, repository = f"oci:{scene / 'layout'}", scene / "repository"
    done = podman_cvmfs("publish", source, "--repository", repository, prefix=_LIMITS)
    assert time.monotonic() - begun < _SECONDS
    assert "Traceback" not in done.stderr, done.stderr
    assert snapshot(scene / "outside") == before
    assert done.returncode == 0 or "error: " in done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize("kind", _IMAGES)
def test_hostile_image(scene: Path, kind: str) -> None:
    make, codes = _IMAGES[kind]
    images = Images()
    layers = [each if isinstance(each, Blob) else pack(each) for each in make()]
    images.write_layout(scene / "layout", images.unchecked(_NAME, layers))
    code, said = _publish(scene)
    assert code in codes, said
    if code:
        repository = scene / "repository"
        assert not repository.exists() or os.listdir(repository) == [".podman-cvmfs-lock"]


@pytest.mark.parametrize("spoil", [_link, _fifo], ids=["link", "fifo"])
@pytest.mark.parametrize("place", _PLACES)
def test_hostile_repository(scene: Path, place: str, spoil: Callable[[Path, Path], None]) -> None:
    images = Images()
    image = images.image(_NAME, [file("a")])
    images.write_layout(scene / "layout", image)
    put(scene / "repository", images, image)
    [path] = (scene / "repository").glob(place)
    spoil(path, scene / "outside")
    code, said = _publish(scene)
    assert code == 4, said
    assert "symbolic link" in said or "is not a" in said


@pytest.mark.parametrize("spoil", [_link, _fifo], ids=["link", "fifo"])
@pytest.mark.parametrize("place", _LAYOUT)
def test_hostile_layout(scene: Path, place: str, spoil: Callable[[Path, Path], None]) -> None:
    images = Images()
    images.write_layout(scene / "layout", images.image(_NAME, [file("a")]))
    for path in list((scene / "layout").glob(place)):
        spoil(path, scene / "outside")
        code, said = _publish(scene)
        assert code == 3 and "symbolic link or a special file" in said, said
        path.unlink()
        (scene / "outside/moved").rename(path)
