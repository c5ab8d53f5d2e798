# SPDX-License-Identifier: Apache-2.0
"""Local copies of an image's account files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from podman_cvmfs.errors import RepositoryError
from podman_cvmfs.oci.documents import parse_config
from podman_cvmfs.repository.tree import Tree, UnreadableError
from podman_cvmfs.repository.whiteouts import scan
from podman_cvmfs.resolve.accounts import copies_of
from podman_cvmfs.resolve.shown import ShownRoot, Stack
from podman_cvmfs.resolve.skeleton import Terms, skeleton_of
from podman_cvmfs.store.records import Node

PASSWD = "root:x:0:0::/root:/bin/sh\nme:x:7:7::/home/me:/bin/sh\n"
GROUP = "root:x:0:\nstaff:x:50:me,root\n"


def root(path: Path, **files: str) -> ShownRoot:
    """A root with these files in ``etc``."""
    (path / "etc").mkdir(parents=True)
    for name, text in files.items():
        (path / "etc" / name.replace("_", "-")).write_text(text)
    tree = Tree(str(path))
    return ShownRoot(tree, scan(tree))


def copies(*roots: ShownRoot) -> dict[str, Node]:
    return {each.path: each for each in copies_of(Stack(roots))}


def close(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Keep these files in ``etc`` from the user."""
    plain = Tree.read_head

    def read_head(self: Tree, relative: str, count: int) -> bytes | None:
        if relative in {f"etc/{name}" for name in names}:
            raise UnreadableError("closed")
        return plain(self, relative, count)

    monkeypatch.setattr(Tree, "read_head", read_head)


def test_what_is_there_is_copied_as_it_is(tmp_path: Path) -> None:
    shown = root(tmp_path, passwd=PASSWD, passwd_=PASSWD, group=GROUP, hosts="x")
    os.chmod(tmp_path / "etc/group", 0o664)
    os.utime(tmp_path / "etc/group", ns=(5, 6_000_000_007))
    found = copies(shown)
    assert set(found) == {"etc/passwd", "etc/passwd-", "etc/group"}
    assert found["etc/passwd"].content == PASSWD.encode()
    group = Node("etc/group", mode=0o664, mtime_ns=6_000_000_007, content=GROUP.encode())
    assert found["etc/group"] == group


def test_closed_files_give_no_password_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = root(
        tmp_path, passwd=PASSWD, group=GROUP, shadow="root:s", shadow_="s", gshadow="root:s"
    )
    (tmp_path / "etc/.pwd.lock").touch()
    close(monkeypatch, "shadow", "shadow-", "gshadow", ".pwd.lock")
    found = copies(shown)
    assert found["etc/shadow"].content == b"root:*:::::::\nme:*:::::::\n"
    assert found["etc/gshadow"].content == b"root:*::\nstaff:*::me,root\n"
    assert found["etc/shadow-"] == Node("etc/shadow-", is_whiteout=True)
    assert found["etc/.pwd.lock"].content == b""


def test_links_and_what_is_too_large_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    shown = root(tmp_path / "image", group="x" * (1024 * 1024 + 1))
    (tmp_path / "image/etc/passwd").symlink_to(tmp_path / "secret")
    (tmp_path / "image/etc/shadow").mkdir()
    os.mkfifo(tmp_path / "image/etc/subuid")
    assert copies(shown) == {}


def test_of_layers_the_file_that_shows_is_copied(tmp_path: Path) -> None:
    base = root(tmp_path / "base", passwd="old", group=GROUP, subuid="old")
    top = root(tmp_path / "top", passwd=PASSWD)
    (tmp_path / "top/etc/.wh.subuid").touch()
    found = copies(ShownRoot(top.tree, scan(top.tree)), base)
    assert set(found) == {"etc/passwd", "etc/group"}
    assert found["etc/passwd"].content == PASSWD.encode()


def test_a_read_that_fails_is_no_absent_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = root(tmp_path, passwd=PASSWD)

    def fail(self: Tree, relative: str, count: int) -> bytes | None:
        raise RepositoryError("Input/output error")

    monkeypatch.setattr(Tree, "read_head", fail)
    with pytest.raises(RepositoryError):
        copies(shown)


def test_what_apt_and_dpkg_lock_is_copied_where_its_directory_is_local(tmp_path: Path) -> None:
    shown = root(tmp_path)
    for path in ("var/lib/dpkg/lock", "var/lib/dpkg/triggers/Lock", "var/lib/apt/lists/lock"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch(mode=0o640)
    config = parse_config(b'{"rootfs": {"diff_ids": []}}')
    found = skeleton_of([shown], Terms(uid=1000, stranger=True), config)
    assert {"var/lib/dpkg", "var/lib/dpkg/triggers"} <= {each.path for each in found.directories}
    files = {each.path: (each.mode, each.content) for each in found.files}
    assert files == dict.fromkeys(
        ("var/lib/dpkg/lock", "var/lib/dpkg/triggers/Lock", "var/lib/apt/lists/lock"),
        (0o640, b""),
    )
    (tmp_path / "var/lib/dpkg").chmod(0o700)
    shared = Terms(uid=1000, stranger=True, shared=True)
    paths = [each.path for each in skeleton_of([shown], shared, config).files]
    assert paths == ["var/lib/apt/lists/lock"]


@pytest.mark.parametrize("stranger", [True, False])
def test_only_files_of_a_stranger_are_copied(tmp_path: Path, stranger: bool) -> None:
    shown = root(tmp_path, passwd=PASSWD)
    os.chmod(tmp_path / "etc/passwd", 0o666)
    config = parse_config(b'{"rootfs": {"diff_ids": []}}')
    terms = Terms(uid=1000, stranger=stranger, shared=True)
    found = skeleton_of([shown], terms, config).files
    assert [(each.path, each.mode) for each in found] == [("etc/passwd", 0o644)] * stranger
    assert not skeleton_of([shown], terms).files, "a layer by itself has no users"
