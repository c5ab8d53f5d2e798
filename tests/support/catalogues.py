# SPDX-License-Identifier: Apache-2.0
"""Catalogues of CernVM-FS, made from a directory by the public format, and a server for them.

Format: CernVM-FS 2.12 ``catalog_sql.cc`` (schema 2.5), ``xattr.cc``, ``crypto/hash.h``.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import stat
import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SCHEMA = """
CREATE TABLE catalog (md5path_1 INTEGER, md5path_2 INTEGER, parent_1 INTEGER, parent_2 INTEGER,
 hardlinks INTEGER, hash BLOB, size INTEGER, mode INTEGER, mtime INTEGER, flags INTEGER, name TEXT,
 symlink TEXT, uid INTEGER, gid INTEGER, xattr BLOB,
 CONSTRAINT pk_catalog PRIMARY KEY (md5path_1, md5path_2));
CREATE INDEX idx_catalog_parent ON catalog (parent_1, parent_2);
CREATE TABLE chunks (md5path_1 INTEGER, md5path_2 INTEGER, offset INTEGER, size INTEGER, hash BLOB,
 CONSTRAINT pk_chunks PRIMARY KEY (md5path_1, md5path_2, offset, size));
CREATE TABLE nested_catalogs (path TEXT, sha1 TEXT, size INTEGER,
 CONSTRAINT pk_nested_catalogs PRIMARY KEY (path));
CREATE TABLE properties (key TEXT, value TEXT, CONSTRAINT pk_properties PRIMARY KEY (key));
CREATE TABLE statistics (counter TEXT, value INTEGER, CONSTRAINT pk_statistics PRIMARY KEY (counter));
"""  # noqa: E501
_DIR, _NESTED, _FILE, _LINK, _SPECIAL, _ROOT = 1, 2, 4, 8, 16, 32


def md5(path: str) -> tuple[int, int]:
    """The two numbers that stand for a path; "" is the repository's root."""
    first, second = struct.unpack("<qq", hashlib.md5(os.fsencode(path)).digest())
    return first, second


def database(top: str, prefix: str, nested: Mapping[str, str] | None = None) -> bytes:
    """The SQLite file for the directory ``top``, which is ``prefix`` in the repository (as
    ``/a/b``); ``nested`` are catalogues below it: path in the repository -> hash."""
    nested = nested or {}
    connection = sqlite3.connect(":memory:")
    connection.executescript(SCHEMA)
    connection.executemany(
        f"INSERT INTO catalog VALUES ({','.join('?' * 15)})", _rows(top, prefix, nested)
    )
    connection.executemany(
        "INSERT INTO nested_catalogs VALUES (?, ?, 0)", [(*each,) for each in nested.items()]
    )
    connection.execute("INSERT INTO properties VALUES ('root_prefix', ?)", (prefix,))
    connection.execute("INSERT INTO properties VALUES ('schema', '2.5')")
    connection.commit()
    data: bytes = connection.serialize()
    connection.close()
    return data


def _rows(top: str, prefix: str, nested: Mapping[str, str]) -> Iterator[tuple[object, ...]]:
    yield _row(top, prefix, _ROOT if prefix else 0)
    pending = [(top, prefix)]
    while pending:
        directory, path = pending.pop()
        for name in sorted(os.listdir(directory)):
            below, at = f"{directory}/{name}", f"{path}/{name}"
            is_nested = at in nested
            yield _row(below, at, _NESTED if is_nested else 0)
            if stat.S_ISDIR(os.lstat(below).st_mode) and not is_nested:
                pending.append((below, at))


def _row(place: str, path: str, flags: int) -> tuple[object, ...]:
    found = os.lstat(place)
    kind = stat.S_IFMT(found.st_mode)
    size, content, link = found.st_size, None, ""
    if kind == stat.S_IFDIR:
        flags |= _DIR
    elif kind == stat.S_IFLNK:
        flags |= _FILE | _LINK
        link = os.readlink(place)
    elif kind == stat.S_IFREG:
        flags |= _FILE
        content = hashlib.sha1(os.fsencode(place)).digest()
    else:
        flags |= _FILE | _SPECIAL
        size = found.st_rdev
    return (
        *md5(path),
        *(md5(path.rpartition("/")[0]) if path else (0, 0)),
        1,
        content,
        size,
        found.st_mode,
        int(found.st_mtime),
        flags,
        _text(os.path.basename(path)),
        _text(link),
        found.st_uid,
        found.st_gid,
        None,
    )


def _text(name: str) -> object:
    """A name as SQLite has it: any bytes, which Python can't give it as text."""
    raw = os.fsencode(name)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def stored(data: bytes) -> tuple[str, bytes]:
    """A database as the server has it, and its hash."""
    packed = zlib.compress(data, 1)
    return hashlib.sha1(packed).hexdigest(), packed


class Server(ThreadingHTTPServer):
    """Serves objects on loopback: ``find`` gives the object of a hash with its suffix, None if
    there is none. ``asked`` are the paths that were asked for."""

    daemon_threads = True

    def __init__(self, find: Callable[[str], bytes | None]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.find = find
        self.asked: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        """Its address, without a slash at the end."""
        return f"http://127.0.0.1:{self.server_port}"

    def close(self) -> None:
        """Stop it."""
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        # A proxy is asked by whole addresses.
        _, found, name = self.path.partition("/data/")
        data = self.server.find(name.replace("/", "")) if found else None
        self.send_response(404 if data is None else 200)
        self.send_header("Content-Length", str(len(data or b"")))
        self.end_headers()
        self.wfile.write(data or b"")

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""
