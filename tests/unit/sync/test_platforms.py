# SPDX-License-Identifier: Apache-2.0
"""Repositories for several architectures, and images of other ones."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.errors import OtherPlatformError
from podman_cvmfs.oci.big_data import big_data_file
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.oci.platform import Platform
from podman_cvmfs.store.reader import read_store
from podman_cvmfs.store.store import Store
from podman_cvmfs.sync.new_stamp import directories_of
from podman_cvmfs.sync.report import SyncReport
from podman_cvmfs.sync.request import Wishes
from podman_cvmfs.sync.run import sync
from tests.support.cli import podman_cvmfs, succeed
from tests.support.many import REGISTRY, make_repository

AMD64, ARM64, ARM_V7 = Platform("amd64"), Platform("arm64", "v8"), Platform("arm", "v7")


def app(number: int) -> str:
    return f"{REGISTRY}/project/app{number}:{number}"


def _config(repository: Path, number: int, architecture: str, **more: str) -> str:
    """Give the image with this number another architecture; returns its new ID. ``more`` goes into
    its config."""
    described = repository / f".metadata/{app(number)}/manifest.json"
    manifest = json.loads(described.read_text())
    old = manifest["Config"]["Digest"][7:]
    kept = repository / f"podmanStore/overlay-images/{old}"
    config = json.loads(next(kept.iterdir()).read_bytes())
    config["architecture"], _, variant = architecture.partition("/")
    if variant:
        config["variant"] = variant
    config.update(more)
    data = json.dumps(config).encode()
    new = Digest.of(data).hex
    shutil.rmtree(kept)
    (repository / f"podmanStore/overlay-images/{new}").mkdir()
    (repository / f"podmanStore/overlay-images/{new}" / big_data_file(f"sha256:{new}")).write_bytes(
        data
    )
    manifest["Config"]["Digest"] = f"sha256:{new}"
    described.write_text(json.dumps(manifest))
    (repository / f".flat/{new[:2]}").mkdir(exist_ok=True)
    (repository / f".flat/{old[:2]}/{old}").rename(repository / f".flat/{new[:2]}/{new}")
    (repository / app(number)).unlink()
    (repository / app(number)).symlink_to(f"../../.flat/{new[:2]}/{new}")
    return new


def _move(repository: Path, number: int, directory: str, name: str) -> None:
    """Publish the image as DUCC publishes one of an index, under ``name`` in ``directory``."""
    place = repository / ".multiarch" / directory / name
    place.parent.mkdir(parents=True, exist_ok=True)
    target = os.path.basename((repository / app(number)).readlink())
    place.symlink_to(os.path.relpath(repository / f".flat/{target[:2]}/{target}", place.parent))
    (repository / app(number)).unlink()
    described = repository / ".metadata/.multiarch" / directory / name
    described.parent.mkdir(parents=True, exist_ok=True)
    (repository / ".metadata" / app(number)).rename(described)
    link = repository / name
    if not link.is_symlink():
        link.symlink_to(f"../../.multiarch/$(CVMFS_ARCH:-amd64)/{name}")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """app0 for amd64 and arm64; app2 for arm64 alone; app3 without an index; app4 as ever."""
    root = make_repository(tmp_path / "repository", 5, layers=2, shared=1)
    _config(root, 1, "arm64/v8")
    _config(root, 2, "arm64/v8")
    _move(root, 0, "amd64", app(0))
    _move(root, 1, "arm64:v8", app(0))
    _move(root, 2, "arm64:v8", app(2))
    (root / ".multiarch/aarch64").symlink_to("arm64:v8")
    (root / ".multiarch/x86_64").symlink_to("amd64")
    # What DUCC makes of an image without an index, until its next round.
    (root / app(3)).unlink()
    (root / app(3)).symlink_to(f"../../.multiarch/x86_64/{app(3)}")
    return root


def _sync(root: Path, repository: Path, platform: Platform, *names: str) -> SyncReport:
    where = (Store(str(root / "store")), BlobCache(str(root / "cache")))
    return sync(Wishes([str(repository)], *where, requested=names, platform=platform))


def _listed(root: Path) -> dict[str, str]:
    """What each name in the store is for."""
    content = read_store(str(root / "store"))
    assert content is not None
    images = content.images
    return {n: images[i].platform for n, i in content.names.items() if images[i].published}


def test_the_architecture_that_is_wanted(tmp_path: Path, repository: Path) -> None:
    report = _sync(tmp_path, repository, AMD64)
    assert not report.failed
    assert _listed(tmp_path) == {app(0): "amd64", app(3): "amd64", app(4): "amd64"}
    assert list(report.left_out) == [app(2)]
    assert "exists for arm64/v8, not for amd64" in report.left_out[app(2)].message
    report = _sync(tmp_path, repository, ARM64)
    assert not report.failed
    assert _listed(tmp_path) == {app(0): "arm64/v8", app(2): "arm64/v8"}
    assert set(report.left_out) == {app(3), app(4)}, "known by their configs alone"
    assert f"{app(4)} is for amd64, not for arm64/v8" in report.left_out[app(4)].message
    assert not _sync(tmp_path, repository, ARM64).changed
    assert set(_sync(tmp_path, repository, AMD64).added) == {app(3), app(4)}


@pytest.mark.parametrize("number", [0, 4])
def test_asking_for_another_architecture_removes_nothing(tmp_path: Path, number: int) -> None:
    repository = make_repository(tmp_path / "repository", 5, layers=2, shared=1)
    _sync(tmp_path, repository, AMD64)
    before = _listed(tmp_path)
    places = ("--repository", repository, "--store", tmp_path / "store")
    cached = ("--cache", tmp_path / "cache", "--offline", "--arch", "arm64")
    done = podman_cvmfs("sync", *places, *cached, app(number))
    assert done.returncode == 3
    assert f"{app(number)} is for amd64, not for arm64" in done.stderr
    assert "removed" not in done.stderr.replace("0 removed", "")
    assert _listed(tmp_path) == before


def test_who_asks_for_another_architecture_is_told(tmp_path: Path, repository: Path) -> None:
    for number, platform in ((2, AMD64), (4, ARM64)):
        report = _sync(tmp_path, repository, platform, app(number))
        assert isinstance(report.failed[app(number)], OtherPlatformError)
        assert not report.left_out


def test_who_asks_for_what_cannot_be_read_is_told_why(tmp_path: Path, repository: Path) -> None:
    link = repository / ".multiarch/amd64" / app(0)
    link.unlink()
    link.symlink_to("elsewhere")
    report = _sync(tmp_path, repository, AMD64, app(0))
    assert "not to a merged root" in report.failed[app(0)].message


def test_trees_for_one_architecture_hold_others_too(tmp_path: Path) -> None:
    """Images like cmssw/cms:rhel8-aarch64: without an index, linked like all others."""
    root = make_repository(tmp_path / "repository", 3, layers=2, shared=1)
    _config(root, 1, "arm64")
    report = _sync(tmp_path, root, AMD64)
    assert set(_listed(tmp_path)) == {app(0), app(2)}
    assert list(report.left_out) == [app(1)] and not report.failed


def test_manifests_of_an_index_without_links_of_its_own(tmp_path: Path) -> None:
    """DUCC without its multi-architecture option describes images of an index all the same."""
    root = make_repository(tmp_path / "repository", 2, layers=2, shared=1)
    described = root / f".metadata/.multiarch/amd64/{app(1)}"
    described.parent.mkdir(parents=True)
    (root / ".metadata" / app(1)).rename(described)
    report = _sync(tmp_path, root, AMD64)
    assert not report.failed and set(_listed(tmp_path)) == {app(0), app(1)}


def test_a_variant_link_that_leads_nowhere_keeps_what_there_was(
    tmp_path: Path, repository: Path
) -> None:
    _sync(tmp_path, repository, AMD64)
    shutil.rmtree(repository / ".metadata" / app(3))
    report = _sync(tmp_path, repository, AMD64)
    assert "leads to no image of any architecture" in report.failed[app(3)].message
    assert app(3) in _listed(tmp_path)


@pytest.mark.parametrize("place", [".multiarch", ".multiarch/amd64", ".metadata"])
def test_what_cannot_be_read_takes_nothing_out(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    _sync(tmp_path, repository, AMD64)
    before = _listed(tmp_path)
    real = os.scandir

    def scandir(path: str) -> object:
        if str(path) == f"{repository}/{place}":
            raise OSError(5, os.strerror(5), path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert _sync(tmp_path, repository, AMD64).failed
    assert _listed(tmp_path) == before


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
    _config(repository, 1, "arm64/v8")
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


@pytest.mark.parametrize("system", ["windows", "Windows", "freebsd"])
def test_images_of_another_system_are_left_out(tmp_path: Path, system: str) -> None:
    """DUCC takes a manifest from an index by the architecture alone."""
    root = make_repository(tmp_path / "repository", 3, layers=2, shared=1)
    _config(root, 1, "amd64", os=system)
    _config(root, 2, "amd64", os=system)
    _move(root, 2, "amd64", app(2))
    report = _sync(tmp_path, root, AMD64)
    assert not report.failed and set(_listed(tmp_path)) == {app(0)}
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
    _config(root, 0, "amd64", os=system)
    report = _sync(tmp_path, root, AMD64)
    assert (report.failed, report.left_out, set(_listed(tmp_path))) == ({}, {}, {app(0)})


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
    _config(root, 0, word)
    report = _sync(tmp_path, root, platform)
    assert (report.failed, report.left_out, report.notices) == ({}, {}, [])
    assert _listed(tmp_path) == {app(0): str(platform)}
    other = ARM64 if platform == AMD64 else AMD64
    assert set(_sync(tmp_path, root, other).left_out) == {app(0)}


def test_a_word_that_nobody_knows(tmp_path: Path) -> None:
    root = make_repository(tmp_path / "repository", 1, layers=2, shared=1)
    _config(root, 0, "NoArch")
    report = _sync(tmp_path, root, AMD64)
    assert (report.failed, report.left_out, set(_listed(tmp_path))) == ({}, {}, {app(0)})
    assert "'noarch', no known architecture" in "\n".join(report.notices)
    assert not _sync(tmp_path, root, AMD64).notices, "nothing was read again"


@pytest.mark.parametrize("place", ["", "amd64"])
@pytest.mark.parametrize("word", ["x.y", "my arch", "\x1b"])
def test_a_word_that_podman_cannot_read(tmp_path: Path, word: str, place: str) -> None:
    """podman fails with such an image (see the integration tests)."""
    root = make_repository(tmp_path / "repository", 2, layers=2, shared=1)
    _config(root, 0, word)
    if place:
        _move(root, 0, place, app(0))
    report = _sync(tmp_path, root, AMD64)
    assert not report.failed and set(_listed(tmp_path)) == {app(1)}
    message = report.left_out[app(0)].message
    assert "podman can't read that" in message and message.isprintable()


def test_an_index_counts_more_than_a_config(tmp_path: Path) -> None:
    """Publishers build for arm64 and forget to say so; podman warns, and starts it."""
    root = make_repository(tmp_path / "repository", 2, layers=2, shared=1)
    _move(root, 0, "arm64:v8", app(0))
    report = _sync(tmp_path, root, ARM64)
    assert not report.failed and set(_listed(tmp_path)) == {app(0)}
    assert set(report.left_out) == {app(1)}, "no index says anything of it"
    (notice,) = report.notices
    assert notice.startswith(f"{app(0)} is published in .multiarch/arm64:v8, but its config says")
    report = _sync(tmp_path, root, ARM64)
    assert not report.changed and not report.notices, "it isn't read again"


@pytest.mark.parametrize("variant", ["amd64:", "AMD64", "x86_64"])
def test_directories_by_other_names(tmp_path: Path, variant: str) -> None:
    root = make_repository(tmp_path / "repository", 2, layers=2, shared=1)
    _move(root, 0, variant, app(0))
    report = _sync(tmp_path, root, AMD64)
    assert (report.failed, report.left_out, report.notices) == ({}, {}, [])
    assert set(_listed(tmp_path)) == {app(0), app(1)}


@pytest.mark.parametrize("odd", [":v8", "a b", "amd64:x:y", "unknown", "\x1b"])
def test_a_directory_that_means_nothing_is_a_notice(tmp_path: Path, odd: str) -> None:
    root = make_repository(tmp_path / "repository", 3, layers=2, shared=1)
    _move(root, 0, odd, app(0))
    _move(root, 1, "amd64", app(1))
    places = ("--repository", root, "--store", tmp_path / "store", "--cache", tmp_path / "cache")
    first = podman_cvmfs("sync", *places, "--offline", "--arch", "amd64")
    assert first.returncode == 0, first.stderr
    assert first.stderr.count("is not used: its name is not that of an architecture") == 1
    assert first.stderr.replace("\n", "").isprintable()
    assert set(_listed(tmp_path)) == {app(1), app(2)}
    (root / ".multiarch/amd64" / app(1)).touch()
    os.utime(root)
    again = podman_cvmfs("sync", *places, "--offline", "--arch", "amd64")
    assert again.returncode == 0 and "is not used" not in again.stderr


def _twice(root: Path, old: str, new: str) -> tuple[str, str]:
    """Publish app0 in two directories that mean the same, in the one long after the other. Returns
    the IDs of the images in them."""
    ids = _config(root, 0, "arm64/v8", author="old"), _config(root, 1, "arm64/v8", author="new")
    _move(root, 0, old, app(0))
    _move(root, 1, new, app(0))
    os.utime(root / ".multiarch" / old / app(0), (1000, 1000), follow_symlinks=False)
    return ids


@pytest.mark.parametrize(("old", "new"), [("arm64", "arm64:v8"), ("arm64:v8", "arm64")])
@pytest.mark.parametrize("wanted", [ARM64, Platform("arm64")])
def test_of_two_directories_the_newer_link_counts(
    tmp_path: Path, old: str, new: str, wanted: Platform
) -> None:
    root = make_repository(tmp_path / "repository", 2, layers=2, shared=1)
    _, expected = _twice(root, old, new)
    assert not _sync(tmp_path, root, wanted).failed
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
    assert not _sync(tmp_path, root, ARM64).failed
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
    assert not _sync(tmp_path, root, Platform("arm64")).failed
    content = read_store(str(tmp_path / "store"))
    assert content is not None and content.names[app(0)] == expected
