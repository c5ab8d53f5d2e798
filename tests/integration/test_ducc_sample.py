# SPDX-License-Identifier: Apache-2.0
"""A repository that DUCC itself wrote, read offline: its podmanStore has the genuine configs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.cli import Target
from tests.support.ducc_sample import Sample
from tests.support.lister import Entry, list_tree
from tests.support.podman import Host, Podman, running

_APP = "127.0.0.1:5077/proj/app:1.0"

#: What DUCC adds to a flat root for Singularity and for CernVM-FS, podman for a container.
_ADDED = {
    *(b".exec", b".run", b".shell", b".test", b"environment", b"singularity"),
    *(b"etc/hosts", b"etc/resolv.conf", b"var/tmp", b".singularity.d"),
    *(b"dev", b"proc", b"run", b"sys"),
}


@pytest.fixture(scope="module")
def podman(
    sample: Sample, podman_host: Host, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Podman]:
    """podman with a store made of the sample, no registry anywhere."""
    root = tmp_path_factory.mktemp("sample")
    target = Target(sample.repository, root / "store", root / "cache")
    report = json.loads(target.sync("--offline", "--format", "json"))
    assert (report["images"], report["synthesised"]) == (len(sample.expected), 0)
    with running(root / "podman", stores=[target.store]) as podman:
        yield podman


def test_images_has_the_genuine_names_and_ids(podman: Podman, sample: Sample) -> None:
    listed = podman.json("images", "--format", "json")
    assert {name: image["Id"] for image in listed for name in image["Names"]} == {
        name: value["podman_image_id"] for name, value in sample.expected.items()
    }


def test_configs_are_the_genuine_ones(podman: Podman, sample: Sample) -> None:
    for name, value in sample.expected.items():
        config = json.loads(value["config_bytes"])
        seen = podman.inspect(name)
        assert seen["RootFS"]["Layers"] == value["diff_ids"]
        assert seen["Config"] == config["config"]
        assert seen["Architecture"] == config["architecture"]
        assert seen["Created"] == config["created"]


def test_runs_by_name_and_by_id(podman: Podman, sample: Sample) -> None:
    for name, value in sample.expected.items():
        for image in (name, value["podman_image_id"]):
            done = podman.run(
                "run", "--rm", "--pull=never", "--entrypoint", "/bin/sh", image, "-c", "pwd"
            )
            assert done.stdout.strip() in ("/", "/opt/app")
    # The image's own entry point, user and environment.
    done = podman.run("run", "--rm", "--pull=never", "--user=0", _APP)
    assert done.stdout == 'hi test "q" $x\n'


def test_files_are_those_of_the_pulled_image(podman: Podman, sample: Sample) -> None:
    for name, value in sample.expected.items():
        with podman.root_of(name) as root:
            seen = list_tree(root)
        wanted = {item["path"].encode(): item for item in value["listing"] if item["path"] != "."}
        extra = {path for path in seen if path not in wanted and path != b"."}
        # A single layer is linked as it is, with CernVM-FS's mark of a nested catalogue.
        allowed = _ADDED | ({b".cvmfscatalog"} if len(value["layers"]) == 1 else set())
        assert {path for path in extra if not path.startswith(b".singularity.d/")} <= allowed
        assert {path for path in wanted if path not in seen} == set()
        wrong = [path for path, item in wanted.items() if not _alike(item, seen[path])]
        assert wrong == []


def _alike(wanted: dict[str, Any], seen: Entry) -> bool:
    """Whether kind, content and link target agree. DUCC loses owners and special mode bits."""
    kinds = {"dir": "directory", "char": "character device", "block": "block device"}
    kind: str = kinds.get(wanted["type"], wanted["type"])
    content: str = wanted.get("sha256", "")
    target: str = wanted.get("linktarget", "")
    return (kind, content, target.encode()) == (seen.kind, seen.content, seen.target)
