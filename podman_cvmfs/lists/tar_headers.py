# SPDX-License-Identifier: Apache-2.0
"""The headers of a layer's tar, read strictly and as podman reads them.

Formats: POSIX.1-2017 ``pax``, and GNU tar. ``tarfile`` parses the headers; Go's ``archive/tar``,
which podman uses, decides what they mean.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from podman_cvmfs.errors import InputError

#: The largest owner. ``chown`` takes the next number for "as it is".
MAX_ID = 2**32 - 2

#: All types of regular files.
FILE_TYPES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE)

_XATTR_RECORD = "SCHILY.xattr."
_NANO_DIGITS = 9
_BILLION = 1_000_000_000


class TarSource(Protocol):
    """The part of a file that ``tarfile`` needs."""

    def read(self, size: int) -> bytes:
        """The next bytes."""

    def tell(self) -> int:
        """Where the next bytes are."""

    def seek(self, position: int) -> int:
        """Go forwards to ``position``."""


class _StrictInfo(tarfile.TarInfo):
    """A header. tarfile reads a broken one as the end of the archive; here it is an error."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Any:
        try:
            return super().fromtarfile(archive)
        except (tarfile.EOFHeaderError, tarfile.EmptyHeaderError):  # type: ignore[attr-defined]
            raise tarfile.EOFHeaderError("end of archive") from None  # type: ignore[attr-defined]
        except tarfile.HeaderError as err:
            raise InputError(f"the tar archive is damaged: {err}") from None


class _NoGlobals(dict):  # type: ignore[type-arg]
    """Global PAX headers, forgotten at once: podman's tar reader doesn't apply them either."""

    def __setitem__(self, key: object, value: object) -> None:
        pass


def headers(source: TarSource) -> Iterator[tarfile.TarInfo]:
    """The headers in the tar that ``source`` yields, in order.

    ``source`` stands behind the header that was yielded last, and may be read up to the next one.
    Names hold odd bytes as ``os.fsdecode`` gives them. Raises InputError for a damaged tar.
    """
    try:
        # tarfile reads the first header at once. UTF-8 with surrogates keeps any bytes.
        archive = tarfile.TarFile(
            fileobj=source,  # type: ignore[arg-type]
            tarinfo=_StrictInfo,
            encoding="utf-8",
            errors="surrogateescape",
            pax_headers=_NoGlobals(),
        )
        # Asked for more, Python 3.9's tarfile would go back in an archive without any member.
        has_any = archive.firstmember is not None  # type: ignore[attr-defined]
        info = archive.next() if has_any else None
        while info is not None:
            # tarfile remembers all members, for a random access that a stream hasn't.
            archive.members.clear()  # type: ignore[attr-defined]
            yield info
            info = archive.next()
    except tarfile.TarError as err:
        raise InputError(f"the tar archive is damaged: {err}") from None
    except (ValueError, OverflowError, RecursionError) as err:
        raise InputError(f"the tar archive is damaged: {type(err).__name__}") from None


def raw(text: str) -> bytes:
    """A name or a value as it stands in the archive."""
    return text.encode("utf-8", "surrogateescape")


def xattrs_of(info: tarfile.TarInfo) -> Mapping[str, bytes]:
    """The extended attributes in a header."""
    return {
        key[len(_XATTR_RECORD) :]: raw(value)
        for key, value in info.pax_headers.items()
        if key.startswith(_XATTR_RECORD)
    }


def mtime_ns_of(info: tarfile.TarInfo) -> int:
    """The time in a header, in nanoseconds since 1970; more digits are cut off, as in Go.

    Raises InputError for a time that is no number.
    """
    # tarfile makes a float of a PAX time, too coarse for nanoseconds.
    text = info.pax_headers.get("mtime")
    if not text:
        return int(info.mtime) * _BILLION
    sign = -1 if text.startswith("-") else 1
    whole, _, fraction = text.lstrip("+-").partition(".")
    digits = (fraction + "0" * _NANO_DIGITS)[:_NANO_DIGITS]
    number = (whole or "0") + digits
    if not (number.isascii() and number.isdigit() and len(number) < 40):
        raise InputError("the tar archive is damaged: a time is no number")
    return sign * int(number)
