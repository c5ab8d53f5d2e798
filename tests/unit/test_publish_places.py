# SPDX-License-Identifier: Apache-2.0
"""Links and special files where publish reads and writes: none is followed, none is waited for."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from podman_cvmfs.errors import InputError, RepositoryError
from podman_cvmfs.oci.platform import Platform
from podman_cvmfs.publish import lock
from podman_cvmfs.publish.source.open import open_source
from podman_cvmfs.registry.client import RegistryClient
from tests.support.trees import snapshot
from tests.unit.test_publish import BASE, TOP, Images, put

LOCK = ".podman-cvmfs-lock"
NAME = "example.org/a:1"


@pytest.fixture
def images() -> Images:
    return Images()


@pytest.fixture
def repository(tmp_path: Path, images: Images) -> Path:
    """One that has an image already."""
    path = tmp_path / "repository"
    put(path, images, images.image(NAME, BASE))
    return path


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    place = tmp_path / "outside"
    place.mkdir()
    (place / "file").write_text("untouched")
    return place


def _to_directory(path: Path, outside: Path) -> None:
    path.symlink_to(outside)


def _to_file(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "file")


def _to_nothing(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "new")


def _fifo(path: Path, outside: Path) -> None:
    os.mkfifo(path)


def _moved(path: Path, outside: Path) -> None:
    """The thing itself, but elsewhere."""


@pytest.mark.parametrize("spoil", [_to_directory, _to_file, _to_nothing, _fifo, _moved])
@pytest.mark.parametrize(
    "part",
    [
        LOCK,
        ".layers",
        ".layers/??",
        ".layers/*/*",
        ".layers/*/*/layerfs",
        ".layers/*/*/.metadata",
        ".layers/*/*/.metadata/layers.json",
        ".layers/*/*/.metadata/origin.json",
        ".layers/*/*/.metadata/implied.json",
        ".flat",
        ".metadata",
        ".metadata/example.org",
        ".metadata/example.org/a:1",
        ".metadata/*/*/manifest.json",
        "example.org",
        "podmanStore",
        "podmanStore/overlay-images",
        "podmanStore/overlay-images/*",
        "podmanStore/*/*/*",
    ],
)
def test_nothing_but_files_and_directories_in_the_repository(
    repository: Path,
    outside: Path,
    images: Images,
    part: str,
    spoil: Callable[[Path, Path], None],
) -> None:
    """Whatever the images: the same one again, one on the same layer, another with its name."""
    [path] = repository.glob(part)
    path.rename(outside / "moved")
    if spoil is _moved:
        path.symlink_to(outside / "moved")
    else:
        spoil(path, outside)
    before = snapshot(outside)
    begun = time.monotonic()
    refused = 0
    for image in (
        images.image(NAME, BASE),
        images.image("example.org/b:1", BASE, other=1),
        images.image(NAME, BASE, TOP),
    ):
        try:
            put(repository, images, image)
        except RepositoryError as err:
            assert "symbolic link" in err.message or " is not a " in err.message
            refused += 1
    # A new image has no need of the old one's directories of its own.
    assert refused or "overlay-images/" in part or "/??" in part
    assert snapshot(outside) == before
    assert time.monotonic() - begun < 30


def test_the_lock_file_is_its_owners(repository: Path, images: Images) -> None:
    lock_file = repository / LOCK
    assert stat.S_IMODE(lock_file.stat().st_mode) == 0o600
    lock_file.chmod(0o644)
    put(repository, images, images.image(NAME, BASE, TOP))
    assert stat.S_IMODE(lock_file.stat().st_mode) == 0o600


def test_who_holds_the_lock_too_long_is_named(
    repository: Path,
    images: Images,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(lock, "TELL_AFTER", 0.1)
    monkeypatch.setattr(lock, "LIMIT", 0.5)
    caplog.set_level("INFO")
    hold = "import fcntl, sys; fcntl.flock(open(sys.argv[1]), fcntl.LOCK_EX); print(1, flush=True)"
    holder = subprocess.Popen(
        [sys.executable, "-c", f"{hold}; sys.stdin.read()", repository / LOCK],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        before = snapshot(repository)
        with pytest.raises(RepositoryError, match=rf"process {holder.pid} \(python") as caught:
            put(repository, images, images.image(NAME, BASE, TOP))
        assert LOCK in caught.value.message and caught.value.hint
        assert f"waiting for process {holder.pid}" in caplog.text
        assert snapshot(repository) == before
    finally:
        holder.communicate()


def test_a_workspace_that_is_a_link_is_left_alone(
    repository: Path, outside: Path, images: Images
) -> None:
    (outside / "lock").touch()
    (repository / ".podman-cvmfs-tmp-x").symlink_to(outside)
    (repository / ".podman-cvmfs-tmp-y").mkdir()
    (repository / ".podman-cvmfs-tmp-y/lock").symlink_to(outside / "lock")
    with open(outside / "lock") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        before = snapshot(outside)
        with pytest.raises(RepositoryError):
            put(repository, images, images.image(NAME, BASE, TOP))
        assert snapshot(outside) == before


@pytest.mark.parametrize("part", ["blobs", "blobs/sha256", "index.json", "manifest", "layer"])
@pytest.mark.parametrize("kind", ["link", "fifo", "device", "directory"])
def test_no_link_in_a_layout(tmp_path: Path, images: Images, part: str, kind: str) -> None:
    """What root alone can read would be everybody's."""
    layout, image = images.layout(tmp_path / "layout", NAME, BASE, TOP)
    secret = tmp_path / "secret"
    secret.mkdir(mode=0o700)
    blobs = "blobs/sha256"
    path = layout / {
        "manifest": f"{blobs}/{image.raw_manifest_digest}",
        "layer": f"{blobs}/{image.manifest.layers[0].digest.hex}",
    }.get(part, part)
    path.rename(secret / "moved")
    if kind == "link":
        path.symlink_to(secret / "moved")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
