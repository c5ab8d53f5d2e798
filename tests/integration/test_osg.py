# SPDX-License-Identifier: Apache-2.0
"""A repository of merged roots alone, as OSG's: podman runs its images by name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from podman_cvmfs.oci.documents import Digest
from tests.integration.conftest import Gallery
from tests.support.cli import Target, podman_cvmfs, succeed
from tests.support.osg import convert
from tests.support.podman import Host, Podman, running
from tests.support.registry import Registry

#: Some with users, deletions and working directories.
RUN = ("t/app:1", "t/delete:1", "t/opaque:1", "t/single:1")


@dataclass(frozen=True)
class Osg:
    target: Target
    names: list[str]
    podman: Podman
    requests: int


@pytest.fixture(scope="module")
def osg(
    gallery: Gallery,
    tmp_path_factory: pytest.TempPathFactory,
    podman_host: Host,
    registry_process: Registry,
) -> Iterator[Osg]:
    """The gallery's repository without all but the merged roots, synced by OSG's kind of list."""
    root = tmp_path_factory.mktemp("osg")
    target = Target(root / "repository", root / "store", root / "cache")
    names = convert(gallery.target.repository, target.repository)
    (root / "docker_images.txt").write_text("# all\n" + "".join(f"{name}\n" for name in names))
    (root / "config.toml").write_text(f'wish_lists = ["{root}/docker_images.txt"]\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PODMAN_CVMFS_CONFIG", str(root / "config.toml"))
        registry_process.start()
        mark = len(registry_process.since(0))
        target.sync()
        requests = len(registry_process.since(mark))
        with running(root / "p", stores=[target.store], insecure=[gallery.registry]) as podman:
            yield Osg(target, names, podman, requests)


def test_every_image_is_listed_with_its_own_id_and_digest(osg: Osg, gallery: Gallery) -> None:
    listed = osg.podman.json("images", "--format", "json")
    ids = {name: image["Id"] for image in listed for name in image["Names"]}
    assert ids == {gallery.name(name): built.image_id for name, built in gallery.images.items()}
    for image in listed:
        built = gallery.images[image["Names"][0].partition("/")[2]]
        assert image["Digest"] == str(Digest.of(built.manifest))


@pytest.mark.parametrize("image", RUN)
def test_runs_by_name_and_by_digest(
    osg: Osg, gallery: Gallery, no_registry: Registry, image: str
) -> None:
    built = gallery.images[image]
    by_digest = f"{gallery.registry}/{image.partition(':')[0]}@{Digest.of(built.manifest)}"
    for name in (gallery.name(image), by_digest):
        done = osg.podman.run("run", "--rm", "--pull=never", name)
        assert done.stdout == built.image.prints
    wanted = gallery.plain.inspect(gallery.name(image))
    found = osg.podman.inspect(gallery.name(image))
    keys = ("Id", "Config", "RootFS", "User", "Digest")
    assert {key: found[key] for key in keys} == {key: wanted[key] for key in keys}


def test_a_manifest_and_a_config_for_each_image_then_nothing(
    osg: Osg, registry: Registry, tmp_path: Path
) -> None:
    assert osg.requests <= 2 * len(osg.names)
    mark = len(registry.since(0))
    osg.target.sync()
    Target(osg.target.repository, tmp_path / "new", osg.target.cache).sync()
    assert registry.since(mark) == []


def test_offline_they_run_with_made_up_configs(
    osg: Osg, gallery: Gallery, no_registry: Registry, tmp_path: Path
) -> None:
    target = Target(osg.target.repository, tmp_path / "store", tmp_path / "cache")
    report = json.loads(target.sync("--offline", "--format", "json"))
    assert not report["failed"] and report["synthesised"] > 0
    with running(tmp_path / "p", stores=[target.store]) as podman:
        for image in RUN:
            done = podman.run("run", "--rm", "--pull=never", gallery.name(image), check=False)
            # The user and working directory of t/app are in no file.
            if image != "t/app:1":
                assert done.stdout == gallery.images[image].image.prints, done.stderr
    listing = succeed("images", "--repository", target.repository, "--store", target.store)
    assert listing.count("synthesised") == len(osg.names)
    assert listing.count("in store") == len(osg.names)


def test_answers(osg: Osg, gallery: Gallery, no_registry: Registry) -> None:
    places = ("--repository", osg.target.repository, "--store", osg.target.store)
    name = gallery.name("t/app:1")
    rows = json.loads(succeed("images", *places, "--format", "json"))
    assert {row["state"] for row in rows} == {"in store"}
    assert {row["config"] for row in rows} == {"genuine"}
    found = podman_cvmfs("why", name, *places, "--format", "json")
    (reason, *_) = json.loads(found.stdout)["reasons"]
    assert reason["code"] == "in-store"
    (shown,) = json.loads(succeed("inspect", name, "--store", osg.target.store))
    assert ".images/" in json.dumps(shown["Layers"])
    status = succeed("status", *places, "--cache", osg.target.cache)
    assert str(osg.target.repository) in status
    succeed("verify", "--store", osg.target.store)
    succeed("prune", "--store", osg.target.store)
