# SPDX-License-Identifier: Apache-2.0
"""A layer blob as a stream: decompressed, counted, and checked against its digests."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from typing import Protocol

import zstandard

from podman_cvmfs.errors import InputError
from podman_cvmfs.oci.documents import Descriptor, Digest

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
#: A zstd "skippable frame" (RFC 8878 section 3.1.2) has any last digit in its first byte.
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"
_UNSUPPORTED = {b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz"}
_MAGIC_LENGTH = 6

#: No piece of decompressed data gets larger, however hard it was compressed.
_PIECE = 1 << 20
#: tarfile asks for no more than this at once unless an extended header is absurdly large.
_MAX_HEADER = 16 << 20


class Allowance(Protocol):
    """What may be unpacked; both methods are told of bytes, and may raise InputError."""

    def earn(self, count: int) -> None:
        """Note that ``count`` bytes were read, as they are stored."""

    def spend(self, count: int) -> None:
        """Take ``count`` bytes that are unpacked."""


class _NoBudget:
    """Anything may be unpacked."""

    def earn(self, count: int) -> None:
        pass

    def spend(self, count: int) -> None:
        pass


class WrongBlobError(InputError):
    """A blob with a wrong digest. It is the fault of its source, not of the image."""


def compression(head: bytes, what: str = "the layer") -> str:
    """Tell how a blob is compressed from its first bytes: ``gzip``, ``zstd`` or ``none``.

    Media types are not asked: registries hold gzip layers labelled as plain and the reverse.
    Raises InputError, naming ``what``, for a known but unsupported compression.
    """
    if head.startswith(_GZIP):
        return "gzip"
    if head.startswith(_ZSTD) or (head[1:4] == _ZSTD_SKIPPABLE and head[0] >> 4 == 5):
        return "zstd"
    for magic, kind in _UNSUPPORTED.items():
        if head.startswith(magic):
            raise InputError(f"{what} is compressed with {kind}, which is not supported")
    return "none"


def decompress(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the decompressed bytes of ``chunks``, in pieces of bounded size.

    Members of a gzip file and frames of a zstd file that follow one another are one stream.
    Raises InputError if the data is damaged.
    """
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= _MAGIC_LENGTH:
            break
    kind = compression(head)
    rest = _chain(head, chunks)
    if kind == "gzip":
        rest = _gunzip(rest)
    elif kind == "zstd":
        rest = _unzstd(rest)
    yield from rest


def _chain(head: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    if head:
        yield head
    # Not "yield from": that would close ``chunks`` with this, and the rest may still be wanted.
    for chunk in chunks:  # noqa: UP028
        yield chunk


def _gunzip(chunks: Iterator[bytes]) -> Iterator[bytes]:
    member = zlib.decompressobj(wbits=31)
    try:
        for data in chunks:
            while data:
                if member.eof:
                    # gzip itself ignores zeros after the last member.
                    data = data.lstrip(b"\0")
                    if not data:
                        break
                    member = zlib.decompressobj(wbits=31)
                yield member.decompress(data, _PIECE)
                data = member.unused_data if member.eof else member.unconsumed_tail
        # Output for which the last call had no room may still be inside.
        while not member.eof:
            piece = member.decompress(b"", _PIECE)
            if not piece:
                raise InputError("the gzip data is damaged: it ends too early")
            yield piece
    except zlib.error as err:
        raise InputError(f"the gzip data is damaged: {err}") from None


def _unzstd(chunks: Iterator[bytes]) -> Iterator[bytes]:
    source = _Readable(chunks)
    reader = zstandard.ZstdDecompressor().stream_reader(
        source,  # type: ignore[arg-type]
        read_across_frames=True,
        closefd=False,
    )
    try:
        while True:
            piece = reader.read(_PIECE)
            if not piece:
                return
            yield piece
    except zstandard.ZstdError as err:
        raise InputError(f"the zstd data is damaged: {err}") from None


class _Readable:
    """Chunks of any size as something with ``read``."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        if not self._rest:
            self._rest = next(self._chunks, b"")
        if size < 0:
            size = len(self._rest)
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


class LayerStream:
    """The uncompressed tar of one layer, readable forwards, while both its digests are computed.

    ``chunks`` are the blob as stored; ``descriptor`` says what digest and size it must have,
    ``diff_id`` what digest the tar inside must have, ``budget`` what may be unpacked, by default
    anything. It offers what tarfile wants of a file: ``read``, ``tell`` and a ``seek`` that only
    goes forwards.
    """

    def __init__(
        self,
        chunks: Iterator[bytes],
        descriptor: Descriptor,
        diff_id: Digest,
        budget: Allowance | None = None,
    ) -> None:
        self.budget: Allowance = budget or _NoBudget()
        self._descriptor = descriptor
        self._diff_id = diff_id
        self._blob_hash = hashlib.sha256()
        self._blob_size = 0
        self._has_ended = False
        self._tar_hash = hashlib.sha256()
        self._blob = self._counted(chunks)
        self._pieces = decompress(self._blob)
        self._piece = b""
        self._at = 0
        self._position = 0
        #: Size of the uncompressed tar in bytes; whole once ``finish`` has returned.
        self.size = 0

    def _counted(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._blob_size += len(chunk)
            if self._blob_size > self._descriptor.size:
                raise WrongBlobError(
                    f"it is larger than the manifest says ({self._descriptor.size} bytes)"
                )
            self._blob_hash.update(chunk)
            self.budget.earn(len(chunk))
            yield chunk
        self._has_ended = True

    def _more(self) -> bool:
        """Make the next piece the current one; False at the end."""
        for piece in self._pieces:
            if piece:
                self._tar_hash.update(piece)
                self.size += len(piece)
                self.budget.spend(len(piece))
                self._piece, self._at = piece, 0
                return True
        self._piece, self._at = b"", 0
        return False

    def pieces(self, count: int) -> Iterator[memoryview]:
        """Yield the next ``count`` bytes in pieces; InputError if the tar ends before."""
        while count:
            if self._at >= len(self._piece) and not self._more():
                raise InputError("the tar archive ends too early")
            view = memoryview(self._piece)[self._at : self._at + count]
            self._at += len(view)
            self._position += len(view)
            count -= len(view)
            yield view

    def read(self, size: int) -> bytes:
        """Return ``size`` bytes, fewer only at the end. For tarfile: headers, not contents."""
        if size > _MAX_HEADER:
            raise InputError(f"the tar archive holds an extended header of {size} bytes")
        end = self._at + size
        if end <= len(self._piece):
            data = self._piece[self._at : end]
            self._at = end
        else:
            parts = [self._piece[self._at :]]
            size -= len(parts[0])
            self._at = len(self._piece)
            while size and self._more():
                parts.append(self._piece[:size])
                self._at = len(parts[-1])
                size -= self._at
            data = b"".join(parts)
        self._position += len(data)
        return data

    def tell(self) -> int:
        """The position in the uncompressed tar."""
        return self._position

    def seek(self, position: int) -> int:
        """Skip forwards to ``position``; going back raises InputError."""
        if position < self._position:
            raise InputError("the tar archive's headers contradict one another")
        for _ in self.pieces(position - self._position):
            pass
        return self._position

    def finish(self) -> None:
        """Read what is left and compare sizes and digests.

        Raises WrongBlobError if the blob is wrong, InputError if the tar in it is.
        """
        while self._more():
            pass
        self.check_blob()
        if self._tar_hash.hexdigest() != self._diff_id.hex:
            raise InputError(f"it isn't {self._diff_id}, as the image's configuration says")

    def check_blob(self) -> None:
        """Read what is left of the blob itself, and compare its size and digest.

        Raises WrongBlobError for a mismatch. If the blob broke off, there is nothing to compare.
        """
        for _ in self._blob:
            pass
        wanted = self._descriptor
        if not self._has_ended:
            return
        if self._blob_size != wanted.size:
            raise WrongBlobError(
                f"it has {self._blob_size} bytes, not {wanted.size} as the manifest says"
            )
        if self._blob_hash.hexdigest() != wanted.digest.hex:
            # Its own digest is not told: it may be of a file that only we can read.
            raise WrongBlobError("it has another digest")
