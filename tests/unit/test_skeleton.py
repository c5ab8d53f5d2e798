# SPDX-License-Identifier: Apache-2.0
"""The directories that rootless podman must own."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from podman_cvmfs.markers import scan
from podman_cvmfs.oci import ImageConfig, parse_config
from podman_cvmfs.skeleton import ShownRoot, skeleton_of
from podman_cvmfs.tree import Tree


def config(**runtime: object) -> ImageConfig:
    return parse_config(json.dumps({"config": runtime, "rootfs": {"diff_ids": []}}).encode())


def root(path: Path, *directories: str, files: tuple[str, ...] = ()) -> ShownRoot:
    for directory in ("", *directories):
        (path / directory).mkdir(parents=True, exist_ok=True)
    for file in files:
        (path / file).parent.mkdir(parents=True, exist_ok=True)
        (path / file).touch()
    tree = Tree(str(path))
    return ShownRoot(tree, scan(tree))


def paths(*roots: ShownRoot, of: ImageConfig | None = None) -> list[str]:
    return [each.path for each in skeleton_of(roots, of or config())]


def test_only_what_is_there_and_parents_first(tmp_path: Path) -> None:
    found = paths(root(tmp_path, "etc", "var/lib", "usr/share/doc", "tmp"))
    assert found == ["", "etc", "tmp", "usr", "var", "var/lib"]


def test_links_lead_nowhere_outside(tmp_path: Path) -> None:
    """Neither by themselves nor as a lower layer's part of a directory that an upper one has."""
    (tmp_path / "secret/lib").mkdir(parents=True)
    lower = root(tmp_path / "lower", "etc")
    (tmp_path / "lower/var").symlink_to(tmp_path / "secret")
    assert paths(lower) == ["", "etc"]
    assert paths(root(tmp_path / "upper", "var"), lower) == ["", "etc", "var"]


def test_modes_are_the_images(tmp_path: Path) -> None:
    shown = root(tmp_path, "tmp", "root")
    os.chmod(tmp_path / "tmp", 0o1777)
    os.chmod(tmp_path / "root", 0o700)
    modes = {each.path: each.mode for each in skeleton_of([shown], config())}
    assert (modes["tmp"], modes["root"]) == (0o1777, 0o700)


def test_what_the_config_names(tmp_path: Path) -> None:
    shown = root(tmp_path, "opt/app/work", "data/deep", "home/me", "etc")
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nme:x:7:7::/home/me:/bin/sh\n")
    wishes = config(
        WorkingDir="/opt/app/work", Volumes={"/data/deep": {}, "/none": {}}, User="me:7"
    )
    found = paths(shown, of=wishes)
    assert {"opt", "opt/app", "opt/app/work", "data", "data/deep", "home/me"} <= set(found)
    assert "home/me" in paths(shown, of=config(User="7"))
    assert "none" not in found
    modes = {each.path: each.mode for each in skeleton_of([shown], wishes)}
    assert modes["opt/app/work"] == modes["home/me"] == 0o1777, "the user's own places"
    assert modes["opt/app"] == modes["data/deep"] == 0o755
    as_root = {each.path: each.mode for each in skeleton_of([shown], config(WorkingDir="/opt/app"))}
    assert as_root["opt/app"] == 0o755


def test_links_are_followed_inside_the_root(tmp_path: Path) -> None:
    outside = tmp_path / "outside/secret"
    outside.mkdir(parents=True)
    shown = root(tmp_path / "image", "usr/work", "run")
    (tmp_path / "image/work").symlink_to("/usr/work")
    (tmp_path / "image/var").mkdir()
    (tmp_path / "image/var/run").symlink_to("../run")
    (tmp_path / "image/loop").symlink_to("loop")
    (tmp_path / "image/out").symlink_to("../../outside")
    for name in ("/work", "/loop", "/out/secret", "/../../outside/secret"):
        found = paths(shown, of=config(WorkingDir=name))
        assert ("usr/work" in found) == (name == "/work")
        assert not any("outside" in path or "secret" in path for path in found)


def test_what_the_user_may_not_enter_is_shown_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = root(tmp_path, "root", "var/lib/private", "var/lib/open", "usr/deep/closed")

    def access(path: str, mode: int) -> bool:
        return not path.endswith(("/root", "/private", "/closed"))

    monkeypatch.setattr(os, "access", access)
    found = {each.path: each.readable for each in skeleton_of([shown], config())}
    assert found["root"] is False and found["var/lib/private"] is False
    assert "var/lib/open" not in found and "usr/deep/closed" not in found, "nothing is walked"
    closer = {e.path: e.readable for e in skeleton_of([shown], config(), ["usr/deep/closed"])}
    assert closer["usr/deep/closed"] is False


@pytest.mark.parametrize("closed", ["top", "base"])
def test_what_one_layer_closes_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    """Overlayfs must be able to read a directory in every layer that has it."""
    base, top = root(tmp_path / "base", "root", "etc"), root(tmp_path / "top", "root", "var")
    monkeypatch.setattr(os, "access", lambda path, mode: not path.endswith(f"{closed}/root"))
    found = {each.path: each.readable for each in skeleton_of([top, base], config())}
    assert found == {"": True, "etc": True, "root": False, "var": True}


def test_what_a_lower_layer_has_in_a_directory_s_place_closes_nothing(tmp_path: Path) -> None:
    base = root(tmp_path / "base", files=("var/spool",))
    (tmp_path / "base/opt").symlink_to("nowhere")
    top = root(tmp_path / "top", "opt", "var/spool")
    assert all(each.readable for each in skeleton_of([top, base], config()))


def test_layers_are_asked_as_they_show(tmp_path: Path) -> None:
    """A directory that a higher layer deletes, replaces or hides is no part of the image."""
    base = root(tmp_path / "base", "opt", "srv", "var/lib", "mnt", "etc", "home/x")
    top = root(
        tmp_path / "top",
        "var/lib",
        files=(".wh.opt", "srv", "var/.wh..wh..opq", "home/.wh.x", "var/lib/new"),
    )
    found = paths(top, base, of=config(Volumes={"/home/x": {}, "/var/lib": {}}))
    assert found == ["", "etc", "home", "mnt", "var", "var/lib"]
    assert "opt" in paths(base)


def test_a_deleted_directory_of_which_only_markers_are_left(tmp_path: Path) -> None:
    base = root(tmp_path / "base", "var/lib/data")
    top = root(tmp_path / "top", files=("var/.wh.lib", "var/lib/.wh.data"))
    assert paths(top, base) == ["", "var"]


@pytest.mark.parametrize("home", [b"/home/\0me", b"/home/\xed\xa0\x80"])
def test_a_home_that_no_directory_can_be_called(tmp_path: Path, home: bytes) -> None:
    shown = root(tmp_path, "etc", "home")
    (tmp_path / "etc/passwd").write_bytes(b"me:x:7:7::" + home + b":/bin/sh\n")
    assert paths(shown, of=config(User="me")) == ["", "etc", "home"]
