# SPDX-License-Identifier: Apache-2.0
"""Catalogues: what is read of good ones, and that bad ones do no harm."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from podman_cvmfs.errors import InputError
from podman_cvmfs.lists import catalogue_rows
from podman_cvmfs.lists.catalogue import tree_of
from podman_cvmfs.lists.catalogue_rows import Catalogue
from podman_cvmfs.lists.entry import Entry
from tests.support import catalogues

_AT = "/.flat/ab/abc"


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A directory with a file of each kind."""
    top = tmp_path / "top"
    (top / "etc/deep/er").mkdir(parents=True)
    (top / ".cvmfscatalog").touch()
    (top / "etc/.cvmfscatalog").touch()
    (top / "etc/file").write_text("content\n")
    (top / "etc/file").chmod(0o640)
    (top / "etc/deep/er/empty").touch()
    (top / "link").symlink_to("$(HOME)/etc")
    os.mkfifo(top / "fifo")
    Path(os.fsdecode(os.fsencode(top) + b"/latin-\xe9")).write_text("x")
    for path in (*top.rglob("*"), top):
        os.utime(path, (1_600_000_000, 1_600_000_000), follow_symlinks=False)
    return top


def _tree(
    data: bytes | dict[str, bytes], tmp_path: Path, at: str = _AT, directory: str = ""
) -> dict[str, Entry]:
    """The entries in a catalogue that begins ``at``, or below a directory."""
    found = {"hash": data} if isinstance(data, bytes) else data

    @contextlib.contextmanager
    def opening(hash_: str, begins: str) -> Iterator[Catalogue]:
        path = tmp_path / "catalogue"
        path.write_bytes(found[hash_])
        with Catalogue(str(path)) as catalogue:
            yield catalogue

    tree = tree_of(opening, "hash", at.strip("/"), (directory or at).strip("/"))
    return {each.path: each for each in tree.entries()}


def test_all_is_read(top: Path, tmp_path: Path) -> None:
    found = _tree(catalogues.database(str(top), _AT), tmp_path)
    owner, group = os.getuid(), os.getgid()
    time = 1_600_000_000 * 10**9
    link = Entry("link", stat.S_IFLNK | 0o777, owner, group, 11, time, target="$(HOME)/etc")
    file = Entry("etc/file", stat.S_IFREG | 0o640, owner, group, 8, time, backing="etc/file")
    assert (found["link"], found["etc/file"]) == (link, file)
    assert stat.S_ISFIFO(found["fifo"].mode)
    assert {"", "etc", "etc/deep", "etc/deep/er", "etc/deep/er/empty"} <= found.keys()
    assert "latin-\udce9" in found
    # The publisher's sign is at the top only; elsewhere it is the image's own.
    assert ".cvmfscatalog" not in found and "etc/.cvmfscatalog" in found


def test_a_directory_in_a_larger_catalogue(top: Path, tmp_path: Path) -> None:
    found = _tree(catalogues.database(str(top), _AT), tmp_path, directory=f"{_AT}/etc/deep")
    assert set(found) == {"", "er", "er/empty"}


def test_nested_catalogues_are_followed(top: Path, tmp_path: Path) -> None:
    inner, _ = catalogues.stored(b"inner")
    data = {
        "hash": catalogues.database(str(top), _AT, {f"{_AT}/etc/deep": inner}),
        inner: catalogues.database(str(top / "etc/deep"), f"{_AT}/etc/deep"),
    }
    assert _tree(data, tmp_path) == _tree(catalogues.database(str(top), _AT), tmp_path)
    circle = {"hash": data["hash"], inner: data["hash"]}
    with pytest.raises(InputError, match="has no root"):
        _tree(circle, tmp_path)


def test_attributes_and_hard_links(top: Path, tmp_path: Path) -> None:
    # A version, one attribute: lengths, name, value.
    xattr = bytes([1, 2, 6, 1]) + b"user.ay" + bytes([22, 1]) + b"trusted.overlay.opaquey"
    data = _changed(
        catalogues.database(str(top), _AT),
        f"UPDATE catalog SET xattr = x'{xattr.hex()}' WHERE name IN ('file', 'deep')",
        f"UPDATE catalog SET hardlinks = {(7 << 32) + 2}, size = 8, mode = {stat.S_IFREG | 0o640}"
        " WHERE name IN ('file', 'empty')",
    )
    found = _tree(data, tmp_path)
    assert found["etc/deep"].xattrs == (("trusted.overlay.opaque", b"y"), ("user.a", b"y"))
    assert found["etc/file"].xattrs == (("user.a", b"y"),)
    assert found["etc/file"].hardlink == "etc/deep/er/empty"


def _changed(data: bytes, *statements: str) -> bytes:
    connection = sqlite3.connect(":memory:")
    connection.deserialize(data)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    changed: bytes = connection.serialize()
    connection.close()
    return changed


def _reshaped(*statements: str) -> Callable[[bytes], bytes]:
    return lambda data: _changed(data, *statements)


_VIEW = (
    "ALTER TABLE catalog RENAME TO other",
    "CREATE VIEW catalog AS SELECT * FROM other",
)
_BIG = "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n LIMIT 20) "


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda data: b"", "no catalogue|damaged"),
        (lambda data: b"no database", "damaged"),
        (lambda data: data[: len(data) // 2], "damaged"),
        (lambda data: data[:4096] + bytes(len(data) - 4096), "damaged"),
        (_reshaped("DROP TABLE nested_catalogs"), "no catalogue"),
        (_reshaped(*_VIEW), "more than tables"),
        (_reshaped("CREATE TRIGGER t AFTER INSERT ON catalog BEGIN SELECT 1; END"), "more than"),
        (_reshaped("DELETE FROM catalog WHERE name = 'abc'"), "has no root"),
        (_reshaped("UPDATE catalog SET name = 'other' WHERE name = 'etc'"), "in a wrong place"),
        (_reshaped("UPDATE catalog SET name = '../x' WHERE name = 'etc'"), "impossible name"),
        (_reshaped("UPDATE catalog SET name = '' WHERE name = 'etc'"), "impossible name"),
        (_reshaped("UPDATE catalog SET name = NULL WHERE name = 'etc'"), "row .* not valid"),
        (_reshaped("UPDATE catalog SET mode = 'x' WHERE name = 'etc'"), "row .* not valid"),
        (_reshaped("UPDATE catalog SET mode = -1 WHERE name = 'etc'"), "row .* not valid"),
        (_reshaped("UPDATE catalog SET mtime = 1 << 40 WHERE name = 'etc'"), "row .* not valid"),
        (_reshaped("UPDATE catalog SET mode = 0 WHERE name = 'etc'"), "wrong attributes"),
        (_reshaped("UPDATE catalog SET uid = -1 WHERE name = 'etc'"), "wrong attributes"),
        (_reshaped("UPDATE catalog SET size = -1 WHERE name = 'file'"), "wrong size"),
        (_reshaped("UPDATE catalog SET symlink = '' WHERE name = 'link'"), "wrong link"),
        (_reshaped("UPDATE catalog SET xattr = x'0101' WHERE name = 'etc'"), "wrong extended"),
        (_reshaped("UPDATE catalog SET xattr = x'02' WHERE name = 'etc'"), "wrong extended"),
        (_reshaped("UPDATE catalog SET flags = 3 WHERE name = 'etc'"), "doesn't name the one"),
        (_reshaped("UPDATE catalog SET flags = 16385 WHERE name = 'etc'"), "another directory"),
        (_reshaped("INSERT INTO nested_catalogs VALUES ('/x', '../x', 0)"), "without a hash"),
        (_reshaped("UPDATE catalog SET symlink = zeroblob(200000)"), "damaged"),
    ],
)
def test_bad_catalogues_are_refused(
    change: Callable[[bytes], bytes], why: str, top: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=why):
        _tree(change(catalogues.database(str(top), _AT)), tmp_path)


def test_rows_and_time_have_bounds(
    top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = catalogues.database(str(top), _AT)
    monkeypatch.setattr(catalogue_rows, "MAX_ROWS", 5)
    with pytest.raises(InputError, match="more than 5 rows"):
        _tree(data, tmp_path)
    monkeypatch.setattr(catalogue_rows, "_INSTRUCTIONS", 1)
    monkeypatch.setattr(catalogue_rows, "_SECONDS", -1.0)
    with pytest.raises(InputError, match=r"takes too long|damaged"):
        _tree(data, tmp_path)
