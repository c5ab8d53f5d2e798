# SPDX-License-Identifier: Apache-2.0
"""Platforms by all their names, and what contradicts itself."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from podman_cvmfs.oci.platform import Platform
from podman_cvmfs.store.reader import read_store
from tests.support.architectures import app, config_for, listed, publish_in, sync_for
from tests.support.cli import podman_cvmfs, succeed
from tests.support.many import make_repository

AMD64, ARM64, ARM_V7 = Platform("amd64"), Platform("arm64", "v8"), Platform("arm", "v7")


@pytest.mark.parametrize("system", ["windows", "Windows", "freebsd"])
def test_images_of_another_system_are_left_out(tmp_path: Path, system: str) -> None:
    """DUCC takes a manifest from an index by the architecture alone."""
    root = make_repository(tmp_path / "repository", 3, layers=2, shared=1)
    config_for(root, 1, "amd64", os=system)
    config_for(root, 2, "amd64", os=system)
    publish_in(root, 2, "amd64", app(2))
    report = sync_for(tmp_path, root, AMD64)
    assert not report.failed and set(listed(tmp_path)) == {app(0)}
    assert {name: error.message for name, error in report.left_out.items()} == {
        name: f"{name} is for {system.lower()}/amd64, not for amd64" for name in (app(1), app(2))
    }
    places = ("--repository", root, "--store", tmp_path / "store")
    rows = json.loads(succeed("images", *places, "--arch", "amd64", "--format", "json"))
    states = {row["name"]: row["state"] for row in rows}
    assert states == {app(0): "in store", **dict.fromkeys((app(1), app(2)), "other architecture")}


@pytest.mark.parametrize("system", ["", "Linux", "linux"])
def test_linux_however_it_is_written(tmp_path: Path, system: str) -> None:
    root = make_repository(tmp_path / "repository", 1, layers=2, shared=1)
    config_for(root, 0, "amd64", os=system)
    report = sync_for(tmp_path, root, AMD64)
    assert (report.failed, report.left_out, set(listed(tmp_path))) == ({}, {}, {app(0)})


@pytest.mark.parametrize(
    ("word", "platform"),
    [
        ("x86_64", AMD64),
        ("X86-64", AMD64),
        ("aarch64", ARM64),
        ("arm64v8", ARM64),
        ("arm32v7", ARM_V7),
        ("armhf", ARM_V7),
        ("arm/7", ARM_V7),
    ],
)
def test_other_names_of_architectures(tmp_path: Path, word: str, platform: Platform) -> None:
    root = make_repository(tmp_path / "repository", 1, layers=2, shared=1)
    config_for(root, 0, word)
    report = sync_for(tmp_path, root, platform)
    assert (report.failed, report.left_out, report.notices) == ({}, {}, [])
    assert listed(tmp_path) == {app(0): str(platform)}
    other = ARM64 if platform == AMD64 else AMD64
    assert set(sync_for(tmp_path, root, other).left_out) == {app(0)}


def test_a_word_that_nobody_knows(tmp_path: Path) -> None:
    root = make_repository(tmp_path / "repository", 1, layers=2, shared=1)
    config_for(root, 0, "NoArch")
    report = sync_for(tmp_path, root, AMD64)
    assert (report.failed, report.left_out, set(listed(tmp_path))) == ({}, {}, {app(0)})
    assert "'noarch', no known architecture" in "\n".join(report.notices)
    assert not sync_for(tmp_path, root, AMD64).notices, "nothing was read again"


@pytest.mark.parametrize("place", ["", "amd64"])
@pytest.mark.parametrize("word", ["x.y", "my arch", "\x1b"])
def test_a_word_that_podman_cannot_read(tmp_path: Path, word: str, place: str) -> None:
    """podman fails with such an image (see the integration tests), podman 5.8 with most of them."""
    root = make_repository(tmp_path / "repository", 2, layers=2, shared=1)
    config_for(root, 0, word)
    if place:
        publish_in(root, 0, place, app(0))
    report = sync_for(tmp_path, root, AMD64)
    assert not report.failed and set(listed(tmp_path)) == {app(1)}
    message = report.left_out[app(0)].message
    assert "podman can't read that" in message and message.isprintable()


def test_an_index_counts_more_than_a_config(tmp_path: Path) -> None:
    """Publishers build for arm64 and forget to say so; podman warns, and starts it."""
    root = make_repository(tmp_path / "repository", 2, layers=2, shared=1)
    publish_in(root, 0, "arm64:v8", app(0))
    report = sync_for(tmp_path, root, ARM64)
    assert not report.failed and set(listed(tmp_path)) == {app(0)}
    assert set(report.left_out) == {app(1)}, "no index says anything of it"
    (notice,) = report.notices
    assert notice.startswith(f"{app(0)} is published in .multiarch/arm64:v8, but its config says")
    report = sync_for(tmp_path, root, ARM64)
    assert not report.changed and not report.notices, "it isn't read again"
    places = ("--repository", root, "--store", tmp_path / "store", "--arch", "arm64")
    answer = json.loads(podman_cvmfs("why", app(0), *places, "--format", "json").stdout)
    (reason,) = [each for each in answer["reasons"] if each["code"] == "doubtful-architecture"]
    assert reason["text"] == "it is published for arm64/v8, but its config says amd64"


@pytest.mark.parametrize("variant", ["amd64:", "AMD64", "x86_64"])
def test_directories_by_other_names(tmp_path: Path, variant: str) -> None:
    root = make_repository(tmp_path / "repository", 2, layers=2, shared=1)
    publish_in(root, 0, variant, app(0))
    report = sync_for(tmp_path, root, AMD64)
    assert (report.failed, report.left_out, report.notices) == ({}, {}, [])
    assert set(listed(tmp_path)) == {app(0), app(1)}


@pytest.mark.parametrize("odd", [":v8", "a b", "amd64:x:y", "unknown", "\x1b"])
def test_a_directory_that_means_nothing_is_a_notice(tmp_path: Path, odd: str) -> None:
    root = make_repository(tmp_path / "repository", 3, layers=2, shared=1)
    publish_in(root, 0, odd, app(0))
    publish_in(root, 1, "amd64", app(1))
    places = ("--repository", root, "--store", tmp_path / "store", "--cache", tmp_path / "cache")
    first = podman_cvmfs("sync", *places, "--offline", "--arch", "amd64")
    assert first.returncode == 0, first.stderr
    assert first.stderr.count("is not used: its name is not that of an architecture") == 1
    assert first.stderr.replace("\n", "").isprintable()
    assert set(listed(tmp_path)) == {app(1), app(2)}
    (root / ".multiarch/amd64" / app(1)).touch()
    os.utime(root)
    again = podman_cvmfs("sync", *places, "--offline", "--arch", "amd64")
    assert again.returncode == 0 and "is not used" not in again.stderr


def _twice(root: Path, old: str, new: str) -> tuple[str, str]:
    """Publish app0 in two directories that mean the same, in the one long after the other. Returns
    the IDs of the images in them."""
    ids = (
        config_for(root, 0, "arm64/v8", author="old"),
        config_for(root, 1, "arm64/v8", author="new"),
    )
    publish_in(root, 0, old, app(0))
    publish_in(root, 1, new, app(0))
    os.utime(root / ".multiarch" / old / app(0), (1000, 1000), follow_symlinks=False)
    return ids


@pytest.mark.parametrize(("old", "new"), [("arm64", "arm64:v8"), ("arm64:v8", "arm64")])
@pytest.mark.parametrize("wanted", [ARM64, Platform("arm64")])
def test_of_two_directories_the_newer_link_counts(
    tmp_path: Path, old: str, new: str, wanted: Platform
) -> None:
    root = make_repository(tmp_path / "repository", 2, layers=2, shared=1)
    _, expected = _twice(root, old, new)
    assert not sync_for(tmp_path, root, wanted).failed
    content = read_store(str(tmp_path / "store"))
    assert content is not None and content.names[app(0)] == expected


@pytest.mark.parametrize("led_to", ["arm64", "arm64:v8"])
def test_of_equally_old_links_the_one_for_all_architectures_decides(
    tmp_path: Path, led_to: str
) -> None:
    """The CernVM-FS client has expanded the link."""
    root = make_repository(tmp_path / "repository", 2, layers=2, shared=1)
    ids = dict(zip(("arm64", "arm64:v8"), _twice(root, "arm64", "arm64:v8")))
    os.utime(root / ".multiarch/arm64:v8" / app(0), (1000, 1000), follow_symlinks=False)
    (root / app(0)).unlink()
    (root / app(0)).symlink_to(f"../../.multiarch/{led_to}/{app(0)}")
    assert not sync_for(tmp_path, root, ARM64).failed
    content = read_store(str(tmp_path / "store"))
    assert content is not None and content.names[app(0)] == ids[led_to]


def test_of_two_descriptions_the_newer_counts(tmp_path: Path) -> None:
    """Images whose layers alone are published have no link."""
    root = make_repository(tmp_path / "repository", 2, layers=2, shared=1)
    _, expected = _twice(root, "arm64", "arm64:v8")
    for path in (root / ".multiarch").rglob("app0:0"):
        path.unlink()
    (root / app(0)).unlink()
    old = root / ".metadata/.multiarch/arm64" / app(0) / "manifest.json"
    os.utime(old, (1000, 1000))
    assert not sync_for(tmp_path, root, Platform("arm64")).failed
    content = read_store(str(tmp_path / "store"))
    assert content is not None and content.names[app(0)] == expected
