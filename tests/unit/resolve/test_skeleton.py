# SPDX-License-Identifier: Apache-2.0
"""The local directories above an image's files."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from podman_cvmfs.oci.documents import ImageConfig, parse_config
from podman_cvmfs.repository.tree import Tree
from podman_cvmfs.repository.whiteouts import scan
from podman_cvmfs.resolve.shown import ShownRoot
from podman_cvmfs.resolve.skeleton import Skeleton, Terms, skeleton_of
from podman_cvmfs.store.records import Node

#: An ordinary user, to whom the files are a stranger's.
STRANGER = Terms(uid=1000, stranger=True)
USER = Terms(uid=1000)


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
    return [each.path for each in skeleton_of(roots, STRANGER, of or config()).directories]


def nodes(found: Skeleton) -> dict[str, Node]:
    return {each.path: each for each in found.directories}


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
    for terms in (Terms(), USER, STRANGER):
        found = nodes(skeleton_of([shown], terms, config()))
        assert (found["tmp"].mode, found["root"].mode) == (0o1777, 0o700)


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
    for terms in (STRANGER, USER):
        mine = nodes(skeleton_of([shown], terms, wishes))
        for own in ("opt/app/work", "home/me", "data/deep"):
            assert mine[own].mode == 0o1777, "the user's own places"
        assert mine["opt/app"].mode == mine["data"].mode == 0o755
        of_root = config(WorkingDir="/opt/app", Volumes={"/data/deep": {}})
        as_root = nodes(skeleton_of([shown], terms, of_root))
        assert as_root["opt/app"].mode == as_root["data/deep"].mode == 0o755
        shared = skeleton_of([shown], replace(terms, shared=True), wishes)
        layer = skeleton_of([shown], terms)
        assert 0o1777 not in {node.mode for node in (*shared.directories, *layer.directories)}
    roots = nodes(skeleton_of([shown], Terms(), wishes))
    assert roots["opt/app/work"].mode == 0o755, "root can give them away"


def test_what_something_would_be_made_in_is_there(tmp_path: Path) -> None:
    """podman makes a mount point, a volume or a working directory that an image lacks."""
    shown = root(tmp_path, "srv/deep/er", "data/inner", files=("opt/file",))
    terms = Terms(mounts=("/data/inner/mount/point", "/opt/file", "relative"))
    found = nodes(skeleton_of([shown], terms, config(WorkingDir="/srv/deep/er/new/work")))
    assert {"srv/deep/er", "data/inner", "opt"} <= set(found)
    assert "opt/file" not in found and "srv/deep/er/new" not in found


def owned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owners: dict[str, int]) -> ShownRoot:
    """A root of directories with these owners, by path; everything else is user 999's."""
    shown = root(tmp_path, *owners, "etc")
    (tmp_path / "etc/passwd").write_text("app:x:1002:1003::/home/app:/bin/sh\n")
    plain = Tree.lstat

    def lstat(self: Tree, path: str) -> os.stat_result | None:
        found = plain(self, path)
        if found is None:
            return None
        uid = owners.get(path, 999)
        return os.stat_result((*found[:4], uid, uid, *found[6:]))

    monkeypatch.setattr(Tree, "lstat", lstat)
    return shown


def test_owners_are_the_images_where_they_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = owned(tmp_path, monkeypatch, {"": 0, "home/app": 1002, "var": 0, "opt": 7})
    found = nodes(skeleton_of([shown], Terms(), config(User="app")))
    owner = {path: (node.owner or (None,))[0] for path, node in found.items()}
    assert owner == {"": 0, "etc": 999, "home": 999, "home/app": 1002, "opt": 7, "var": 0}
    users = skeleton_of([shown], USER, config(User="app"))
    assert {node.owner for node in users.directories} == {None}, "who can give nothing away"


@pytest.mark.parametrize(
    ("user", "expected"), [("app", (1002, 1003)), ("1002", (1002, 1003)), ("app:7", (1002, 7))]
)
def test_one_owner_for_all_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: str, expected: tuple[int, int]
) -> None:
    """As a CernVM-FS client shows them by default. Then all are root's but the image's user's."""
    shown = owned(tmp_path, monkeypatch, {"home/app": 999, "work": 999, "var": 999})
    found = nodes(skeleton_of([shown], Terms(), config(User=user, WorkingDir="/work")))
    assert found["home/app"].owner == found["work"].owner == expected
    assert {found[path].owner for path in ("", "etc", "var", "home")} == {(0, 0)}


def test_nobody_else_can_write_in_a_shared_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the image wants otherwise is left to the repository, unless each start needs it."""
    names = {"": 0, "etc": 0, "var": 0, "tmp": 0, "run": 0, "root": 0, "home": 0, "home/app": 1002}
    shown = owned(tmp_path, monkeypatch, {**names, "var/tmp": 0, "srv": 7})
    for name, mode in (("tmp", 0o1777), ("var/tmp", 0o1777), ("run", 0o1777), ("root", 0o700)):
        os.chmod(tmp_path / name, mode)
    found = nodes(skeleton_of([shown], Terms(shared=True), config(User="app")))
    assert set(found) == {"", "etc", "home", "run", "var"}
    assert found["run"].mode == 0o1755
    for node in found.values():
        assert not node.mode & 0o022 and node.mode & 0o555 == 0o555 and node.owner is None


def test_a_lost_sticky_bit_is_put_back(tmp_path: Path) -> None:
    shown = root(tmp_path, "tmp", "var/tmp", "etc")
    os.chmod(tmp_path / "var/tmp", 0o777)
    found = nodes(skeleton_of([shown], Terms(), wanted=(), lost_sticky=["var/tmp"]))
    assert set(found) == {"", "var", "var/tmp"} and found["var/tmp"].mode == 0o1777


def test_times_are_the_images_or_none(tmp_path: Path) -> None:
    shown = root(tmp_path, "etc")
    os.utime(tmp_path / "etc", ns=(5, 6_000_000_007))
    assert nodes(skeleton_of([shown], Terms()))["etc"].mtime_ns == 6_000_000_007
    assert nodes(skeleton_of([shown], Terms(), dated=False))["etc"].mtime_ns is None


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
    found = skeleton_of([shown], STRANGER, config())
    assert {"root", "var/lib/private"} == set(found.closed) <= set(nodes(found))
    assert {"var/lib/open", "usr/deep/closed"}.isdisjoint(nodes(found)), "nothing is walked"
    closer = skeleton_of([shown], STRANGER, config(), unread=["usr/deep/closed"])
    assert "usr/deep/closed" in closer.closed and "usr/deep/closed" in nodes(closer)
    assert not skeleton_of([shown], Terms(), config()).closed, "root reads everything"


@pytest.mark.parametrize("closed", ["top", "base"])
def test_what_one_layer_closes_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    """Overlayfs must be able to read a directory in every layer that has it."""
    base, top = root(tmp_path / "base", "root", "etc"), root(tmp_path / "top", "root", "var")
    monkeypatch.setattr(os, "access", lambda path, mode: not path.endswith(f"{closed}/root"))
    found = skeleton_of([top, base], STRANGER, config())
    assert set(nodes(found)) == {"", "etc", "root", "var"} and found.closed == ("root",)


def test_what_a_lower_layer_has_in_a_directory_s_place_closes_nothing(tmp_path: Path) -> None:
    base = root(tmp_path / "base", files=("var/spool",))
    (tmp_path / "base/opt").symlink_to("nowhere")
    top = root(tmp_path / "top", "opt", "var/spool")
    assert not skeleton_of([top, base], STRANGER, config()).closed


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


def test_what_everybody_may_write_in_is_the_user_s(tmp_path: Path) -> None:
    shown = root(tmp_path, "srv/open", "srv/plain", "usr/deep/open", "var/lib/apt/lists/partial")
    for name in ("srv/open", "usr/deep/open"):
        os.chmod(tmp_path / name, 0o1777)
    found = nodes(skeleton_of([shown], STRANGER, config()))
    assert found["srv/open"].mode == 0o1777
    assert "var/lib/apt/lists/partial" in found and "srv/plain" not in found
    assert "usr/deep/open" not in found, "nothing is walked"
    assert "srv/open" not in nodes(skeleton_of([shown], Terms(), config()))


def test_files_of_cvmfs_itself_are_hidden(tmp_path: Path) -> None:
    """CernVM-FS 2.14's bundles. One that belongs to no file is the image's own."""
    bundles = (".cvmfsbundle-run.sh", "etc/.cvmfsbundle-passwd", "usr/bin/.cvmfsbundle-python3")
    own = ("run.sh", "etc/passwd", "usr/bin/python3", "etc/.cvmfsbundle-other")
    shown = root(tmp_path, "etc", "usr/bin", files=(*bundles, *own))
    found = skeleton_of([ShownRoot(shown.tree)], Terms(), config())
    assert found.bundles == bundles[:1], "listing others would cost too much"
    assert shown.markers.files == bundles, "a layer's directories are all listed anyway"
    assert shown.markers.hidden == ()
    assert not shown.markers.is_complete, "a pull must not take such a layer for the genuine one"
