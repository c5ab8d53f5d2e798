# SPDX-License-Identifier: Apache-2.0
"""Read what a layer or a piece shows back from the pool, and tell whether it is as it was written.

The name of an entry of the pool holds a hash of all that its directory was made from, so the
directory can be checked without the repository. What is on disk doesn't tell all of it: the owners
and times of directories are part of it only where they come from an image.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from podman_cvmfs.store.records import Link, LocalPart, Node, Part
from podman_cvmfs.verify.inspection import Inspection

#: Either makes a directory opaque, depending on who mounts it.
_OPAQUE = ("user.overlay.opaque", "trusted.overlay.opaque")


def read_part(look: Inspection, path: str) -> Part | None:
    """What the ``diff`` in the directory ``path`` of the pool shows; None, and a finding, if it
    can't be read. What is closed to others than the store's owner is in ``look.closed``."""
    place = f"{path}/diff"
    attributes = look.attributes(place)
    if attributes is None:
        return None
    if stat.S_ISLNK(attributes.st_mode):
        target = look.link(place)
        if target is None:
            return None
        look.belongs(place, attributes)
        return Link(target)
    try:
        return LocalPart(_nodes(look, place))
    except OSError as err:
        if isinstance(err, PermissionError) and os.geteuid() not in (0, look.owner):
            look.closed.append(place)
        else:
            look.error(place, f"can't be read: {err.strerror}")
        return None


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
            look.belongs(relative, attributes)
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


def readings(part: Part) -> Iterator[Part]:
    """What a part that looks like this on disk may have been made from: with owners or without,
    with times or without, with setgid bits taken over from the directory it is in."""
    if isinstance(part, Link):
        yield part
        return
    for mask in (0o7777, 0o5777):
        for owned in (True, False):
            for dated in (True, False):
                nodes = [_reading(node, mask, owned, dated) for node in part.nodes]
                nodes.sort(key=lambda node: node.path.split("/") if node.path else [])
                yield LocalPart(tuple(nodes))


def _reading(node: Node, mask: int, owned: bool, dated: bool) -> Node:
    if node.is_whiteout:
        return node
    return node._replace(
        mode=node.mode & mask,
        owner=node.owner if owned else None,
        mtime_ns=node.mtime_ns if dated else None,
    )
