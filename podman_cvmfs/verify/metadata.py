# SPDX-License-Identifier: Apache-2.0
"""Examine the pieces with metadata of our own: the pieces of exact layers, and of repositories."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Collection

from podman_cvmfs.errors import InputError
from podman_cvmfs.lists.tar_split import tar_size
from podman_cvmfs.store import layout
from podman_cvmfs.store.entries import NO_FILES, NOTHING, digest_of
from podman_cvmfs.store.erofs import write_image
from podman_cvmfs.store.records import Data, Metadata, Part, Piece
from podman_cvmfs.verify.inspection import Inspection
from podman_cvmfs.verify.parts import read_part, readings

_LIST = re.compile(rb"([0-9a-f]{64}) ([0-9a-f]{64})\n\Z")


def read_metadata_piece(
    look: Inspection, entry: str, names: Collection[str], piece_id: str
) -> tuple[Piece | None, Part | None]:
    """Examine the directory ``entry`` of the pool, which has the ``names``. Returns the piece, if
    it is unchanged, and what it shows, as far as that can be read.

    The digest of the list is in the piece's ID. The digest of the blob is not: it shows damage.
    """
    look.holds(f"{entry}/link", layout.link_name(piece_id).encode())
    look.no_others(f"{entry}/{layout.COMPOSEFS}", look.names(f"{entry}/{layout.COMPOSEFS}") or (),
                   {os.path.basename(layout.BLOB)})  # fmt: skip
    if look.regular(f"{entry}/{layout.BLOB}") is None:
        return None, None
    part: Part
    if layout.LIST in names:
        look.no_others(entry, names, {"link", "diff", layout.COMPOSEFS, layout.FILES, layout.LIST})
        listed = _LIST.match(look.read(f"{entry}/{layout.LIST}") or b"")
        target = look.link(f"{entry}/{layout.FILES}")
        local = read_part(look, entry)
        if listed is None or target is None or local is None:
            look.error(f"{entry}/{layout.LIST}", "doesn't tell the digests of list and blob")
            return None, None
        if NOTHING not in readings(local):
            look.error(f"{entry}/diff", "should be an empty directory")
        digest, recorded = (each.decode() for each in listed.groups())
        part = next(
            (each for each in _possible(target, digest) if Piece.of(each).piece_id == piece_id),
            Metadata(target, "", digest),
        )
    else:
        look.no_others(entry, names, {"link", "diff", layout.COMPOSEFS})
        root = look.link(f"{entry}/diff")
        if root is None:
            return None, None
        part, recorded = Data(root), _digest_of_nothing()
    if Piece.of(part).piece_id != piece_id:
        look.error(entry, "has been changed: its name has another checksum")
        return None, part
    if look.reads_blobs and _digest(look, f"{entry}/{layout.BLOB}") != recorded:
        look.error(f"{entry}/{layout.BLOB}", f"doesn't have the digest {recorded}")
        return None, part
    return Piece(piece_id, part), part


def check_tar_split(look: Inspection, place: str) -> None:
    """Examine the tar-split at ``place`` as far as its own checksum shows damage."""
    if look.regular(place) is None or not look.reads_blobs:
        return
    try:
        with open(look.path(place), "rb") as file:
            tar_size(file)
    except OSError as err:
        look.error(place, f"can't be read: {err.strerror}")
    except InputError:
        look.error(place, "is damaged")


def _possible(target: str, digest: str) -> list[Metadata]:
    """The parts that may lead to ``target``: its repository is one of the directories above."""
    found = []
    root = os.path.dirname(target)
    while root != os.path.dirname(root):
        found.append(Metadata(target, root, digest))
        root = os.path.dirname(root)
    return found


def _digest_of_nothing() -> str:
    blob = io.BytesIO()
    write_image(NO_FILES, str, blob)
    return hashlib.sha256(blob.getvalue()).hexdigest()


def _digest(look: Inspection, place: str) -> str | None:
    """The digest of a blob; None, and a finding, if it can't be read."""
    try:
        with open(look.path(place), "rb") as blob:
            return digest_of(blob)
    except OSError as err:
        look.error(place, f"can't be read: {err.strerror}")
        return None
