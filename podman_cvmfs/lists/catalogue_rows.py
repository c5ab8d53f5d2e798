# SPDX-License-Identifier: Apache-2.0
"""Reads the rows of a CernVM-FS catalogue, an SQLite file that may be hostile or huge.

Format: CernVM-FS 2.12 ``catalog_sql.cc``, schema 2.5. SQLite parses the file, so it is held tightly
(https://www.sqlite.org/security.html): nothing but reading two known tables is allowed, without
functions, views and triggers, for a bounded time, and with a bounded number of rows.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from podman_cvmfs.errors import InputError

#: So many rows at most, as entries in a list.
MAX_ROWS = 1_000_000
_MAX_NESTED = 10_000
#: No value is longer, in bytes: names, links and attributes are far shorter.
_MAX_VALUE = 128 * 1024
#: In seconds since 1970: no file system has later ones.
_MAX_TIME = 1 << 36
#: How long SQLite may work on one file, in seconds, and after how many instructions that is asked.
_SECONDS = 120.0
_INSTRUCTIONS = 10_000

#: What ``sqlite3`` raises; ValueError where SQLite's own message isn't UTF-8.
_ERRORS = (sqlite3.Error, sqlite3.Warning, OverflowError, MemoryError, ValueError)
_TABLES = {"catalog", "nested_catalogs", "sqlite_master"}
#: What ``sqlite3`` has no names for before Python 3.11: SQLite's ``sqlite3.h``.
_LIMITS = {
    0: _MAX_VALUE,  # a value
    1: 4096,  # a statement
    2: 64,  # columns
    3: 20,  # depth of an expression
    4: 2,  # parts of a compound SELECT
    6: 4,  # arguments of a function
    7: 0,  # attached databases
    10: 0,  # depth of triggers
    11: 0,  # threads
}
_ROW = "md5path_1, md5path_2, parent_1, parent_2, hardlinks, size, mode, mtime, flags, name, symlink, uid, gid, xattr"  # noqa: E501


class CatalogueRow(NamedTuple):
    """A row of the table ``catalog``; the types are checked, the values aren't."""

    #: The MD5 of the path from the repository's root, in two halves, and its directory's.
    key: tuple[int, int]
    parent: tuple[int, int]
    #: The hard-link group in the upper half, the number of links in the lower.
    hardlinks: int
    size: int
    mode: int
    mtime_ns: int
    flags: int
    name: bytes
    target: bytes
    uid: int
    gid: int
    xattrs: bytes


class Catalogue:
    """The catalogue in the file ``path``. To be used in a ``with`` statement.

    All methods raise InputError for a file that is no catalogue, that is damaged, and that takes
    too long.
    """

    def __init__(self, path: str) -> None:
        self._deadline = time.monotonic() + _SECONDS
        try:
            self._database = sqlite3.connect(
                f"file:{quote(os.path.abspath(path))}?mode=ro&immutable=1", uri=True
            )
        except sqlite3.Error as err:
            raise _damaged(err) from None
        try:
            self._hold()
            self._check_schema()
        except _ERRORS as err:
            self._database.close()
            raise _damaged(err) from None
        except InputError:
            self._database.close()
            raise

    def __enter__(self) -> Catalogue:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def _hold(self) -> None:
        database = self._database
        # Names are any bytes.
        database.text_factory = bytes
        for number, value in _LIMITS.items():
            if hasattr(database, "setlimit"):
                database.setlimit(number, value)
        for pragma in ("trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0", "query_only=ON"):
            database.execute(f"PRAGMA {pragma}").close()
        database.set_progress_handler(self._is_late, _INSTRUCTIONS)
        database.set_authorizer(_allowed)

    def _is_late(self) -> bool:
        return time.monotonic() > self._deadline

    def _check_schema(self) -> None:
        """Whatever isn't a plain table or an index of one could make SQLite do more than read."""
        found = set()
        rows = self._rows("SELECT type, name, tbl_name, sql FROM sqlite_master", 100)
        for kind, name, table, text in rows:
            if kind not in (b"table", b"index"):
                raise InputError("the catalogue holds more than tables")
            if kind == b"table":
                if name != table or not isinstance(text, bytes):
                    raise InputError("the catalogue's tables are not valid")
                if not text.lower().startswith(b"create table"):
                    raise InputError("the catalogue holds a virtual table")
                found.add(name)
        if not found >= {b"catalog", b"nested_catalogs"}:
            raise InputError("it is no catalogue")

    def rows(self) -> Iterator[CatalogueRow]:
        """All rows of the table ``catalog``."""
        columns = _ROW
        has_nanoseconds = self._has_nanoseconds()
        if has_nanoseconds:
            columns += ", mtimens"
        for row in self._rows(f"SELECT {columns} FROM catalog", MAX_ROWS):
            numbers = (*row[:9], row[11], row[12])
            texts = (row[9], row[10])
            blob = row[13]
            nanoseconds = row[14] if has_nanoseconds else 0
            if nanoseconds is None or (isinstance(nanoseconds, int) and nanoseconds < 0):
                nanoseconds = 0
            if not (
                all(isinstance(each, int) for each in (*numbers, nanoseconds))
                and all(isinstance(each, bytes) for each in texts)
                and (blob is None or isinstance(blob, bytes))
                and nanoseconds < 1_000_000_000
                and 0 <= row[6] < 1 << 16
                and -_MAX_TIME < row[7] < _MAX_TIME
            ):
                raise InputError("a row of the catalogue is not valid")
            yield CatalogueRow(
                key=(row[0], row[1]),
                parent=(row[2], row[3]),
                hardlinks=row[4],
                size=row[5],
                mode=row[6],
                mtime_ns=row[7] * 1_000_000_000 + nanoseconds,
                flags=row[8],
                name=row[9],
                target=row[10],
                uid=row[11],
                gid=row[12],
                xattrs=blob or b"",
            )

    def _has_nanoseconds(self) -> bool:
        """Whether the table has a column that catalogues have since CernVM-FS 2.12."""
        try:
            self._database.execute("SELECT mtimens FROM catalog LIMIT 0").close()
            return True
        except _ERRORS:
            return False

    def nested(self) -> Iterator[tuple[bytes, bytes]]:
        """The path and the hash of each catalogue nested in this one."""
        for path, found in self._rows("SELECT path, sha1 FROM nested_catalogs", _MAX_NESTED):
            if not (isinstance(path, bytes) and isinstance(found, bytes)):
                raise InputError("a row of the catalogue is not valid")
            yield path, found

    def _rows(self, query: str, most: int) -> Iterator[Sequence[Any]]:
        try:
            for number, row in enumerate(self._database.execute(query)):
                if number >= most:
                    raise InputError(f"the catalogue has more than {most} rows")
                yield row
        except _ERRORS as err:
            raise _damaged(err) from None


def _damaged(err: Exception) -> InputError:
    is_late = isinstance(err, sqlite3.OperationalError) and "interrupt" in str(err)
    why = "it takes too long to read" if is_late else type(err).__name__
    return InputError(f"the catalogue is damaged: {why}")


def _allowed(
    action: int, table: str | None, column: str | None, database: str | None, by: str | None
) -> int:
    """SQLite's question whether a statement may do something; ``by`` is a view or a trigger."""
    if action == sqlite3.SQLITE_SELECT and by is None:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_READ and by is None and table in _TABLES:
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY
