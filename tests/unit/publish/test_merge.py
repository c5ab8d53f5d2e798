# SPDX-License-Identifier: Apache-2.0
"""Merging layers: whiteouts, replacements, and attributes, against trees written by hand."""

from __future__ import annotations

import contextlib
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from podman_cvmfs.lists.layer_stream import LayerStream
from podman_cvmfs.oci.documents import Descriptor, Digest
from podman_cvmfs.publish.unpack.layer import unpack
from podman_cvmfs.publish.unpack.merge import Layer, Merger
from tests.support.layers import (
    CAPABILITY,
    MTIME,
    Entry,
    directory,
    fifo,
    file,
    hardlink,
    opaque,
    symlink,
    tar,
    whiteout,
)

ROOT = os.geteuid() == 0

Merge = Callable[..., Path]


@pytest.fixture
def merge(tmp_path: Path) -> Merge:
    """Unpack some layers, merge them, return the merged root."""

    def call(*layers: list[Entry]) -> Path:
        target = tmp_path / "merged"
        target.mkdir()
        with contextlib.ExitStack() as stack:

            def opened(path: Path) -> int:
                fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
                stack.callback(os.close, fd)
                return fd

            merger = Merger(opened(target))
            for number, entries in enumerate(layers):
                place = tmp_path / f"layer{number}"
                place.mkdir()
                root = opened(place)
                data = tar(entries)
                digest = Digest.of(data)
                stream = LayerStream(iter([data]), Descriptor("", digest, len(data)), digest)
                merger.add(Layer(root, unpack(stream, root)))
            merger.finish()
        return target

    return call


def contents(root: Path) -> dict[str, str]:
    """Path -> contents of files, "/" of directories, "->" and target of links."""
    found = {}
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = f"->{os.readlink(path)}"
        else:
            found[name] = "/" if path.is_dir() else path.read_text()
    return found


BASE = [
    directory("d", 0o750, 7),
    file("d/a", "a1"),
    file("d/b", "b1"),
    directory("d/sub"),
    file("d/sub/x", "x1"),
    file("f", "f1"),
    symlink("l", "d"),
]
WHOLE = {"d": "/", "d/a": "a1", "d/b": "b1", "d/sub": "/", "d/sub/x": "x1", "f": "f1", "l": "->d"}


def changed(*gone: str, **new: str) -> dict[str, str]:
    kept = {k: v for k, v in WHOLE.items() if not any((k + "/").startswith(g + "/") for g in gone)}
    return {**kept, **{key.replace("__", "/"): value for key, value in new.items()}}


CASES: dict[str, tuple[list[list[Entry]], dict[str, str]]] = {
    "nothing changed": ([[]], WHOLE),
    "a file replaced": ([[file("d/a", "a2")]], changed(d__a="a2")),
    "a file deleted": ([[whiteout("d/a")]], changed("d/a")),
    "a directory deleted": ([[whiteout("d")]], changed("d")),
    "a link deleted, not what it leads to": ([[whiteout("l")]], changed("l")),
    "deleted and made again in one layer": (
        [[whiteout("d/a"), file("d/a", "a2")]],
        changed(d__a="a2"),
    ),
    "made, then the marker": ([[file("d/a", "a2"), whiteout("d/a")]], changed(d__a="a2")),
    "a directory emptied and made again in one layer": (
        [[whiteout("d"), directory("d"), file("d/n", "n")]],
        changed("d", d="/", d__n="n"),
    ),
    "deleted, made again above": (
        [[whiteout("d")], [file("d/n", "n")]],
        changed("d", d="/", d__n="n"),
    ),
    "a whiteout of nothing": (
        [[whiteout("nosuch"), whiteout("no/such/dir/x")]],
        WHOLE,
    ),
    "deleted with all that lies below, one by one": (
        [[whiteout("d"), whiteout("d/sub"), whiteout("d/sub/x"), whiteout("f/no")]],
        changed("d"),
    ),
    "deleted one by one, but for something new": (
        [[whiteout("d"), whiteout("d/sub"), file("d/sub/y", "y")]],
        changed("d", d="/", d__sub="/", d__sub__y="y"),
    ),
    "deleted, and an empty directory stated": (
        [[whiteout("d"), whiteout("d/sub/x"), directory("d/sub/e")]],
        changed("d", d="/", d__sub="/", d__sub__e="/"),
    ),
    "opaque": ([[directory("d"), file("d/n", "n"), opaque("d")]], changed("d", d="/", d__n="n")),
    "opaque, marker first": (
        [[opaque("d"), file("d/n", "n"), directory("d/sub"), file("d/sub/y", "y")]],
        changed("d", d="/", d__n="n", d__sub="/", d__sub__y="y"),
    ),
    "opaque in the lowest directory only": (
        [[opaque("d/sub"), file("d/sub/y", "y")]],
        changed("d/sub", d__sub="/", d__sub__y="y"),
    ),
    "opaque root": ([[opaque("."), file("n", "n")]], {"n": "n"}),
    "opaque that keeps a file of its own and a lower one goes": (
        [[opaque("d"), file("d/a", "a2")]],
        changed("d", d="/", d__a="a2"),
    ),
    "opaque over nothing": ([[opaque("new"), file("new/n", "n")]], changed(new="/", new__n="n")),
    "a directory becomes a file": ([[file("d", "now")]], changed("d", d="now")),
    "a file becomes a directory": (
        [[directory("f"), file("f/in", "i")]],
        changed("f", f="/", f__in="i"),
    ),
    "there and back": (
        [[file("d", "now")], [directory("d"), file("d/back", "b")]],
        changed("d", d="/", d__back="b"),
    ),
    "a link becomes a directory, what it led to stays": (
        [[directory("l"), file("l/in", "i")]],
        changed("l", l="/", l__in="i"),
    ),
    "a directory becomes a link": ([[symlink("d", "f")]], changed("d", d="->f")),
    "aufs' own names mean nothing": (
        [
            [
                file(".wh..wh.aufs"),
                directory(".wh..wh.plnk"),
                file(".wh..wh.plnk/1.2"),
                file(".wh..wh..tmp"),
            ]
        ],
        WHOLE,
    ),
    "a marker that is a directory": ([[directory("d/.wh.a"), file("d/.wh.a/x")]], changed("d/a")),
    "overlayfs' own whiteout": ([[Entry(b"d/a", tarfile.CHRTYPE)]], changed("d/a")),
    "an overlayfs whiteout, and made again": (
        [[Entry(b"d", tarfile.CHRTYPE)], [file("d/n", "n")]],
        changed("d", d="/", d__n="n"),
    ),
    "a whiteout of a name that begins like one": ([[file("d/.wh.x.wh.y")]], WHOLE),
}


@pytest.mark.parametrize("case", CASES)
def test_merges(merge: Merge, case: str) -> None:
    layers, expected = CASES[case]
    assert contents(merge(BASE, *layers)) == expected


def test_the_same_layer_twice(merge: Merge) -> None:
    assert contents(merge(BASE, [], [whiteout("d/a")], [], BASE)) == WHOLE


def test_hard_links_stay_and_counts_are_the_images(merge: Merge, tmp_path: Path) -> None:
    root = merge(
        [file("one", "1"), hardlink("d/two", "one"), file("alone", "x")],
        [file("three", "3"), hardlink("four", "three"), whiteout("one")],
        [file("three", "new")],
    )
    assert os.lstat(root / "alone").st_nlink == 1
    assert os.lstat(root / "d/two").st_nlink == 1
    assert (os.lstat(root / "three").st_nlink, (root / "four").read_text()) == (1, "3")
    assert os.lstat(tmp_path / "layer0/one").st_nlink == 2


def test_attributes_come_from_the_topmost_layer_that_states_them(merge: Merge) -> None:
    root = merge(
        [directory("d", 0o1777, 7), directory("e", 0o700), file("e/x", "", 0o4755, 7)],
        [file("d/implied/x"), directory("e", 0o2750, 8)],
        [file("e/y", "", 0o600, 9)],
    )
    modes = {n: stat.S_IMODE(os.lstat(root / n).st_mode) for n in ("d", "e", "e/x", "e/y")}
    assert modes == {"d": 0o1777, "e": 0o2750, "e/x": 0o4755, "e/y": 0o600}
    assert stat.S_IMODE(os.lstat(root).st_mode) == 0o755
    assert stat.S_IMODE(os.lstat(root / "d/implied").st_mode) == 0o755
    assert {os.lstat(root / n).st_mtime for n in ("d", "e", "e/x", "e/y")} == {MTIME}
    owners = [os.lstat(root / n).st_uid for n in ("d", "e", "e/x", "e/y")]
    assert owners == ([7, 8, 7, 9] if ROOT else [os.geteuid()] * 4)


def test_a_stated_root_keeps_its_mode(merge: Merge) -> None:
    root = merge([directory(".", 0o1775, 5), file("x")], [file("y")])
    assert stat.S_IMODE(os.lstat(root).st_mode) == 0o1775


def test_special_files_and_xattrs(merge: Merge) -> None:
    root = merge(
        [
            fifo("p"),
            file("cap", "c", 0o4755, 5, {"security.capability": CAPABILITY, "user.a": b"\0\xff"}),
            symlink(b"odd-\xff", b"\xe9"),
            file("empty"),
        ]
    )
    assert stat.S_ISFIFO(os.lstat(root / "p").st_mode)
    assert os.getxattr(root / "cap", "user.a") == b"\0\xff"
    if ROOT:
        assert os.getxattr(root / "cap", "security.capability") == CAPABILITY
    assert stat.S_IMODE(os.lstat(root / "cap").st_mode) == 0o4755
    assert os.readlink(os.fsencode(root) + b"/odd-\xff") == b"\xe9"
    assert os.lstat(root / "empty").st_size == 0


def test_a_foreign_layer_with_a_marker_for_the_parent_directory(tmp_path: Path) -> None:
    """``unpack`` refuses ".wh...", but the layer may be another publisher's."""
    layer, target = tmp_path / "layer", tmp_path / "target"
    for path in (layer / "d", target):
        path.mkdir(parents=True)
    for name in (".wh.", ".wh..", ".wh..."):
        (layer / "d" / name).touch()
    (tmp_path / "beside").touch()
    source = os.open(layer, os.O_RDONLY)
    fd = os.open(target, os.O_RDONLY)
    try:
        Merger(fd).add(Layer(source, frozenset()))
    finally:
        os.close(source)
        os.close(fd)
    assert sorted(os.listdir(tmp_path)) == ["beside", "layer", "target"]
    assert os.listdir(target) == ["d"]


def test_holes_stay_holes(tmp_path: Path) -> None:
    layer, target = tmp_path / "layer", tmp_path / "target"
    layer.mkdir()
    target.mkdir()
    with open(layer / "f", "wb") as out:
        out.seek(50_000_000)
        out.write(b"x")
        out.truncate(90_000_000)
    source, fd = os.open(layer, os.O_RDONLY), os.open(target, os.O_RDONLY)
    try:
        Merger(fd).add(Layer(source, frozenset()))
    finally:
        os.close(source)
        os.close(fd)
    assert os.stat(target / "f").st_size == 90_000_000
    assert os.stat(target / "f").st_blocks * 512 < 1_000_000
    assert (target / "f").read_bytes() == (layer / "f").read_bytes()
