# SPDX-License-Identifier: Apache-2.0
"""Repositories for several architectures, and images of other ones."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from podman_cvmfs.errors import OtherPlatformError
from podman_cvmfs.oci.platform import Platform
from podman_cvmfs.sync.new_stamp import directories_of
from tests.support.architectures import app, config_for, listed, publish_in, sync_for
from tests.support.cli import podman_cvmfs, succeed
from tests.support.many import REGISTRY, make_repository

AMD64, ARM64, ARM_V7 = Platform("amd64"), Platform("arm64", "v8"), Platform("arm", "v7")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """app0 for amd64 and arm64; app2 for arm64 alone; app3 without an index; app4 as ever."""
    root = make_repository(tmp_path / "repository", 5, layers=2, shared=1)
    config_for(root, 1, "arm64/v8")
    config_for(root, 2, "arm64/v8")
    publish_in(root, 0, "amd64", app(0))
    publish_in(root, 1, "arm64:v8", app(0))
    publish_in(root, 2, "arm64:v8", app(2))
    (root / ".multiarch/aarch64").symlink_to("arm64:v8")
    (root / ".multiarch/x86_64").symlink_to("amd64")
    # What DUCC makes of an image without an index, until its next round.
    (root / app(3)).unlink()
    (root / app(3)).symlink_to(f"../../.multiarch/x86_64/{app(3)}")
    return root


def test_the_architecture_that_is_wanted(tmp_path: Path, repository: Path) -> None:
    report = sync_for(tmp_path, repository, AMD64)
    assert not report.failed
    assert listed(tmp_path) == {app(0): "amd64", app(3): "amd64", app(4): "amd64"}
    assert list(report.left_out) == [app(2)]
    assert "exists for arm64/v8, not for amd64" in report.left_out[app(2)].message
    report = sync_for(tmp_path, repository, ARM64)
    assert not report.failed
    assert listed(tmp_path) == {app(0): "arm64/v8", app(2): "arm64/v8"}
    assert set(report.left_out) == {app(3), app(4)}, "known by their configs alone"
    assert f"{app(4)} is for amd64, not for arm64/v8" in report.left_out[app(4)].message
    assert not sync_for(tmp_path, repository, ARM64).changed
    assert set(sync_for(tmp_path, repository, AMD64).added) == {app(3), app(4)}


@pytest.mark.parametrize("number", [0, 4])
def test_asking_for_another_architecture_removes_nothing(tmp_path: Path, number: int) -> None:
    repository = make_repository(tmp_path / "repository", 5, layers=2, shared=1)
    sync_for(tmp_path, repository, AMD64)
    before = listed(tmp_path)
    places = ("--repository", repository, "--store", tmp_path / "store")
    cached = ("--cache", tmp_path / "cache", "--offline", "--arch", "arm64")
    done = podman_cvmfs("sync", *places, *cached, app(number))
    assert done.returncode == 3
    assert f"{app(number)} is for amd64, not for arm64" in done.stderr
    assert "removed" not in done.stderr.replace("0 removed", "")
    assert listed(tmp_path) == before


def test_who_asks_for_another_architecture_is_told(tmp_path: Path, repository: Path) -> None:
    for number, platform in ((2, AMD64), (4, ARM64)):
        report = sync_for(tmp_path, repository, platform, app(number))
        assert isinstance(report.failed[app(number)], OtherPlatformError)
        assert not report.left_out


def test_who_asks_for_what_cannot_be_read_is_told_why(tmp_path: Path, repository: Path) -> None:
    link = repository / ".multiarch/amd64" / app(0)
    link.unlink()
    link.symlink_to("elsewhere")
    report = sync_for(tmp_path, repository, AMD64, app(0))
    assert "not to a merged root" in report.failed[app(0)].message


def test_trees_for_one_architecture_hold_others_too(tmp_path: Path) -> None:
    """Images like cmssw/cms:rhel8-aarch64: without an index, linked like all others."""
    root = make_repository(tmp_path / "repository", 3, layers=2, shared=1)
    config_for(root, 1, "arm64")
    report = sync_for(tmp_path, root, AMD64)
    assert set(listed(tmp_path)) == {app(0), app(2)}
    assert list(report.left_out) == [app(1)] and not report.failed


def test_manifests_of_an_index_without_links_of_its_own(tmp_path: Path) -> None:
    """DUCC without its multi-architecture option describes images of an index all the same."""
    root = make_repository(tmp_path / "repository", 2, layers=2, shared=1)
    described = root / f".metadata/.multiarch/amd64/{app(1)}"
    described.parent.mkdir(parents=True)
    (root / ".metadata" / app(1)).rename(described)
    report = sync_for(tmp_path, root, AMD64)
    assert not report.failed and set(listed(tmp_path)) == {app(0), app(1)}


def test_a_variant_link_that_leads_nowhere_keeps_what_there_was(
    tmp_path: Path, repository: Path
) -> None:
    sync_for(tmp_path, repository, AMD64)
    shutil.rmtree(repository / ".metadata" / app(3))
    report = sync_for(tmp_path, repository, AMD64)
    assert "leads to no image of any architecture" in report.failed[app(3)].message
    assert app(3) in listed(tmp_path)


@pytest.mark.parametrize("place", [".multiarch", ".multiarch/amd64", ".metadata"])
def test_what_cannot_be_read_takes_nothing_out(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    sync_for(tmp_path, repository, AMD64)
    before = listed(tmp_path)
    real = os.scandir

    def scandir(path: str) -> object:
        if str(path) == f"{repository}/{place}":
            raise OSError(5, os.strerror(5), path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert sync_for(tmp_path, repository, AMD64).failed
    assert listed(tmp_path) == before


def test_stamps_know_the_directories_of_architectures(repository: Path) -> None:
    long_ago = time.time_ns() - 10**12
    for directory, _, _ in os.walk(repository):
        os.utime(directory, ns=(long_ago, long_ago))
    found = directories_of(str(repository))
    assert found is not None
    for place in (".multiarch", ".metadata/.multiarch"):
        assert {place, f"{place}/arm64:v8", f"{place}/arm64:v8/{REGISTRY}/project"} <= set(found)
    assert not any(name.endswith(":0") for name in found)


def test_answers_name_the_other_architecture(tmp_path: Path, repository: Path) -> None:
    places = ("--repository", repository, "--store", tmp_path / "store")
    cached = ("--cache", tmp_path / "cache", "--offline")
    summary = podman_cvmfs("sync", *places, *cached, "--arch", "amd64").stderr
    assert "1 of another architecture left out" in summary
    rows = json.loads(succeed("images", *places, "--arch", "amd64", "--format", "json"))
    states = {row["name"]: (row["state"], row["architecture"]) for row in rows}
    assert states[app(2)] == ("other architecture", None)
    assert states[app(0)] == ("in store", "amd64")
    found = podman_cvmfs("why", app(2), *places, "--arch", "amd64", "--format", "json")
    assert found.returncode == 1
    (reason, *_) = json.loads(found.stdout)["reasons"]
    assert reason["code"] == "other-architecture"
    assert "other architecture: repositories have it for arm64/v8" in reason["text"]
    done = podman_cvmfs("sync", *places, *cached, "--arch", "no/such/thing")
    assert done.returncode == 3 and "arch must be host, or an architecture" in done.stderr


def test_answers_find_the_architecture_in_the_repository_s_config(tmp_path: Path) -> None:
    """What is published for one architecture alone has a place that doesn't tell it."""
    repository = make_repository(tmp_path / "repository", 2, layers=2, shared=1)
    config_for(repository, 1, "arm64/v8")
    places = ("--repository", repository, "--store", tmp_path / "store", "--arch", "amd64")
    podman_cvmfs("sync", *places, "--cache", tmp_path / "cache", "--offline")
    rows = json.loads(succeed("images", *places, "--format", "json"))
    assert {row["name"]: row["state"] for row in rows} == {
        app(0): "in store",
        app(1): "other architecture",
    }
    found = podman_cvmfs("why", app(1), *places, "--format", "json")
    (reason, *_) = json.loads(found.stdout)["reasons"]
    assert reason["code"] == "other-architecture"
    assert "repositories have it for arm64/v8" in reason["text"]
