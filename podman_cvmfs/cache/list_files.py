# SPDX-License-Identifier: Apache-2.0
"""The files of file lists in the cache, as the archive of the cache carries them.

``lists.kept`` says what is in them, and checks it when it reads them. Here only their places count.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from podman_cvmfs.errors import StoreError, printable
from podman_cvmfs.util.files import write_whole
from podman_cvmfs.util.foreign_file import read_bounded

LISTS, LAYER_LISTS, TAR_SPLITS = "lists", "layer-lists", "tar-splits"
#: The largest of these files, in bytes.
MAX_LIST_FILE = 256 << 20
_PLACE = re.compile(rf"(?:{LISTS}|{LAYER_LISTS}|{TAR_SPLITS})/([0-9a-f]{{2}})/\1[0-9a-f]{{62}}\Z")


def is_place(text: str) -> bool:
    """Whether ``text`` is the place of such a file, a path in the cache."""
    return _PLACE.match(text) is not None


def list_files(directory: str) -> Iterator[str]:
    """The places of all such files in the cache ``directory``."""
    for kind in (LISTS, LAYER_LISTS, TAR_SPLITS):
        for parent, _, names in os.walk(f"{directory}/{kind}"):
            for name in names:
                place = f"{kind}/{os.path.basename(parent)}/{name}"
                if is_place(place):
                    yield place


def read_list_file(directory: str, place: str) -> bytes | None:
    """The content of the file at ``place``; None if there is none."""
    try:
        return read_bounded(f"{directory}/{place}", MAX_LIST_FILE)
    except OSError:
        return None


def put_list_file(directory: str, place: str, data: bytes) -> bool:
    """Put a file at ``place`` unless there is one; tell whether it is new. Raises StoreError."""
    path = f"{directory}/{place}"
    if os.path.lexists(path):
        return False
    try:
        write_whole(path, data, inside=directory)
    except OSError as err:
        raise StoreError(
            f"can't write to the cache {printable(directory)}: {err.strerror}",
            "name another directory with --cache DIR",
        ) from None
    return True
