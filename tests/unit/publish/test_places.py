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
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.oci.platform import Platform
from podman_cvmfs.publish import lock
from podman_cvmfs.publish.publisher import publish
from podman_cvmfs.publish.source.open import open_source
from podman_cvmfs.registry.client import RegistryClient
from tests.support.layers import CAPABILITY, directory, file, whiteout
from tests.support.memory_images import Images, put
from tests.support.trees import snapshot

LOCK = ".podman-cvmfs-lock"
NAME = "example.org/a:1"
BASE = [directory("etc"), file("etc/passwd", "root\n"), file("opt/gone", "x")]
TOP = [file("opt/app", "app", 0o755), whiteout("opt/gone")]


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
    hold = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print(1)"
    holder = subprocess.Popen(
        [sys.executable, "-c", f"{hold}; sys.stdout.flush(); sys.stdin.read()", repository / LOCK],
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
        put(repository, images, images.image(NAME, BASE, TOP))
        assert snapshot(outside) == before
    assert not (repository / ".podman-cvmfs-tmp-y").exists()


def _read(path: Path) -> None:
    """Read all of the layout at ``path``."""
    with RegistryClient() as client:
        source = open_source(f"oci:{path}", None, client, Platform.of_host())
        try:
            for image in source.images():
                for layer in image.manifest.layers:
                    for _ in source.layer(image, layer):
                        pass
        finally:
            source.close()


@pytest.mark.parametrize("part", ["blobs", "blobs/sha256", "index.json", "manifest", "layer"])
@pytest.mark.parametrize("kind", ["link", "fifo", "device", "directory"])
def test_no_link_in_a_layout(tmp_path: Path, images: Images, part: str, kind: str) -> None:
    """What only the caller can read would be everybody's."""
    layout, image = tmp_path / "layout", images.image(NAME, BASE, TOP)
    manifest = images.write_layout(layout, image)
    _read(layout)
    path = layout / part
    if part == "manifest":
        path = manifest
    elif part == "layer":
        path = manifest.parent / image.manifest.layers[1].digest.hex
    is_directory = path.is_dir()
    moved = tmp_path / "moved"
    path.rename(moved)
    if kind == "link":
        path.symlink_to(moved)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    begun = time.monotonic()
    with pytest.raises(InputError) as caught:
        _read(layout)
    assert time.monotonic() - begun < 5
    if kind != "directory" or not is_directory:
        assert "symbolic link or a special file" in caught.value.message
        assert caught.value.hint and "cp -rL" in caught.value.hint


def test_the_digest_of_a_file_is_not_told(tmp_path: Path, images: Images) -> None:
    """The layout's maker could learn it of a file that only root can read."""
    layout, image = tmp_path / "layout", images.image(NAME, BASE)
    layer = images.write_layout(layout, image).parent / image.manifest.layers[0].digest.hex
    secret = layer.read_bytes()[:-1] + b"s"
    layer.write_bytes(secret)
    digest = Digest.of(secret).hex
    with pytest.raises(InputError) as caught:
        publish(str(tmp_path / "new"), image, lambda layer: iter([secret]))
    assert "it has another digest" in caught.value.message
    assert digest not in caught.value.message


@pytest.mark.skipif(os.geteuid() != 0, reason="a user's files get no capabilities")
def test_a_capability_of_invalid_form_is_the_image_s_fault(tmp_path: Path, images: Images) -> None:
    good = file("a", xattrs={"security.capability": CAPABILITY})
    put(tmp_path / "repository", images, images.image(NAME, [good]))
    bad = file("a", xattrs={"security.capability": b"junk"})
    with pytest.raises(InputError, match=r"security\.capability"):
        put(tmp_path / "repository", images, images.image("example.org/b:1", [bad]))
