# SPDX-License-Identifier: Apache-2.0
"""tar-split: everything of a layer's tar except the contents of its files.

With it podman can make the exact tar of an unpacked layer, to push or save it. Format (tar-split
0.12 ``tar/storage/entry.go`` and ``packer.go``): lines of JSON, compressed with gzip. Type 2 is a
segment of the tar, type 1 a file: its name, its size and the CRC-64 of its content. containers/
storage looks for the content below the layer's directory by that name.
"""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from podman_cvmfs.errors import InputError
from podman_cvmfs.lists.crc64 import Crc64

if TYPE_CHECKING:
    from podman_cvmfs.lists.layer_stream import LayerStream

_FILE, _SEGMENT = 1, 2
#: Segments are cut at this many bytes.
_PIECE = 1 << 16
#: A tar with more bytes besides its files' contents is refused: it isn't a layer of files.
_MOST = 1 << 30


class TarSplitWriter:
    """Writes the tar-split of one tar to ``output``."""

    def __init__(self, output: BinaryIO) -> None:
        # Without name and time: equal tars give equal files.
        self._file = gzip.GzipFile("", "wb", 6, output, mtime=0)
        self._segment = bytearray()
        self._position = 0
        self._total = 0

    def segment(self, data: bytes | memoryview) -> None:
        """Note bytes of the tar that are no file's content. Raises InputError if they are too
        many."""
        self._total += len(data)
        if self._total > _MOST:
            raise InputError(f"the tar archive has more than {_MOST} bytes of headers")
        self._segment += data
        if len(self._segment) >= _PIECE:
            self._flush()

    def file(self, path: bytes, size: int, checksum: bytes) -> None:
        """Note the content of a file that isn't empty; ``path`` is where it will be found."""
        self._flush()
        row: dict[str, Any] = {"type": _FILE}
        try:
            row["name"] = path.decode()
        except UnicodeDecodeError:
            row["name_raw"] = base64.b64encode(path).decode()
        row["size"] = size
        self._write(row, checksum)

    def close(self) -> None:
        """Write what is left. ``output`` stays open."""
        self._flush()
        self._file.close()

    def _flush(self) -> None:
        if self._segment:
            self._write({"type": _SEGMENT}, bytes(self._segment))
            self._segment.clear()

    def _write(self, row: dict[str, Any], payload: bytes) -> None:
        row["payload"] = base64.b64encode(payload).decode()
        row["position"] = self._position
        self._position += 1
        self._file.write(json.dumps(row, separators=(",", ":")).encode() + b"\n")


class SplitStream:
    """A ``LayerStream`` for tarfile. What is read of it, or skipped, goes to ``writer``."""

    def __init__(self, stream: LayerStream, writer: TarSplitWriter | None) -> None:
        self._stream = stream
        self._writer = writer

    @property
    def is_split(self) -> bool:
        """Whether everything went to the writer."""
        return self._writer is not None

    def give_up(self) -> None:
        """Note that this tar can't be split: the writer gets nothing more."""
        self._writer = None

    def read(self, size: int) -> bytes:
        """The next bytes of a header."""
        data = self._stream.read(size)
        if self._writer is not None:
            self._writer.segment(data)
        return data

    def tell(self) -> int:
        """The position in the tar."""
        return self._stream.tell()

    def seek(self, position: int) -> int:
        """Skip to ``position``; going back raises InputError."""
        if self._writer is None or position < self.tell():
            return self._stream.seek(position)
        for piece in self._stream.pieces(position - self.tell()):
            self._writer.segment(piece)
        return self.tell()

    def content(self, path: bytes, size: int) -> None:
        """Pass a file's content, which comes next; ``path`` is where it will be found."""
        if self._writer is None:
            self._stream.seek(self.tell() + size)
            return
        checksum = Crc64()
        for piece in self._stream.pieces(size):
            checksum.update(piece)
        self._writer.file(path, size, checksum.digest())

    def finish(self) -> None:
        """Read the tar to its end, and check size and digests. Raises InputError."""
        if self._writer is not None:
            while True:
                data = self._stream.read(_PIECE)
                if not data:
                    break
                self._writer.segment(data)
        self._stream.finish()


def tar_size(tar_split: BinaryIO) -> int:
    """The bytes of the tar that a tar-split was made of. Raises InputError for a damaged one."""
    size = 0
    try:
        for row in _rows(tar_split):
            is_file = row["type"] == _FILE
            size += int(row["size"]) if is_file else len(base64.b64decode(row["payload"]))
    except (KeyError, TypeError, ValueError) as err:
        raise InputError(f"a tar-split is damaged: {type(err).__name__}") from None
    return size


def renamed(tar_split: BinaryIO, prefix: str) -> Iterator[bytes]:
    """The lines of a tar-split, not compressed, with ``prefix`` before each file's name.

    Raises InputError for a damaged one.
    """
    for row in _rows(tar_split):
        if "name" in row:
            row["name"] = prefix + row["name"]
        elif "name_raw" in row:
            name = prefix.encode() + base64.b64decode(row["name_raw"])
            row["name_raw"] = base64.b64encode(name).decode()
        yield json.dumps(row, separators=(",", ":")).encode() + b"\n"


def _rows(tar_split: BinaryIO) -> Iterator[dict[str, Any]]:
    """The lines of a tar-split. Raises InputError for a damaged one."""
    try:
        with gzip.GzipFile(fileobj=tar_split, mode="rb") as file:
            for line in file:
                row = json.loads(line)
                if not isinstance(row, dict) or row.get("type") not in (_FILE, _SEGMENT):
                    raise ValueError("an unknown line")
                yield row
    except (OSError, EOFError, ValueError, TypeError, zlib.error) as err:
        raise InputError(f"a tar-split is damaged: {type(err).__name__}") from None
