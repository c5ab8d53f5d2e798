# SPDX-License-Identifier: Apache-2.0
"""Lists and compares file trees from outside: the oracle for "the container sees the same"."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "fifo",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
    stat.S_IFSOCK: "socket",
}


@dataclass(frozen=True)
class Entry:
    """All that can be seen of one file. ``mode`` is the permission bits, ``mtime`` in ns."""

    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    nlink: int
    mtime: int
    content: str
    target: bytes
    device: tuple[int, int]
    xattrs: tuple[tuple[str, bytes], ...]


def _xattrs(path: bytes) -> tuple[tuple[str, bytes], ...]:
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError:
        return ()
    wanted = sorted(n for n in names if n.startswith("user.") or n == "security.capability")
    # overlayfs and fuse-overlayfs keep their own notes in user.*: no part of the image.
    wanted = [n for n in wanted if not n.startswith(("user.overlay.", "user.fuseoverlayfs."))]
    return tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in wanted)


def entry_of(path: bytes) -> Entry:
    info = os.lstat(path)
    kind = KINDS[stat.S_IFMT(info.st_mode)]
    content = ""
    if kind == "file":
        with open(path, "rb") as stream:
            content = hashlib.sha256(stream.read()).hexdigest()
    is_device = kind.endswith("device")
    return Entry(
        kind=kind,
        mode=stat.S_IMODE(info.st_mode),
        uid=info.st_uid,
        gid=info.st_gid,
        # Sizes and link counts of directories are the file system's own business.
        size=0 if kind == "directory" else info.st_size,
        nlink=0 if kind == "directory" else info.st_nlink,
        mtime=info.st_mtime_ns,
        content=content,
        target=os.readlink(path) if kind == "link" else b"",
        device=(os.major(info.st_rdev), os.minor(info.st_rdev)) if is_device else (0, 0),
        xattrs=_xattrs(path),
    )


def list_tree(root: Path) -> dict[bytes, Entry]:
    """Return what lies below ``root``, keyed by its path relative to it; the root is ``.``."""
    top = os.fsencode(root)
    found = {b".": entry_of(top)}
    for parent, directories, files in os.walk(top):
        for name in (*directories, *files):
            path = os.path.join(parent, name)
            found[os.path.relpath(path, top)] = entry_of(path)
    return found


def diff_trees(
    wanted: Mapping[bytes, Entry],
    seen: Mapping[bytes, Entry],
    *,
    ignore: Collection[str] = (),
    skip: Collection[bytes] = (),
) -> list[str]:
    """Describe every difference, one line each; an empty list means the trees are equal.

    ``ignore`` names fields of Entry that don't count, ``skip`` paths (with all below them).
    """
    compared = [f.name for f in fields(Entry) if f.name not in ignore]
    lines = []
    for path in sorted({*wanted, *seen}):
        if any(path == s or path.startswith(s + b"/") for s in skip):
            continue
        if path not in seen:
            lines.append(f"{path!r} is missing")
        elif path not in wanted:
            lines.append(f"{path!r} is there and should not be")
        else:
            for name in compared:
                old, new = getattr(wanted[path], name), getattr(seen[path], name)
                if old != new:
                    lines.append(f"{path!r}: {name} is {new!r}, should be {old!r}")
    return lines
