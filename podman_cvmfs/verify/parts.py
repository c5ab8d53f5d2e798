# SPDX-License-Identifier: Apache-2.0
"""Read a layer's directory of the pool back, and tell whether it is as it was written.

The name of an entry of the pool holds a hash of all that its directory was made from, so the
directory can be checked without the repository. What is on disk doesn't tell all of it: the owners
and times of directories are part of it only where they come from a layer.
"""

from __future__ import annotations

import itertools
import os
import re
import stat
from dataclasses import replace

from podman_cvmfs.store.records import LayerDirectory, Link, LocalPart, Node, Part
from podman_cvmfs.verify.inspection import Inspection

_PART = re.compile(r"diff([1-9][0-9]*)?\Z")
_LOWER = re.compile(r"l/([A-Z2-7]{13})\Z")
#: No layer has more; the format of containers/storage ends at diff999.
_MAX_PARTS = 999
#: Either makes a directory opaque, depending on who mounts it.
_OPAQUE = ("user.overlay.opaque", "trusted.overlay.opaque")


def read_parts(look: Inspection, path: str, names: set[str]) -> tuple[Part, ...] | None:
    """The parts of the layer whose directory ``path`` holds ``names``; None, and a finding, if
    they can't be read. What is closed to others than the store's owner is in ``look.closed``."""
    numbers = sorted(int(match.group(1) or 0) for match in map(_PART.match, names) if match)
    if numbers != list(range(max(1, len(numbers)))) or len(numbers) > _MAX_PARTS:
        look.error(path, "hasn't got its diff, or not all of them")
        return None
    parts: list[Part] = []
    for number in numbers:
        place = f"{path}/diff{number or ''}"
        attributes = look.attributes(place)
        if attributes is None:
            return None
        if stat.S_ISLNK(attributes.st_mode):
            target = look.link(place)
            if target is None:
                return None
            look.belongs(place, attributes)
            parts.append(Link(target))
        else:
            try:
                parts.append(LocalPart(_nodes(look, place)))
            except OSError as err:
                if isinstance(err, PermissionError) and os.geteuid() not in (0, look.owner):
                    look.closed.append(place)
                else:
                    look.error(place, f"can't be read: {err.strerror}")
                return None
    return tuple(parts)


def _nodes(look: Inspection, place: str) -> tuple[Node, ...]:
    """A local part from disk, with all it has in owners and times. Raises OSError."""
    nodes = []
    pending = [""]
    while pending:
        path = pending.pop()
        relative = f"{place}/{path}" if path else place
        full = look.path(relative)
        attributes = os.lstat(full)
        if stat.S_ISCHR(attributes.st_mode) and attributes.st_rdev == 0:
            nodes.append(Node(path, is_whiteout=True))
        elif stat.S_ISDIR(attributes.st_mode):
            owner = (attributes.st_uid, attributes.st_gid)
            mode = stat.S_IMODE(attributes.st_mode)
            opaque = _is_opaque(full)
            nodes.append(Node(path, False, mode, owner, attributes.st_mtime_ns, opaque))
            pending.extend(f"{path}/{name}" if path else name for name in os.listdir(full))
        else:
            look.error(relative, "is neither a directory nor a whiteout")
    return tuple(nodes)


def _is_opaque(path: str) -> bool:
    for name in _OPAQUE:
        try:
            if os.getxattr(path, name, follow_symlinks=False) == b"y":
                return True
        except OSError:
            continue
    return False


def as_written(found: LayerDirectory, entry: str) -> LayerDirectory | None:
    """The description from which the entry of the name ``entry`` was made, if that can have given
    what is on disk, which ``found`` describes. None if not."""
    for choice in itertools.product(*map(_readings, found.parts)):
        directory = replace(found, parts=tuple(choice))
        if directory.entry == entry:
            return directory
    return None


def _readings(part: Part) -> list[Part]:
    """What a part that looks like this on disk may have been made from: with or without owners and
    times, with setgid bits taken over from the directory it is in, in either order."""
    if isinstance(part, Link):
        return [part]
    found: dict[LocalPart, None] = {}
    for plain, mask in ((True, 0o7777), (False, 0o7777), (True, 0o5777)):
        nodes = [_reading(node, plain, mask) for node in part.nodes]
        nodes.sort(key=lambda node: node.path)
        found[LocalPart(tuple(nodes))] = None
        nodes.sort(key=lambda node: node.path.split("/") if node.path else [])
        found[LocalPart(tuple(nodes))] = None
    return list(found)


def _reading(node: Node, plain: bool, mask: int) -> Node:
    if node.is_whiteout:
        return node
    mode = node.mode & mask
    return replace(node, mode=mode, owner=None, mtime_ns=None) if plain else node


def can_be_told(parts: tuple[Part, ...], owner: int | None) -> bool:
    """Whether the name of an entry of these parts can be computed again, in a store of ``owner``.

    Not where an ordinary user's store translates whiteouts: the name counts in the owners that the
    directories have in their layer, but only root can give them to the copies.
    """
    return owner == 0 or len(parts) < 3 or isinstance(parts[-1], Link)


def read_lower(data: bytes) -> list[str] | None:
    """The link names in the content of a ``lower`` file; None if it is malformed."""
    try:
        matches = [_LOWER.match(word) for word in data.decode("ascii").split(":")]
    except UnicodeDecodeError:
        return None
    names = [match.group(1) for match in matches if match]
    return names if len(names) == len(matches) else None
