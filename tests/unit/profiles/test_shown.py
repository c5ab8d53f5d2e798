# SPDX-License-Identifier: Apache-2.0
"""Where an image's files are, by the directories that show it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from podman_cvmfs.errors import InputError
from podman_cvmfs.profiles.shown import ShownImage, shown_image
from podman_cvmfs.settings.policy import DEFAULT_POLICY, View
from podman_cvmfs.store.records import StoreContent, StoredLayer
from tests.support.required import required
from tests.support.world import World, app


@pytest.fixture
def roots(tmp_path: Path) -> tuple[Path, Path]:
    """The upper and the lower root of an image."""
    upper, lower = tmp_path / "upper", tmp_path / "lower"
    for path in (upper / "etc", upper / "opt", lower / "etc", lower / "opt/x", lower / "usr/bin"):
        path.mkdir(parents=True)
    (lower / "etc/low").write_text("low")
    (lower / "etc/both").write_text("low")
    (upper / "etc/both").write_text("up")
    (lower / "usr/bin/real").write_text("real")
    (lower / "usr/bin/link").symlink_to("real")
    (lower / "bin").symlink_to("usr/bin")
    (lower / "absolute").symlink_to("/bin/link")
    (lower / "loop").symlink_to("loop")
    (lower / "out").symlink_to("../../../../etc/low")
    (lower / "opt/x/below").write_text("below")
    return upper, lower


@pytest.fixture
def shown(roots: tuple[Path, Path]) -> ShownImage:
    return ShownImage(tuple(map(str, roots)))


def test_the_nearest_file_counts(shown: ShownImage, roots: tuple[Path, Path]) -> None:
    upper, lower = roots
    assert shown.locate("etc/both") == f"{upper}/etc/both"
    assert shown.locate("etc/low") == f"{lower}/etc/low"
    assert shown.locate("etc/none") is None
    assert shown.locate("none/none") is None


def test_only_regular_files_count(shown: ShownImage, roots: tuple[Path, Path]) -> None:
    os.mkfifo(roots[0] / "etc/pipe")
    for path in ("etc", "etc/pipe", "loop", "bin/real", "usr/bin/link"):
        assert shown.locate(path) is None


def test_links_are_those_of_the_image(shown: ShownImage) -> None:
    assert shown.resolve("/absolute") == "usr/bin/real"
    assert shown.resolve("link", beside="/bin") == "usr/bin/real"
    assert shown.resolve("/out") == "etc/low"
    assert shown.resolve("/usr/bin/../../etc/both") == "etc/both"
    for path in ("/loop", "/none", "/etc", "/", "/etc/low/deeper"):
        assert shown.resolve(path) is None


def test_deletions_count(shown: ShownImage, roots: tuple[Path, Path]) -> None:
    if os.geteuid() != 0:
        required("only root makes whiteouts")
    upper, _ = roots
    os.mknod(upper / "etc/low", 0o20000 | 0o600, os.makedev(0, 0))
    os.setxattr(upper / "opt", "trusted.overlay.opaque", b"y")
    assert shown.locate("etc/low") is None
    assert shown.locate("opt/x/below") is None


def test_a_file_hides_a_directory(roots: tuple[Path, Path]) -> None:
    upper, lower = roots
    (upper / "opt/x").write_text("a file")
    assert ShownImage((str(upper), str(lower))).locate("opt/x/below") is None


def test_a_deep_path_is_nothing(shown: ShownImage) -> None:
    assert shown.locate("/".join("a" * 2000)) is None
    assert shown.locate("/".join(["etc"] * 2000)) is None


def test_the_names_of_all_roots_are_listed(shown: ShownImage) -> None:
    assert shown.list("etc") == ["both", "low"]
    assert shown.list("none") == []


@pytest.mark.parametrize("view", [View.FLAT, View.LAYERS])
def test_an_image_of_a_store(tmp_path: Path, view: View) -> None:
    world = World(tmp_path)
    world.make("repository", 1)
    (world.flat(0) / "tmp/file").write_text("x")
    (layer := sorted(world.repository.glob(".layers/*/*/layerfs"))[0]).joinpath("file").touch()
    world.sync(policy=replace(DEFAULT_POLICY, view=view))
    shown = shown_image(world.store.path, world.content, world.stored(app(0)))
    if view is View.FLAT:
        assert shown.locate("tmp/file") == os.path.realpath(world.flat(0) / "tmp/file")
    else:
        assert shown.locate("file") == f"{layer}/file"


def test_an_exact_layer_shows_the_files_that_its_metadata_name(tmp_path: Path) -> None:
    overlay = tmp_path / "other/.current/overlay"
    for piece in "pq":
        (overlay / piece / "composefs-data").mkdir(parents=True)
    files = tmp_path / "layerfs"
    files.mkdir()
    (files / "file").touch()
    (overlay / "p/diff").mkdir()
    (overlay / "p/files").symlink_to(files)
    (overlay / "q/diff").symlink_to(tmp_path)
    world = World(tmp_path)
    world.make("repository", 1)
    world.sync()
    image = world.stored(app(0))
    layer = StoredLayer(image.top_layer or "", "entry", None, 1, exact=True, lowers=("p", "q"))
    content = StoreContent(layers={layer.layer_id: layer})
    found = shown_image(str(tmp_path / "other"), content, image)
    assert found.roots == (str(files),) and found.locate("file") == f"{files}/file"


def test_an_image_without_files_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.make("repository", 1)
    world.sync()
    image = world.stored(app(0))
    content = world.content
    with pytest.raises(InputError, match="no files"):
        shown_image(world.store.path, type(content)(images=content.images), image)
