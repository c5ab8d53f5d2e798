# SPDX-License-Identifier: Apache-2.0
"""The accounts of an image: the user that its config names, and local copies of its account files
and of files that programs lock.

podman writes a user that the image doesn't know into its ``/etc/passwd``, and ``useradd`` changes
that and its neighbours. Kernel overlayfs copies a file up for that, and lets nobody do so with a
file whose owner the user's namespace doesn't know. Copies in the store are the user's own. ``dpkg``
and ``apt`` lock files that are closed to others, which fuse-overlayfs can't open either.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from podman_cvmfs.oci.customary import LOCKS
from podman_cvmfs.resolve.shown import Stack
from podman_cvmfs.store.records import Node

_PASSWD, _GROUP = "etc/passwd", "etc/group"
_SHADOW, _GSHADOW = "etc/shadow", "etc/gshadow"
#: What shadow(8)'s programs write in; beside each they keep one with a hyphen.
_WRITTEN = (_PASSWD, _GROUP, _SHADOW, _GSHADOW, "etc/subuid", "etc/subgid")
#: They make it once and lock it from then on.
_LOCK = "etc/.pwd.lock"
#: Larger files are nobody's accounts, in bytes.
_MOST = 1024 * 1024


@dataclass(frozen=True)
class User:
    """The user that a config names, not root."""

    uid: int
    gid: int
    home: str | None


def user_of(stack: Stack, named: str) -> User | None:
    """The config's ``USER``: a name or number, with or without group (OCI image-spec v1.1
    ``config.md``). None for root, and where the image doesn't know the name.

    Raises RepositoryError.
    """
    name, _, group = named.partition(":")
    if name in ("", "0", "root"):
        return None
    uid = int(name) if _is_id(name) else None
    gid, home = 0, None
    for fields in _records(stack, _PASSWD, 6):
        if name in (fields[0], fields[2]) and all(map(_is_id, fields[2:4])):
            uid, gid, home = int(fields[2]), int(fields[3]), fields[5]
            break
    if _is_id(group):
        gid = int(group)
    for fields in _records(stack, _GROUP, 3) if group and not _is_id(group) else ():
        if fields[0] == group and _is_id(fields[2]):
            gid = int(fields[2])
            break
    # Larger IDs no system has.
    if uid is None or max(uid, gid) >= 1 << 32 or uid == 0:
        return None
    return User(uid, gid, home)


def copies_of(stack: Stack) -> Iterator[Node]:
    """Copies of the account files that the image has, for a user who isn't their owner.

    In the place of one that the user can't read there is one in which no password is right; its
    backup isn't shown. Links aren't followed. Raises RepositoryError.
    """
    for path in _WRITTEN:
        yield from _copy(stack, path, _locked(stack, path))
        yield from _copy(stack, f"{path}-", None)
    for path in (_LOCK, *LOCKS):
        yield from _copy(stack, path, b"")


def _copy(stack: Stack, path: str, otherwise: bytes | None) -> Iterator[Node]:
    """A copy of the file at ``path``, if it is one; where it is closed to the user, one that holds
    ``otherwise``, or a whiteout."""
    attributes = stack.lstat(path)
    if attributes is None or not _is_small_file(attributes):
        return
    # CernVM-FS would fetch an empty file, too, and most locks and maps of IDs are empty.
    content = stack.read(path, _MOST) if attributes.st_size else b""
    content = otherwise if content is None else content
    if content is None:
        yield Node(path, is_whiteout=True)
    else:
        # Some have a shadow that nobody but root may read, by no mode at all.
        mode = stat.S_IMODE(attributes.st_mode) | 0o400
        yield Node(path, mode=mode, mtime_ns=attributes.st_mtime_ns, content=content)


def _is_small_file(attributes: os.stat_result) -> bool:
    return stat.S_ISREG(attributes.st_mode) and attributes.st_size <= _MOST


def _locked(stack: Stack, path: str) -> bytes | None:
    """shadow(5) or gshadow(5) with every password locked; None for other paths."""
    if path == _SHADOW:
        lines = [f"{fields[0]}:*:::::::\n" for fields in _records(stack, _PASSWD, 6)]
    elif path == _GSHADOW:
        lines = [f"{fields[0]}:*::{fields[3]}\n" for fields in _records(stack, _GROUP, 4)]
    else:
        return None
    return "".join(lines).encode("utf-8", "surrogateescape")


def _is_id(text: str) -> bool:
    return text.isdecimal() and len(text) <= 10


def _records(stack: Stack, path: str, fields: int) -> Iterator[list[str]]:
    """The lines of passwd(5) or group(5) in the image, apart."""
    attributes = stack.lstat(path)
    if attributes is None or not _is_small_file(attributes):
        return
    data = stack.read(path, _MOST) or b""
    for line in data.decode("utf-8", "surrogateescape").splitlines():
        found = line.split(":")
        if len(found) >= fields:
            yield found
