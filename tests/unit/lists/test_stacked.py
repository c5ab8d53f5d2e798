# SPDX-License-Identifier: Apache-2.0
"""What layers show together, against a merged root."""

from __future__ import annotations

import stat

from podman_cvmfs.lists.entry import OPAQUE, Entry
from podman_cvmfs.lists.stacked import lacking

_FILE, _DIR = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755


def _layer(*paths: str) -> list[Entry]:
    """Entries of these paths: "d/" is a directory, "d/!" an opaque one, "-x" a whiteout."""
    found = [Entry("", _DIR)]
    for path in paths:
        if path.endswith("/!"):
            found.append(Entry(path[:-2], _DIR, xattrs=((OPAQUE, b"y"),)))
        elif path.endswith("/"):
            found.append(Entry(path[:-1], _DIR))
        elif path.rpartition("/")[2].startswith("-"):
            found.append(Entry(path.replace("-", ""), stat.S_IFCHR))
        else:
            found.append(Entry(path, _FILE))
    return found


_BASE = _layer("a", "d/", "d/x", "d/y", "e/", "e/f/", "e/f/z")


def test_the_same_files_lack_nothing() -> None:
    assert [*lacking([_BASE], _BASE)] == []
    assert [*lacking([_BASE], [*_BASE, Entry("more", _FILE)])] == []


def test_what_is_missing_is_named_once() -> None:
    assert sorted(lacking([_BASE], _layer("d/", "d/y"))) == ["a", "d/x", "e"]


def test_another_type_counts_as_missing() -> None:
    assert [*lacking([_layer("a", "d/")], _layer("a/", "d"))] == ["a", "d"]


def test_whiteouts_and_opaque_directories_delete() -> None:
    upper = _layer("-a", "d/!", "d/new", "e/", "e/-f")
    assert [*lacking([_BASE, upper], _layer("d/", "d/new", "e/"))] == []
    again = _layer("a", "e/", "e/f/", "e/f/young")
    assert sorted(lacking([_BASE, upper, again], _layer("d/", "d/new", "e/"))) == ["a", "e/f"]


def test_files_replace_directories_and_are_replaced() -> None:
    file, directory = _layer("d"), _layer("d/", "d/young")
    assert [*lacking([_BASE, file], _layer("a", "d", "e/", "e/f/", "e/f/z"))] == []
    assert [*lacking([file, directory], _layer("d/"))] == ["d/young"]
