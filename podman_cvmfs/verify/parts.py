# SPDX-License-Identifier: Apache-2.0
"""Read a layer's or piece's part back from the pool, and tell whether it has been changed.

The name of a pool entry holds a hash of everything that its directory was made from. So the
directory can be checked without the repository. The disk doesn't tell everything: the owners and
times of directories are part of the hash only if they come from an image.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator

from podman_cvmfs.store.records import Link, LocalPart, Node
from podman_cvmfs.util.foreign_file import read_bounded
from podman_cvmfs.verify.inspection import Inspection, kind_of
from podman_cvmfs.verify.strangers import note_stranger

#: Each makes a directory opaque for one kind of mount.
_OPAQUE = ("user.overlay.opaque", "trusted.overlay.opaque")
#: Larger files no sync writes, in bytes.
_MOST = 1024 * 1024
_LOWER = re.compile(r"l/([A-Z2-7]{13})\Z")


def read_part(look: Inspection, path: str) -> Link | LocalPart | None:
    """The part that the ``diff`` in the pool directory ``path`` shows; None, and a finding, if it
    can't be read. ``look.closed`` gets the directories that only the store's owner can read."""
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
    if not stat.S_ISDIR(attributes.st_mode):
        look.error(place, f"is {kind_of(attributes)}, neither a directory nor a link")
        return None
    try:
        return LocalPart(_nodes(look, place))
    except OSError as err:
        look.unread(place, err)
        return None


def _nodes(look: Inspection, place: str) -> tuple[Node, ...]:
    """A local part from disk, with all owners and times. Left out, and noted, is
    everything that no sync writes: whiteouts and files of strangers, and what is no file, whiteout
    or directory. Raises OSError."""
    nodes = []
    pending = [""]
    while pending:
        path = pending.pop()
        relative = f"{place}/{path}" if path else place
        full = look.path(relative)
        attributes = os.lstat(full)
        is_whiteout = stat.S_ISCHR(attributes.st_mode) and attributes.st_rdev == 0
        is_ours = attributes.st_uid == look.owner
        owner = (attributes.st_uid, attributes.st_gid)
        mode = stat.S_IMODE(attributes.st_mode)
        if is_whiteout and is_ours:
            nodes.append(Node(path, is_whiteout=True))
        elif stat.S_ISREG(attributes.st_mode) and is_ours and look.owner != 0:
            content = read_bounded(full, _MOST)
            nodes.append(Node(path, False, mode, owner, attributes.st_mtime_ns, content=content))
        elif stat.S_ISDIR(attributes.st_mode):
            opaque = _is_opaque(full)
            nodes.append(Node(path, False, mode, owner, attributes.st_mtime_ns, opaque))
            pending.extend(f"{path}/{name}" if path else name for name in os.listdir(full))
        else:
            note_stranger(look, relative, attributes.st_uid)
    return tuple(nodes)


def _is_opaque(path: str) -> bool:
    for name in _OPAQUE:
        try:
            if os.getxattr(path, name, follow_symlinks=False) == b"y":
                return True
        except OSError:
            continue
    return False


def read_lower(data: bytes) -> list[str] | None:
    """The link names in the content of a ``lower`` file; None if it is malformed."""
    try:
        matches = [_LOWER.match(word) for word in data.decode("ascii").split(":")]
    except UnicodeDecodeError:
        return None
    names = [match.group(1) for match in matches if match]
    return names if len(names) == len(matches) else None


def readings(part: Link | LocalPart) -> Iterator[Link | LocalPart]:
    """The parts that may look like this on disk: with all owners, no owners or one user's alone;
    with or without times; with or without setgid bits inherited from the parent directory."""
    if isinstance(part, Link):
        yield part
        return
    users = frozenset(node.owner[0] for node in part.nodes if node.owner is not None)
    # In a shared store only directories of the repository's owner are given away.
    single = [frozenset([uid]) for uid in sorted(users)] if len(users) > 1 else []
    for mask in (0o7777, 0o5777):
        for owners in (users, frozenset[int](), *single):
            for dated in (True, False):
                nodes = [_reading(node, mask, owners, dated) for node in part.nodes]
                nodes.sort(key=lambda node: node.path.split("/") if node.path else [])
                yield LocalPart(tuple(nodes))


def _reading(node: Node, mask: int, owners: frozenset[int], dated: bool) -> Node:
    if node.is_whiteout:
        return node
    return node._replace(
        mode=node.mode & mask,
        owner=node.owner if node.owner is not None and node.owner[0] in owners else None,
        mtime_ns=node.mtime_ns if dated or node.content is not None else None,
    )
