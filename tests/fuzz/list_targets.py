# SPDX-License-Identifier: Apache-2.0
"""The parsers of what file lists are made from: catalogues, layers' tars, lists, tar-splits."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sqlite3
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from podman_cvmfs.lists.catalogue import tree_of
from podman_cvmfs.lists.catalogue_rows import Catalogue
from podman_cvmfs.lists.dump import read, write
from podman_cvmfs.lists.entry import Entry
from podman_cvmfs.lists.from_tar import Unpacked, list_of
from podman_cvmfs.lists.layer_stream import LayerStream
from podman_cvmfs.lists.layer_tree import apply_markers, markers_in
from podman_cvmfs.lists.tar_split import renamed
from podman_cvmfs.oci.documents import Descriptor, Digest
from tests.support import catalogues, nasty_layers
from tests.support.unpacked_layer import listed

_AT = "/.flat/ab/abc"
_COLUMNS = 15


def _database() -> bytes:
    """A small catalogue: with large pages most changed bytes would be in none of its rows."""
    with tempfile.TemporaryDirectory() as place:
        top = Path(place)
        (top / "d/e").mkdir(parents=True)
        for name in ("file", "d/.wh.x", "d/.wh..wh..opq", "d/e/other"):
            (top / name).write_text("content")
        (top / "link").symlink_to("/d/e")
        for path in (top, *top.rglob("*")):
            os.utime(path, (1_600_000_000, 1_600_000_000), follow_symlinks=False)
        data = catalogues.database(str(top), _AT)
    small = sqlite3.connect(":memory:")
    small.deserialize(data)
    small.execute("PRAGMA page_size = 512")
    small.execute("VACUUM")
    found: bytes = small.serialize()
    small.close()
    return found


_DATABASE = _database()


def _is_sound(entries: Iterable[Entry]) -> None:
    """What is made of bad input is a list all the same: nothing in it leads out of the layer."""
    found = [*entries]
    again = [*read(write(found), "a list that was made")]
    assert again == found
    for each in found:
        for path in (each.path, each.backing or "", each.hardlink or ""):
            assert not {"..", "."} & set(path.split("/")), path


def _catalogue(data: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()

        @contextlib.contextmanager
        def opening(hash_: str, begins: str) -> Iterator[Catalogue]:
            with Catalogue(file.name) as catalogue:
                yield catalogue

        tree = tree_of(opening, "hash", _AT.strip("/"), _AT.strip("/"))
    apply_markers(tree, markers_in(tree, "/repository"))
    _is_sound(tree.entries())


def _rows(data: bytes) -> None:
    """A catalogue whose rows are the arrays in a JSON document."""
    try:
        rows = json.loads(data)
    except (ValueError, RecursionError):
        return
    database = sqlite3.connect(":memory:")
    try:
        database.executescript(catalogues.SCHEMA)
        for row in rows if isinstance(rows, list) else ():
            if isinstance(row, list):
                values = (row + [None] * _COLUMNS)[:_COLUMNS]
                with contextlib.suppress(sqlite3.Error, OverflowError, UnicodeEncodeError):
                    marks = ",".join("?" * _COLUMNS)
                    database.execute(f"INSERT INTO catalog VALUES ({marks})", values)
        database.commit()
        made: bytes = database.serialize()
    finally:
        database.close()
    _catalogue(made)


def _row_seed() -> bytes:
    database = sqlite3.connect(":memory:")
    database.deserialize(_DATABASE)
    rows = database.execute("SELECT * FROM catalog").fetchall()
    database.close()
    # The hash of the content isn't text, and nobody reads it.
    return json.dumps([[*row[:5], None, *row[6:]] for row in rows]).encode()


def _tar(data: bytes) -> None:
    digest = Digest.of(data)
    stream = LayerStream(iter([data]), Descriptor("", digest, len(data)), digest, Unpacked())
    split = io.BytesIO()
    made = list_of(stream, split)
    _is_sound(made.entries)
    assert all(stat.S_IFMT(each.mode) for each in made.entries)
    for _ in renamed(io.BytesIO(split.getvalue()), "../files/") if made.is_split else ():
        pass


def _dump(data: bytes) -> None:
    _is_sound(read(data.splitlines(keepends=True), "a list"))


def _tar_split(data: bytes) -> None:
    for _ in renamed(io.BytesIO(data), "../files/"):
        pass


_SMALL = [name for name in nasty_layers.TARS if name != "many"]
_LISTED = [listed(nasty_layers.blob(name)) for name in _SMALL]

#: Name, parser, and what it is fed with.
LIST_PARSERS = (
    ("catalogue", _catalogue, [_DATABASE]),
    ("catalogue-rows", _rows, [_row_seed()]),
    ("layer-tar", _tar, [nasty_layers.TARS[name] + bytes(1024) for name in _SMALL]),
    ("file-list", _dump, [b"".join(write(entries)) for entries, _ in _LISTED]),
    ("tar-split", _tar_split, [split for _, split in _LISTED]),
)
