# SPDX-License-Identifier: Apache-2.0
"""Images in DUCC's tree for several architectures: podman runs those for this one by name."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from podman_cvmfs.oci.platform import Platform
from tests.integration.conftest import Gallery
from tests.support.cli import Target
from tests.support.podman import Host, running

pytestmark = pytest.mark.usefixtures("no_registry")


def spread(repository: Path, architectures: tuple[str, str]) -> None:
    """Publish every image for the first architecture, and the first half for the second as well."""
    described = sorted((repository / ".metadata").rglob("manifest.json"))
    names = [str(path.parent.relative_to(repository / ".metadata")) for path in described]
    for number, name in enumerate(names):
        flat = (repository / name).resolve()
        (repository / name).unlink()
        (repository / name).symlink_to(
            os.path.relpath(repository / f".multiarch/$(CVMFS_ARCH:-amd64)/{name}", flat.parent)
        )
        for architecture in architectures[: 1 + (number < len(names) // 2)]:
            link = repository / ".multiarch" / architecture / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(flat, link.parent))
            place = repository / ".metadata/.multiarch" / architecture / name
            place.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-a", repository / ".metadata" / name, place], check=True)
        subprocess.run(["rm", "-r", repository / ".metadata" / name], check=True)


def test_images_for_this_architecture_run(
    gallery: Gallery, tmp_path: Path, podman_host: Host
) -> None:
    target = Target(tmp_path / "repository", tmp_path / "store", tmp_path / "cache")
    subprocess.run(["cp", "-a", gallery.target.repository, target.repository], check=True)
    here = str(Platform.of_host()).replace("/", ":")
    spread(target.repository, (here, "s390x" if here != "s390x" else "amd64"))
    report = json.loads(target.sync("--offline", "--format", "json"))
    assert (report["failed"], report["left_out"]) == ({}, {})
    with running(tmp_path / "podman", stores=[target.store]) as podman:
        listed = podman.json("images", "--format", "json")
        assert {name: image["Id"] for image in listed for name in image["Names"]} == {
            gallery.name(name): built.image_id for name, built in gallery.images.items()
        }
        for image in ("t/app:1", "t/delete:1"):
            done = podman.run("run", "--rm", "--pull=never", gallery.name(image))
            assert done.stdout == gallery.images[image].image.prints
    # For the other one there are links to all of the first half, whose configs belie them. Like an
    # index, a link counts more than a config: podman warns of such images and starts them.
    other = Target(target.repository, tmp_path / "other", target.cache)
    report = json.loads(other.sync("--offline", "--arch", "s390x", "--format", "json"))
    names = sorted(gallery.name(name) for name in gallery.images)
    half = len(names) // 2
    assert (report["images"], report["failed"]) == (half, {})
    assert set(report["left_out"]) == set(names[half:])
    assert sum("but its config says" in notice for notice in report["notices"]) == half
