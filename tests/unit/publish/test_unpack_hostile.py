# SPDX-License-Identifier: Apache-2.0
"""Hostile layers: they are refused, and change nothing beside their own tree."""

from __future__ import annotations

import contextlib
import os
import random
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from podman_cvmfs.errors import InputError
from tests.support.layers import (
    Entry,
    directory,
    fifo,
    file,
    hardlink,
    opaque,
    pax,
    symlink,
    tar,
    whiteout,
)
from tests.support.trees import snapshot
from tests.support.unpacking import END, Unpack, entry, unpack_into


@pytest.mark.parametrize(
    "name",
    [
        "../outside/evil",
        "a/../../outside/evil",
        "..",
        "a/..",
        "a/b/../..",
        "a/../..",
        "a/../../a/x",
        "/../outside/evil",
        "./../outside/evil",
    ],
)
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE])
def test_dot_dot_is_refused(
    do: Unpack, tmp_path: Path, outside: Path, name: str, kind: bytes
) -> None:
    before = snapshot(outside)
    with pytest.raises(InputError, match=r"\.\."):
        do([Entry(name.encode(), kind, target=b"x")])
    assert snapshot(outside) == before


def escapes(outside: Path) -> dict[str, list[Entry]]:
    """Ways out that begin with a link; whether refused or confined, nothing outside changes."""
    up = "../" * 30 + str(outside).lstrip("/")
    there = str(outside)
    return {
        "through an absolute link": [symlink("l", there), file("l/file", "evil")],
        "through a relative link": [symlink("l", up), file("l/file", "evil")],
        "through a link to a link": [symlink("a", "b"), symlink("b", up), file("a/file", "evil")],
        "through a link in a directory": [symlink("d/l", up), file("d/l/dir/x", "evil")],
        "a file over a link": [symlink("l", f"{there}/file"), file("l", "evil")],
        "a directory over a link": [symlink("l", f"{there}/dir"), directory("l", 0o777)],
        "below a directory over a link": [
            symlink("l", f"{there}/dir"),
            directory("l", 0o777),
            file("l/x"),
        ],
        "a directory's attributes through a link": [
            directory("d", 0o777),
            directory("d/dir", 0o777),
            symlink("d", there),
        ],
        "attributes of a directory implied below a link": [file("d/dir/x"), symlink("d", there)],
        "a fifo over a link": [symlink("l", f"{there}/file"), fifo("l")],
        "a hard link through a link": [
            symlink("l", there),
            hardlink("h", "l/file"),
            file("h", "evil"),
        ],
        "a hard link to a link": [
            symlink("l", f"{there}/file"),
            hardlink("h", "l"),
            file("h", "evil"),
        ],
        "a hard link out": [hardlink("h", f"{up}/file"), file("h", "evil")],
        "an absolute hard link out": [hardlink("h", f"{there}/file"), file("h", "evil")],
        "a hard link into a link": [
            file("x", "evil"),
            symlink("l", there),
            hardlink("l/file", "x"),
        ],
        "a removal through a link": [symlink("l", there), file("l/dir", "evil")],
        "a whiteout through a link": [symlink("l", there), whiteout("l/file"), opaque("l")],
        "a link replaced under an open directory": [
            directory("d"),
            file("d/x"),
            symlink("d", there),
            file("d/file", "evil"),
        ],
        "the root as a link": [symlink(".", there), file("file", "evil")],
        "a loop of links": [symlink("a", "b"), symlink("b", "a"), file("a/x")],
        "a link to itself": [symlink("a", "a/a/a/a"), file("a/x")],
        "a link to the parent": [symlink("d/up", ".."), file("d/up/d/up/../../x")],
        "xattrs over a link": [
            symlink("l", f"{there}/file"),
            file("l", "", 0o644, 0, {"user.evil": b"1"}),
        ],
    }


@pytest.mark.parametrize("case", list(escapes(Path("/"))))
def test_nothing_outside_is_touched(do: Unpack, outside: Path, root: Path, case: str) -> None:
    before = snapshot(outside), os.stat(outside).st_mode, os.stat(root.parent).st_mode
    beside = sorted(os.listdir(root.parent))
    with contextlib.suppress(InputError):
        do(escapes(outside)[case])
    assert (snapshot(outside), os.stat(outside).st_mode, os.stat(root.parent).st_mode) == before
    assert sorted(os.listdir(root.parent)) == beside
    assert not os.listxattr(outside / "file")


def test_links_are_resolved_inside_the_tree(do: Unpack, root: Path) -> None:
    """As in a chroot, where podman unpacks; images with /lib a link do come like this."""
    do(
        [
            directory("usr/lib"),
            symlink("lib", "usr/lib"),
            file("lib/a", "1"),
            symlink("abs", "/usr"),
            file("abs/lib/b", "2"),
            symlink("usr/up", "../../../.."),
            file("usr/up/top", "3"),
            hardlink("h", "lib/a"),
        ]
    )
    assert (root / "usr/lib/a").read_text() == "1"
    assert (root / "usr/lib/b").read_text() == "2"
    assert (root / "top").read_text() == "3"
    assert os.lstat(root / "usr/lib/a").st_nlink == 2


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([file("f"), file("f/x")], "used as a directory"),
        ([hardlink("h", "missing")], "not there"),
        ([directory("d"), hardlink("h", "d")], "not there"),
        ([hardlink("h", "/")], "not there"),
        ([symlink("s", "")], "impossible name"),
        ([file(".wh.")], "whiteout of nothing"),
        ([file("d/.wh..")], "whiteout of nothing"),
        ([file("d/.wh...")], "whiteout of nothing"),
        ([file("/")], "root directory"),
        ([Entry(b"x", b"Z")], "unknown type"),
    ],
)
def test_refused(do: Unpack, entries: list[Entry], message: str) -> None:
    with pytest.raises(InputError, match=message):
        do(entries)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pax({"path": b"a\0b"}) + entry(name="x"), "impossible name"),
        (pax({"path": b"x" * 5000}) + entry(name="x"), "impossible name"),
        (entry(name="x", uid=-5), "impossible owner"),
        (entry(name="x", gid=2**40), "impossible owner"),
        (pax({"size": b"-5"}) + entry(name="x"), "impossible size|contradict|invalid offset"),
        (pax({"path": b"alone"}), "damaged"),
        (b"garbage" * 200, "damaged"),
        (entry(name="ok") + b"garbage" * 200 + END, "damaged"),
        (pax({"GNU.sparse.map": b"5,junk", "GNU.sparse.size": b"9"}) + entry(name="x"), "damaged"),
        (b"".join(pax({"comment": b"x"}) for _ in range(3000)) + entry(name="x"), "damaged"),
    ],
)
def test_nonsense_headers(do: Unpack, data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        do(data + END)


def test_truncated(do: Unpack) -> None:
    with pytest.raises(InputError, match="too early"):
        do(entry(name="x", data=b"1234")[:514])


def test_a_size_beyond_reason_is_no_memory_bomb(do: Unpack) -> None:
    info = tarfile.TarInfo("PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, 8 << 30
    with pytest.raises(InputError, match="extended header"):
        do(info.tobuf(tarfile.GNU_FORMAT) + END)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32), st.integers(1, 12))
def test_mutated_tars_only_raise_input_errors(
    tmp_path_factory: pytest.TempPathFactory, seed: int, changes: int
) -> None:
    chance = random.Random(seed)
    data = bytearray(
        pax({"path": b"p\xe9", "mtime": b"1.5"})
        + entry(name="x", data=b"12")
        + tar([directory("d"), symlink("d/l", "../x"), hardlink("h", "x"), file("y" * 150)])
    )
    for _ in range(changes):
        start = chance.randrange(0, len(data) - 1024, 512)
        header = data[start : start + 512]
        header[chance.randrange(512)] = chance.randrange(256)
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        data[start : start + 512] = header
    root = tmp_path_factory.mktemp("fuzz")
    try:
        unpack_into(root, bytes(data))
    except InputError:
        pass
    except OSError as err:
        # A mutated owner, size or device that the file system can't take.
        assert err.errno is not None
