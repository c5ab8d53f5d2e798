# SPDX-License-Identifier: Apache-2.0
"""Examine the pieces that layers mount: links into repositories, and local directories."""

from __future__ import annotations

import re

from podman_cvmfs.repository.layout import FLAT_PATTERN, LAYER_FILES_PATTERN, OSG_ROOT_PATTERN
from podman_cvmfs.store import layout
from podman_cvmfs.store.records import Link, LocalPart, Part, Piece
from podman_cvmfs.verify.inspection import Inspection
from podman_cvmfs.verify.metadata import read_metadata_piece
from podman_cvmfs.verify.parts import read_part, readings

#: So many directories are named.
_SHOWN = 5
#: The part below a repository's root in the paths that pieces link to.
TARGET = re.compile(
    rf"(?P<root>/.*?)/(?:{LAYER_FILES_PATTERN}|{FLAT_PATTERN}|(?P<merged>{OSG_ROOT_PATTERN}))\Z"
)


def check_piece(look: Inspection, entry: str, piece_id: str) -> tuple[Piece | None, Part | None]:
    """Examine the directory ``entry`` of the pool. Returns the piece, if it is unchanged, and what
    it shows, as far as that can be read."""
    names = look.names(entry)
    if names is None:
        return None, None
    if layout.COMPOSEFS in names:
        return read_metadata_piece(look, entry, names, piece_id)
    look.no_others(entry, names, {"link", "diff"})
    look.holds(f"{entry}/link", layout.link_name(piece_id).encode())
    part = read_part(look, entry)
    if part is None:
        return None, None
    for each in readings(part):
        piece = Piece.of(each)
        if piece.piece_id == piece_id:
            check_owners(look, f"{entry}/diff", part, each)
            return piece, part
    what = "has been changed: its name has another checksum"
    look.error(entry, what + _others_directories(look, part))
    return None, part


def _others_directories(look: Inspection, part: Link | LocalPart) -> str:
    """Directories in a part that don't belong to the store's owner. An image's users may own some,
    strangers may not."""
    nodes = () if isinstance(part, Link) else part.nodes
    found = [
        f"{node.path} of user {node.owner[0]}"
        for node in sorted(nodes, key=lambda each: each.path)
        if node.owner is not None and node.owner[0] != look.owner
    ]
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"; it holds {', '.join(found[:_SHOWN])}{more}" if found else ""


def check_owners(look: Inspection, place: str, part: Part | None, written: Part) -> None:
    """Files of a local part that need no other owner must belong to the store's owner."""
    if not isinstance(part, LocalPart) or not isinstance(written, LocalPart):
        return
    ours = {node.path for node in written.nodes if node.owner is None}
    for node in part.nodes:
        if node.owner is not None and node.path in ours and node.owner[0] != look.owner:
            look.error(
                f"{place}/{node.path}".rstrip("/"),
                f"is owned by uid {node.owner[0]}, not {look.owner}",
            )
