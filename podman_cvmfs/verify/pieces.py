# SPDX-License-Identifier: Apache-2.0
"""Examine the pieces that layers mount: links into repositories, and local directories."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from podman_cvmfs.markers import parents_of
from podman_cvmfs.store import layout
from podman_cvmfs.store.records import Link, LocalPart, Part, Piece
from podman_cvmfs.verify.inspection import Inspection
from podman_cvmfs.verify.parts import read_part, readings
from podman_cvmfs.verify.strangers import note_directory

#: What stands below a repository's root in the paths that pieces link to.
TARGET = re.compile(
    r"(?P<root>/.*?)/(?:\.layers/(?P<l>[0-9a-f]{2})/(?P<blob>(?P=l)[0-9a-f]{62})/layerfs"
    r"|\.flat/(?P<f>[0-9a-f]{2})/(?P<source>(?P=f)[0-9a-f]{62})"
    r"|(?P<merged>\.images/(?:sha256:)?[0-9a-f]{2}/[0-9a-f]{62}))\Z"
)


def check_piece(look: Inspection, entry: str, piece_id: str) -> tuple[Piece | None, Part | None]:
    """Examine the directory ``entry`` of the pool. Returns the piece, if it is as it was written,
    and what it shows, as far as that can be read."""
    names = look.names(entry)
    if names is None:
        return None, None
    look.no_others(entry, names, {"link", "diff"})
    link, name = look.read(f"{entry}/link"), layout.link_name(piece_id)
    if link is not None and link != name.encode():
        look.error(f"{entry}/link", f"holds {link[:40]!r}, not {name}")
    part = read_part(look, entry)
    if part is None:
        return None, None
    found = _written(part, piece_id)
    if found is not None:
        check_owners(look, f"{entry}/diff", part, found.part)
        return found, part
    for uid, directories, rest in _without_strangers(look, part):
        found = _written(rest, piece_id)
        if found is not None:
            for path in directories:
                note_directory(look, f"{entry}/diff/{path}", uid)
            return found, rest
    look.error(entry, "isn't as it was written: its name has another checksum")
    return None, part


def _written(part: Part, piece_id: str) -> Piece | None:
    """The piece with the ID ``piece_id`` if it can look like ``part`` on disk."""
    return next((p for p in map(Piece.of, readings(part)) if p.piece_id == piece_id), None)


def _without_strangers(
    look: Inspection, part: Part
) -> Iterator[tuple[int, Sequence[str], LocalPart]]:
    """For each other user than the store's who owns directories: his ID, the paths of these, and
    ``part`` without them."""
    if isinstance(part, Link):
        return
    owned = {node.path: node.owner[0] for node in part.nodes if node.owner is not None}
    for uid in sorted(set(owned.values()) - {look.owner}):
        theirs = {path for path in owned if path and owned[path] == uid}
        tops = [path for path in theirs if theirs.isdisjoint(parents_of(path))]
        below = {p.path for p in part.nodes if not theirs.isdisjoint([p.path, *parents_of(p.path)])}
        rest = LocalPart(tuple(node for node in part.nodes if node.path not in below))
        yield uid, sorted(tops), rest


def check_owners(look: Inspection, place: str, part: Part | None, written: Part) -> None:
    """What of a local part has no owner of its own belongs to the store's."""
    if not isinstance(part, LocalPart) or not isinstance(written, LocalPart):
        return
    ours = {node.path for node in written.nodes if node.owner is None}
    for node in part.nodes:
        if node.owner is not None and node.path in ours and node.owner[0] != look.owner:
            look.error(
                f"{place}/{node.path}".rstrip("/"),
                f"is owned by uid {node.owner[0]}, not {look.owner}",
            )
