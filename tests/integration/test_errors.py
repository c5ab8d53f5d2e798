# SPDX-License-Identifier: Apache-2.0
"""Bad input: one clear line that names the thing, the documented exit code, an untouched store."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from podman_cvmfs.errors import InputError, PartialError, RepositoryError, StoreError
from tests.integration.conftest import Gallery
from tests.support.cli import Target, podman_cvmfs, succeed
from tests.support.images import IMAGES, build, push
from tests.support.lister import Entry, diff_trees, list_tree
from tests.support.podman import Host, Podman, running
from tests.support.registry import Registry

#: root without the right to pass over permissions: what an ordinary user is to his own files.
_NO_OVERRIDE = [
    "setpriv",
    "--bounding-set=-dac_override,-dac_read_search",
    "--inh-caps=-dac_override,-dac_read_search",
]


class Victim:
    """A small repository, a store that has one of its images, and a podman that uses the store.

    ``known`` is that image's name, ``new`` the name of one that the store hasn't got yet.
    """

    def __init__(self, target: Target, podman: Podman, known: str, new: str = "") -> None:
        self.target = target
        self.podman = podman
        self.known = known
        self.new = new
        self.before = self._snapshot()

    def _snapshot(self) -> dict[bytes, Entry]:
        return list_tree(self.podman.namespace.outside(self.target.store))

    @property
    def manifest(self) -> Path:
        """The new image's manifest, for a test to spoil."""
        return self.target.repository / ".metadata" / self.new / "manifest.json"

    def check(self, done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
        """The error is told well, the store is as it was, and podman still works with it."""
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        lines = done.stderr.splitlines()
        (error,) = (line for line in lines if line.startswith("podman-cvmfs: error: "))
        told = [line for line in lines if all(word in line for word in words)]
        assert told, f"none of these lines names {words}: {lines}"
        assert len(error) < 500
        # What was built aside is gone again; the directory it was in has a new time.
        assert diff_trees(self.before, self._snapshot(), ignore=("mtime",)) == []
        ran = self.podman.run("run", "--rm", "--pull=never", self.known, "echo", "fine")
        assert (ran.stdout, ran.stderr) == ("fine\n", "")


@pytest.fixture
def victim(tmp_path: Path, podman_host: Host, registry: Registry) -> Iterator[Victim]:
    """A repository of two images, for one test to spoil."""
    known, new = (
        push(build(image), registry) for image in IMAGES if image.name in ("t/single:1", "t/zstd:1")
    )
    target = Target(tmp_path / "repository", tmp_path / "store", tmp_path / "cache")
    sources = [f"http://{known}", f"http://{new}"]
    succeed("publish", *sources, "--repository", target.repository)
    target.sync(known)
    registry.stop()
    with running(tmp_path / "podman", stores=[target.store]) as podman:
        yield Victim(target, podman, known, new)


def test_no_such_repository(victim: Victim, tmp_path: Path) -> None:
    target = replace(victim.target, repository=tmp_path / "nowhere")
    victim.check(podman_cvmfs(*target.argv()), RepositoryError.exit_code, str(target.repository))


def test_file_as_repository(victim: Victim, tmp_path: Path) -> None:
    target = replace(victim.target, repository=tmp_path / "file")
    target.repository.write_text("no repository")
    victim.check(podman_cvmfs(*target.argv()), RepositoryError.exit_code, str(target.repository))


def test_empty_directory_as_repository(victim: Victim, tmp_path: Path) -> None:
    """What an unmounted repository looks like: it must not empty the store."""
    target = replace(victim.target, repository=tmp_path / "empty")
    target.repository.mkdir()
    victim.check(podman_cvmfs(*target.argv()), RepositoryError.exit_code, str(target.repository))


@pytest.mark.parametrize(
    "spoilt",
    [
        b"",
        b'{"Config":',
        b"[]",
        b"null",
        b'{"Config": 3}',
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"Config": {"Digest": "sha256:12"}, "Layers": []}',
        b'{"Config": {"Digest": "../../../etc/passwd"}, "Layers": []}',
    ],
    ids=["empty", "cut-off", "array", "null", "number", "binary", "deep", "short", "path"],
)
def test_broken_manifest(victim: Victim, spoilt: bytes) -> None:
    victim.manifest.write_bytes(spoilt)
    # The other image is done, so this is a partial failure.
    victim.check(podman_cvmfs(*victim.target.argv()), PartialError.exit_code, victim.new)


def test_all_manifests_broken(victim: Victim, tmp_path: Path) -> None:
    for manifest in victim.target.repository.glob(".metadata/**/manifest.json"):
        manifest.write_text("{")
    done = podman_cvmfs(*replace(victim.target, store=tmp_path / "other").argv())
    victim.check(done, RepositoryError.exit_code, "2 images could not be done")


def test_layer_digest_that_is_none(victim: Victim) -> None:
    manifest = json.loads(victim.manifest.read_bytes())
    manifest["Layers"][0]["Digest"] = "sha256:\x1b[31mred"
    victim.manifest.write_text(json.dumps(manifest))
    done = podman_cvmfs(*victim.target.argv())
    assert "\x1b" not in done.stderr
    victim.check(done, PartialError.exit_code, victim.new)


def test_public_link_to_what_is_no_digest(victim: Victim) -> None:
    link = victim.target.repository / victim.new
    link.unlink()
    link.symlink_to("../../.flat/zz/no-digest")
    victim.check(podman_cvmfs(*victim.target.argv()), PartialError.exit_code, victim.new)


@pytest.mark.parametrize("place", ["", ".metadata", ".layers"])
def test_unreadable_directory(victim: Victim, place: str) -> None:
    closed = victim.target.repository / place
    os.chmod(closed, 0)
    try:
        done = podman_cvmfs(*victim.target.argv("--offline"), prefix=_NO_OVERRIDE)
    finally:
        os.chmod(closed, 0o755)
    assert done.returncode in (RepositoryError.exit_code, PartialError.exit_code), done.stderr
    victim.check(done, done.returncode, str(closed))


def test_store_that_cannot_be_written(victim: Victim) -> None:
    closed = victim.target.store.parent
    target = replace(victim.target, store=closed / "closed/store")
    target.store.parent.mkdir(mode=0o500)
    done = podman_cvmfs(*target.argv("--offline"), prefix=_NO_OVERRIDE)
    victim.check(done, StoreError.exit_code, str(target.store.parent))


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("127.0.0.1:1/t/unknown:1", InputError.exit_code),
        ("UPPER case/no name", InputError.exit_code),
        ("t/app@sha256:12", InputError.exit_code),
    ],
)
def test_unknown_image(victim: Victim, name: str, code: int) -> None:
    victim.check(podman_cvmfs(*victim.target.argv(name)), code, name)


def test_known_and_unknown_image(victim: Victim) -> None:
    unknown = "127.0.0.1:1/t/unknown:1"
    done = podman_cvmfs(*victim.target.argv(victim.known, unknown))
    victim.check(done, PartialError.exit_code, unknown)


def test_unknown_images(victim: Victim) -> None:
    unknown = ["127.0.0.1:1/t/unknown:1", "127.0.0.1:1/t/unknown:2"]
    done = podman_cvmfs(*victim.target.argv(*unknown))
    victim.check(done, InputError.exit_code, "2 images could not be done")
    victim.manifest.write_text("{")
    done = podman_cvmfs(*victim.target.argv(victim.new, *unknown))
    victim.check(done, InputError.exit_code, "3 images could not be done")


def test_a_repository_that_is_down_beside_others(victim: Victim, tmp_path: Path) -> None:
    done = podman_cvmfs(
        *victim.target.argv("--repository", str(tmp_path / "nowhere"), victim.known)
    )
    victim.check(done, PartialError.exit_code, "1 repository could not be read")


@pytest.mark.parametrize("lacking", ["space", "inodes"])
def test_full_disk(gallery: Gallery, tmp_path: Path, podman_host: Host, lacking: str) -> None:
    disk = tmp_path / "disk"
    target = replace(gallery.target, store=disk / "store")
    known = gallery.name("t/single:1")
    with running(tmp_path / "podman", stores=[target.store]) as podman:
        inside = podman.namespace
        inside.mount_tmpfs(disk, size="4m", inodes=400)
        succeed(*target.argv(known, "--offline"), within=inside)
        _fill(inside.outside(disk), lacking)
        victim = Victim(target, podman, known)
        done = podman_cvmfs(*target.argv("--offline"), within=inside)
        victim.check(done, StoreError.exit_code, str(target.store))


def _fill(disk: Path, lacking: str) -> None:
    """Leave next to nothing of the file system's space or of its inodes."""
    filler = disk / "filler"
    filler.mkdir()
    try:
        if lacking == "space":
            with open(filler / "big", "wb", buffering=0) as stream:
                while stream.write(bytes(4096)):
                    pass
        else:
            for number in range(10_000):
                (filler / str(number)).touch()
    except OSError:
        return
    shutil.rmtree(filler)
    raise AssertionError(f"{disk} has no end of {lacking}")
