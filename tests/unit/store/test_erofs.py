# SPDX-License-Identifier: Apache-2.0
"""The writer of EROFS images: what it refuses, and that it writes equal bytes for equal lists.

``tests/integration/test_erofs.py`` lets the kernel read what it writes.
"""

from __future__ import annotations

import io
import stat
import struct
from typing import Any

import pytest

from podman_cvmfs.errors import InputError
from podman_cvmfs.lists.entry import Entry
from podman_cvmfs.store.erofs import write_image

_ROOT = Entry("", stat.S_IFDIR | 0o555)


def _file(path: str, **more: Any) -> Entry:
    return Entry(path, stat.S_IFREG | 0o644, size=5, backing=path)._replace(**more)


def _written(*entries: Entry, prefix: str = "/.layers/ab/x/layerfs/") -> bytes:
    out = io.BytesIO()
    length = write_image(entries, lambda path: prefix + path, out)
    assert length == len(out.getvalue())
    return out.getvalue()


def test_equal_lists_give_equal_images() -> None:
    entries = [_ROOT, _file("a"), Entry("b", stat.S_IFDIR | 0o700), _file("b/c")]
    assert _written(*entries) == _written(*entries)
    assert _written(*entries) != _written(*entries, prefix="/.layers/cd/x/layerfs/")


def test_containers_storage_is_told_of_access_control_lists() -> None:
    # It reads 12 bytes, and mounts with ACLs if the lowest bit of the third number is set.
    def flags(*entries: Entry) -> tuple[int, ...]:
        return struct.unpack("<III", _written(*entries)[:12])

    acl = ("system.posix_acl_access", b"\2\0\0\0")
    assert flags(_ROOT, _file("a")) == (0xD078629A, 1, 0)
    assert flags(_ROOT, _file("a", xattrs=(acl,))) == (0xD078629A, 1, 1)


def test_a_file_of_100_bytes_of_path_takes_300_bytes() -> None:
    entries = [_file(f"{number:0100}") for number in range(1000)]
    assert len(_written(_ROOT, *entries)) < 400 * len(entries)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([], "empty"),
        ([_file("a")], "doesn't stand before"),
        ([_ROOT._replace(mode=stat.S_IFREG)], "root directory"),
        ([_ROOT, _ROOT], "root directory"),
        ([_ROOT, _file("a/b")], "doesn't stand before"),
        ([_ROOT, _file("a"), _file("a/b")], "doesn't stand before"),
        ([_ROOT, _file("a"), _file("a")], "twice"),
        ([_ROOT, _file("a", hardlink="b"), _file("b")], "hard link"),
        ([_ROOT, Entry("d", stat.S_IFDIR), Entry("e", stat.S_IFDIR, hardlink="d")], "hard link"),
        ([_ROOT, _file(".")], "name"),
        ([_ROOT, _file("..")], "name"),
        ([_ROOT, _file("a\0b")], "name"),
        ([_ROOT, _file("n" * 256)], "name"),
        ([_ROOT, Entry("a", 0o644)], "unknown type"),
        ([_ROOT, _file("a", uid=-1)], "owner"),
        ([_ROOT, _file("a", gid=1 << 32)], "owner"),
        ([_ROOT, _file("a", size=-1)], "size"),
        ([_ROOT, _file("a", size=(1 << 43) + 1)], "size"),
        ([_ROOT, _file("a", mtime_ns=1 << 70)], "time"),
        ([_ROOT, Entry("a", stat.S_IFLNK | 0o777, target="")], "length"),
        ([_ROOT, Entry("a", stat.S_IFLNK | 0o777, target="t" * 4096)], "length"),
        ([_ROOT, _file("a", backing=None)], "data"),
        ([_ROOT, _file("a", backing="../b")], "path"),
        ([_ROOT, _file("a", backing="b/./c")], "path"),
        ([_ROOT, _file("a", backing="b//c")], "path"),
        ([_ROOT, _file("a", backing="b\n/..")], "path"),
        ([_ROOT, _file("a", backing="b\0")], "path"),
        ([_ROOT, _file("a", backing="n/" * 2040 + "nn")], "too long"),
        ([_ROOT, _file("a", xattrs=(("trusted.overlay.redirect", b"/b"),))], "attribute"),
        ([_ROOT, _file("a", xattrs=(("nonsense", b""),))], "attribute"),
        ([_ROOT, _file("a", xattrs=(("user." + "n" * 256, b""),))], "attribute"),
        ([_ROOT, _file("a", xattrs=(("user.a", bytes(65536)),))], "attribute"),
        ([_ROOT, _file("a", xattrs=tuple((f"user.{n}", bytes(65000)) for n in range(5)))], "long"),
    ],
)
def test_lists_that_cannot_be_shown_are_refused(entries: list[Entry], words: str) -> None:
    with pytest.raises(InputError, match=words):
        _written(*entries)


def test_names_that_only_look_odd_are_not_refused() -> None:
    _written(_ROOT, *(_file(name) for name in ("...", "..a", ".a.", "\n", "\udcff", "n" * 255)))
