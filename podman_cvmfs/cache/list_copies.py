# SPDX-License-Identifier: Apache-2.0
"""The last good copies of wish lists from web servers, in the cache.

Layout: ``<cache>/wish-lists/<2 hex digits>/<64 hex digits>``; the name is the SHA-256 of the list's
address. The first line is a JSON object with the list's version on the server: ``address``,
``etag``, ``modified``. The list follows, byte for byte. A file that is not like this counts as
missing. A sync with nothing to do imports this module, so it imports little.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass

from podman_cvmfs.errors import StoreError, printable
from podman_cvmfs.util.foreign_file import read_bounded

#: No wish list is longer, with the line before it, in bytes.
_MAX_COPY = 1 << 24


@dataclass(frozen=True)
class ListCopy:
    """A list, and its version: the values of the headers ETag and Last-Modified, or ""."""

    data: bytes
    etag: str = ""
    modified: str = ""


def copy_path(cache: str, address: str) -> str:
    """The path, in the directory ``cache``, of the copy of the list at ``address``."""
    name = hashlib.sha256(os.fsencode(address)).hexdigest()
    return f"{cache}/wish-lists/{name[:2]}/{name}"


def read_copy(cache: str, address: str) -> ListCopy | None:
    """The last good copy of the list at ``address``; None if there is none."""
    try:
        data = read_bounded(copy_path(cache, address), _MAX_COPY, follow=False)
        line, _, rest = data.partition(b"\n")
        version = json.loads(line)
        if version["address"] != address:
            return None
        return ListCopy(rest, str(version["etag"]), str(version["modified"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def keep_copy(cache: str, address: str, copy: ListCopy) -> None:
    """Keep a list, in the place of the copy before. Raises StoreError, InputError."""
    from podman_cvmfs.util.files import write_whole

    version = {"address": address, "etag": copy.etag, "modified": copy.modified}
    line = json.dumps(version, sort_keys=True).encode() + b"\n"
    try:
        write_whole(copy_path(cache, address), line + copy.data, inside=os.path.abspath(cache))
    except OSError as err:
        raise StoreError(
            f"can't write to the cache {printable(cache)}: {err.strerror}",
            "name another directory with --cache DIR",
        ) from None
