# SPDX-License-Identifier: Apache-2.0
"""File lists as composefs-dump(5) lines."""

from __future__ import annotations

import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podman_cvmfs.errors import InputError
from podman_cvmfs.lists.dump import read, write
from podman_cvmfs.lists.entry import OPAQUE, Entry, list_order

_ROOT = Entry("", stat.S_IFDIR | 0o755)
_ROOT_LINE = b"/ 0 40755 2 0 0 0 0.0 - - -\n"

#: composefs 1.0's own example in man/composefs-dump.md, without digests and content, in list order.
_EXAMPLE = rb"""/ 4096 40755 4 1000 1000 0 1695372970.944925700 - - - security.selinux=unconfined_u:object_r:unlabeled_t:s0\x00
/a\x20dir\x20w\x20space 27 40755 2 1000 1000 0 1694598852.869646118 - - -
/a-dir 45 40755 2 1000 1000 0 1674041780.601887980 - - -
/a-dir/a-file 259 100644 2 1000 1000 0 1695368732.385062094 35/d02f81325122d77ec1d11baba6 - -
/a-hardlink 259 @100644 2 1000 1000 0 1695368732.385062094 /a-dir/a-file - -
"""  # noqa: E501


def _read(data: bytes) -> list[Entry]:
    return list(read(data.splitlines(keepends=True), "the list"))


def test_the_format_is_composefs_own() -> None:
    root, space, directory, file, link = _read(_EXAMPLE)
    assert root.xattrs == (("security.selinux", b"unconfined_u:object_r:unlabeled_t:s0\0"),)
    assert root.path == "" and root.mtime_ns == 1695372970944925700
    assert space.path == "a dir w space" and space.is_directory and directory.size == 0
    assert (file.backing, file.hardlink) == ("35/d02f81325122d77ec1d11baba6", None)
    assert (link.backing, link.hardlink) == (None, "a-dir/a-file")


def test_what_is_written() -> None:
    entries = [
        Entry("", _ROOT.mode, mtime_ns=-1, xattrs=(("user.a=b", b"= \xff"),)),
        Entry("-", stat.S_IFLNK | 0o777, target="-", size=1),
        Entry("a b", stat.S_IFDIR | 0o1777, 1, 2, xattrs=((OPAQUE, b"y"),)),
        Entry("a b/data", stat.S_IFREG | 0o4755, size=3, backing="a b/data"),
        Entry("c", stat.S_IFREG | 0o4755, size=3, hardlink="a b/data"),
        Entry("d\udcff", stat.S_IFCHR),
    ]
    lines = [*write(entries)]
    assert lines == [
        rb"/ 0 40755 3 0 0 0 -1.999999999 - - - user.a\x3db=\x3d\x20\xff" + b"\n",
        b"/- 1 120777 1 0 0 0 0.0 \\x2d - -\n",
        b"/a\\x20b 0 41777 2 1 2 0 0.0 - - - trusted.overlay.opaque=y\n",
        b"/a\\x20b/data 3 104755 2 0 0 0 0.0 a\\x20b/data - -\n",
        b"/c 3 @104755 2 0 0 0 0.0 /a\\x20b/data - -\n",
        b"/d\\xff 0 20000 1 0 0 0 0.0 - - -\n",
    ]
    assert [*read(lines, "the list")] == entries
    assert entries[2].is_opaque and entries[-1].is_whiteout


_NAMES = st.binary(min_size=1, max_size=6).map(
    lambda name: os.fsdecode(name.replace(b"\0", b"0").replace(b"/", b"-"))
)
_PATHS = st.lists(_NAMES.filter(lambda name: name not in (".", "..")), min_size=1, max_size=3)


@given(
    st.dictionaries(
        _PATHS.map("/".join),
        st.tuples(
            st.sampled_from((stat.S_IFREG, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFBLK)),
            st.integers(0, 0o7777),
            st.integers(0, 0xFFFFFFFF),
            st.integers(0, 1 << 40),
            st.integers(-(1 << 62), 1 << 62),
            st.dictionaries(_NAMES, st.binary(max_size=5), max_size=2),
        ),
    )
)
def test_any_list_comes_back(
    drawn: dict[str, tuple[int, int, int, int, int, dict[str, bytes]]],
) -> None:
    found = {"": _ROOT}
    for path, (kind, bits, owner, size, time, xattrs) in drawn.items():
        found[path] = Entry(
            path,
            kind | bits,
            uid=owner,
            size=size if kind == stat.S_IFREG else 0,
            mtime_ns=time,
            rdev=owner if kind == stat.S_IFBLK else 0,
            target=path if kind == stat.S_IFLNK else None,
            backing=path if kind == stat.S_IFREG and size else None,
            xattrs=tuple(sorted(xattrs.items())),
        )
    for path in [*found]:
        while path:
            path = path.rpartition("/")[0]
            found[path] = Entry(path, stat.S_IFDIR | 0o700)
    entries = [found[path] for path in sorted(found, key=list_order)]
    assert [*read(write(entries), "the list")] == entries


_FILE = b"/a 1 100644 1 0 0 0 0.0 a - -\n"


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (b"", "line 0: it is empty"),
        (_FILE, "line 1: the first entry must be the root directory"),
        (_ROOT_LINE + _ROOT_LINE, "line 2: the path is out of order"),
        (_ROOT_LINE + _FILE + _FILE, "line 3: the path is out of order"),
        (_ROOT_LINE + _FILE.replace(b"/a", b"/a/b"), "directory of the path isn't listed"),
        (_ROOT_LINE + _FILE + _FILE.replace(b"/a", b"/a/b"), "directory of the path isn't"),
        (_ROOT_LINE + _FILE.replace(b"/a", b"/a/../b"), "a path isn't valid"),
        (_ROOT_LINE + _FILE.replace(b"/a", b"/a//b"), "a path isn't valid"),
        (_ROOT_LINE + _FILE.replace(b"/a", b"a"), "doesn't begin with a slash"),
        (_ROOT_LINE + _FILE.replace(b"/a", b"/" + b"a" * 256), "a path isn't valid"),
        (_ROOT_LINE + _FILE.replace(b" a ", b" ../a "), "a path isn't valid"),
        (_ROOT_LINE + _FILE.replace(b" a ", b" /a "), "a path isn't valid"),
        (_ROOT_LINE + _FILE.replace(b" a ", b" a\\x00 "), "a path holds a null byte"),
        (_ROOT_LINE + _FILE.replace(b" a ", b" \\q "), "an escape isn't valid"),
        (_ROOT_LINE + _FILE.replace(b" a ", b" \\ "), "an escape isn't valid"),
        (_ROOT_LINE + _FILE.replace(b" a ", b" - "), "only a file that isn't empty"),
        (_ROOT_LINE + _FILE.replace(b" a -", b" a text"), "it has content"),
        (_ROOT_LINE + _FILE.replace(b"100644", b"644"), "no valid type"),
        (_ROOT_LINE + _FILE.replace(b"100644", b"100648"), "the mode isn't valid"),
        (_ROOT_LINE + _FILE.replace(b" 1 0 0", b" 1 -1 0"), "the owner isn't a valid number"),
        (_ROOT_LINE + _FILE.replace(b" 1 0 0", b" 1 0 4294967296"), "the group isn't a valid"),
        (_ROOT_LINE + _FILE.replace(b"0.0", b"0"), "the time isn't valid"),
        (_ROOT_LINE + _FILE.replace(b" 100644", b" @100644"), "a path doesn't begin"),
        (_ROOT_LINE + _FILE.replace(b"100644 1 0 0 0 0.0 a", b"@100644 2 0 0 0 0.0 /b"), "no ear"),
        (_ROOT_LINE + b"/a 0 @40755 2 0 0 0 0.0 / - -\n", "a directory can't be a hard link"),
        (_ROOT_LINE + b"/a 0 120777 1 0 0 0 0.0 - - -\n", "the symbolic link has no valid target"),
        (_ROOT_LINE[:-1] + b" user.a\n", "an extended attribute isn't valid"),
        (_ROOT_LINE[:-1] + b" =a\n", "an extended attribute isn't valid"),
        (_ROOT_LINE[:-1] + b" user.a= user.a=\n", "it has an attribute twice"),
        (_ROOT_LINE[:-1] + b" trusted.overlay.opaque=y\n", "only overlayfs may set"),
        (_ROOT_LINE + _FILE[:-1] + b" trusted.overlay.redirect=/b\n", "only overlayfs may set"),
        (_ROOT_LINE + b"/a 1 100644\n", "it has 3 fields, not 11"),
        (_ROOT_LINE + b"/" + b"a" * 1024 * 1024, "it is too long"),
        (_ROOT_LINE.replace(b"/ ", b"\0/ "), "it holds a null byte"),
    ],
)
def test_bad_lines_are_refused(lines: bytes, why: str) -> None:
    with pytest.raises(InputError, match="the list is not a valid file list: line") as err:
        _read(lines)
    assert why in err.value.message


def test_a_long_list_is_refused() -> None:
    lines = [_ROOT_LINE, *(b"/%d 0 100644 1 0 0 0 0.0 - - -\n" % each for each in range(9))]
    assert len([*read(lines, "it", limit=10)]) == 10
    with pytest.raises(InputError, match="line 10: it has more than 9 entries"):
        list(read(lines, "it", limit=9))


def test_a_hard_link_counts_only_with_the_number_of_links() -> None:
    linked = _FILE.replace(b"100644 1", b"100644 2")
    link = b"/b 1 @100644 2 0 0 0 0.0 /a - -\n"
    assert _read(_ROOT_LINE + linked + link)[-1].hardlink == "a"
    with pytest.raises(InputError, match="no earlier entry"):
        _read(_ROOT_LINE + _FILE + link)
