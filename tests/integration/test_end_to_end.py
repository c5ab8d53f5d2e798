# SPDX-License-Identifier: Apache-2.0
"""The main job: a real podman runs images from a repository, with no registry anywhere."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.conftest import Gallery
from tests.support.cli import Target, succeed
from tests.support.images import IMAGES, Image, build, write_layout
from tests.support.lister import diff_trees, list_tree
from tests.support.podman import Host, running
from tests.support.registry import Registry

pytestmark = pytest.mark.usefixtures("no_registry")

every_image = pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)

#: What podman says of an image that doesn't depend on where its layers lie.
_INSPECTED = (
    "Id",
    "Config",
    "RootFS",
    "Architecture",
    "Os",
    "Created",
    "Author",
    "User",
    "Labels",
)

#: What the publisher adds to a merged root for Singularity, as DUCC does.
_ADDED = [
    *(b".exec", b".run", b".shell", b".test", b".singularity.d", b"environment", b"singularity"),
    *(b"etc/hosts", b"etc/resolv.conf", b"var/tmp"),
]


def test_images_lists_every_name_once(gallery: Gallery) -> None:
    listed = gallery.podman.json("images", "--format", "json")
    names = sorted(name for image in listed for name in image.get("Names") or [])
    assert names == sorted(gallery.name(image) for image in gallery.images)
    assert all(image["ReadOnly"] for image in listed)


@every_image
def test_inspect_says_what_it_says_of_a_pulled_image(gallery: Gallery, image: Image) -> None:
    ours = gallery.podman.inspect(gallery.name(image.name))
    pulled = gallery.plain.inspect(gallery.name(image.name))
    assert {key: ours.get(key) for key in _INSPECTED} == {
        key: pulled.get(key) for key in _INSPECTED
    }
    assert ours["Id"] == gallery.images[image.name].image_id


@every_image
def test_runs_by_name(gallery: Gallery, image: Image) -> None:
    done = gallery.podman.run("run", "--rm", "--pull=never", gallery.name(image.name))
    assert done.stdout == image.prints


@every_image
def test_runs_by_id(gallery: Gallery, image: Image) -> None:
    name = gallery.images[image.name].image_id
    assert gallery.podman.run("run", "--rm", "--pull=never", name).stdout == image.prints


@pytest.mark.parametrize("short", ["t/app:1", "the-app:1"], ids=["search", "alias"])
def test_runs_by_short_name(gallery: Gallery, short: str) -> None:
    done = gallery.podman.run("run", "--rm", "--pull=never", short)
    assert done.stdout == gallery.images["t/app:1"].image.prints


def test_runs_without_asking_a_registry_when_pull_is_missing(gallery: Gallery) -> None:
    done = gallery.podman.run("run", "--rm", gallery.name("t/app:1"), "echo as usual")
    assert done.stdout == "as usual\n"


@every_image
def test_container_sees_the_files_of_a_pulled_image(gallery: Gallery, image: Image) -> None:
    name = gallery.name(image.name)
    with gallery.plain.root_of(name) as root:
        wanted = list_tree(root)
    with gallery.podman.root_of(name) as root:
        seen = list_tree(root)
    # podman gives a root directory that no layer mentions the mode 0555, DUCC 0755.
    assert (
        diff_trees({b".": wanted.pop(b".")}, {b".": seen.pop(b".")}, ignore=("mode", "mtime")) == []
    )
    # A directory's time says when podman last unpacked something into it.
    for tree in (wanted, seen):
        for path, entry in tree.items():
            if entry.kind == "directory":
                tree[path] = replace(entry, mtime=0)
    assert diff_trees(wanted, seen, skip=_ADDED) == []


def test_user_environment_and_directory_are_the_image_s(gallery: Gallery) -> None:
    script = (
        'id -u; id -g; pwd; echo "$MODE"; test -w . && echo writable; test -d /data && echo data'
    )
    done = gallery.podman.run("run", "--rm", "--pull=never", gallery.name("t/app:1"), script)
    assert done.stdout == '1234\n1234\n/opt/app\na "quoted" $value\nwritable\ndata\n'


def test_container_can_change_everything(gallery: Gallery) -> None:
    script = (
        "rm -r /var/lib/data && mkdir /var/lib/data && echo new > /usr/share/kind"
        " && mv /opt/other /opt/moved && cat /usr/share/kind /opt/moved/file"
    )
    name = gallery.name("t/plain:1")
    done = gallery.podman.run("run", "--rm", "--pull=never", name, "sh", "-c", script)
    assert done.stdout == "new\nother\n"


def test_second_sync_changes_nothing(gallery: Gallery) -> None:
    before = list_tree(gallery.target.store)
    gallery.target.sync("--offline")
    assert diff_trees(before, list_tree(gallery.target.store)) == []


def test_second_publish_changes_nothing(gallery: Gallery, registry: Registry) -> None:
    before = list_tree(gallery.target.repository)
    source = f"http://{gallery.name('t/app:1')}"
    succeed("publish", source, "--repository", gallery.target.repository)
    assert diff_trees(before, list_tree(gallery.target.repository)) == []


def test_second_sync_asks_the_registry_for_nothing(gallery: Gallery, registry: Registry) -> None:
    mark = len(registry.since(0))
    gallery.target.sync()
    assert registry.since(mark) == []


def test_named_images_only(gallery: Gallery, tmp_path: Path, podman_host: Host) -> None:
    target = replace(gallery.target, store=tmp_path / "store")
    name = gallery.name("t/delete:1")
    report = json.loads(target.sync(name, "--offline", "--format", "json"))
    assert report["images"] == 1
    with running(tmp_path / "podman", stores=[target.store]) as podman:
        (listed,) = podman.json("images", "--format", "json")
        assert listed["Names"] == [name]
        assert podman.run("run", "--rm", "--pull=never", name).stdout == "changed\n"


@pytest.mark.parametrize(
    "command",
    [
        ["cat", "var/lib/data/b"],
        [],
    ],
    ids=["given-command", "own-command"],
)
def test_offline_without_configs_still_runs_and_says_so(
    gallery: Gallery, tmp_path: Path, podman_host: Host, command: list[str]
) -> None:
    """Nobody has the genuine config: a made-up one must not carry the genuine image ID."""
    target = Target(tmp_path / "repository", tmp_path / "store", tmp_path / "cache")
    subprocess.run(["cp", "-a", gallery.target.repository, target.repository], check=True)
    shutil.rmtree(target.repository / "podmanStore")
    name = gallery.name("t/delete:1")
    report = json.loads(target.sync("--offline", "--format", "json"))
    assert report["synthesised"] == len(gallery.images)
    with running(tmp_path / "podman", stores=[target.store]) as podman:
        made_up = podman.inspect(name)
        assert made_up["Id"] != gallery.images["t/delete:1"].image_id
        assert gallery.images["t/delete:1"].image_id in "".join(made_up["Labels"].values())
        assert podman.run("run", "--rm", "--pull=never", name, *command).stdout == "changed\n"


def test_publishes_an_oci_layout(tmp_path: Path, podman_host: Host) -> None:
    (image,) = (image for image in IMAGES if image.name == "t/zstd:1")
    write_layout([build(image)], tmp_path / "layout")
    source = f"oci:{tmp_path / 'layout'}:1"
    _check_source(source, image, tmp_path, "--name", "example.org/t/zstd:1")


def test_publishes_a_docker_archive(gallery: Gallery, tmp_path: Path) -> None:
    image = gallery.images["t/delete:1"].image
    archive = str(tmp_path / "archive.tar")
    name = gallery.name(image.name)
    gallery.plain.run("save", "--format=docker-archive", "--output", archive, name)
    _check_source(f"docker-archive:{archive}", image, tmp_path)


def _check_source(source: str, image: Image, tmp_path: Path, *options: str) -> None:
    """Publish one source, sync it, and run what podman then lists."""
    target = Target(tmp_path / "repository", tmp_path / "store", tmp_path / "cache")
    succeed("publish", source, "--repository", target.repository, *options)
    target.sync("--offline")
    with running(tmp_path / "podman", stores=[target.store]) as podman:
        (listed,) = podman.json("images", "--format", "json")
        (name,) = listed["Names"]
        assert podman.run("run", "--rm", "--pull=never", name).stdout == image.prints
