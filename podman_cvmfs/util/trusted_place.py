# SPDX-License-Identifier: Apache-2.0
"""Checks that nobody else can exchange the files in a directory.

Root who works by paths in a directory of somebody else can be led anywhere: its owner may put a
symbolic link in the place of each part, at any time.
"""

from __future__ import annotations

import os
import stat

from podman_cvmfs.errors import InputError, printable

#: Linux' own limit of links in one path.
_MAX_LINKS = 40


def require_own_place(path: str) -> None:
    """Raise InputError unless the caller may rely on all parts of ``path`` that exist.

    For root each part from / on, links and their targets too, must belong to root, and root alone
    may write to it. Parts above the last may be open to all if they are sticky, as /tmp is.
    For others the last part that exists must be theirs or root's.

    Parts that are missing aren't looked at: call it again after they are made. Raises OSError if
    a part can't be examined.
    """
    user = os.geteuid()
    if user == 0:
        _require_roots(path)
        return
    where = os.path.realpath(path)
    while not os.path.lexists(where):
        where = os.path.dirname(where)
    owner = os.lstat(where).st_uid
    if owner not in (user, 0) and not _is_unmapped(owner):
        raise InputError(
            f"{printable(path)} belongs to another user ({_name(owner)})",
            "choose a directory of your own",
        )


def _require_roots(path: str) -> None:
    resolved = "/"
    pending = os.path.join(os.getcwd(), path).split("/")[::-1]
    links = 0
    _check(path, resolved, os.lstat(resolved), not any(pending))
    while pending:
        part = pending.pop()
        if part in ("", "."):
            continue
        if part == "..":
            resolved = os.path.dirname(resolved)
            continue
        where = os.path.join(resolved, part)
        try:
            status = os.lstat(where)
        except FileNotFoundError:
            return
        _check(path, where, status, not any(pending))
        if not stat.S_ISLNK(status.st_mode):
            resolved = where
            continue
        links += 1
        if links > _MAX_LINKS:
            raise InputError(f"{printable(path)}: there are too many symbolic links on the way")
        target = os.readlink(where)
        if target.startswith("/"):
            resolved = "/"
        pending.extend(target.split("/")[::-1])


def _check(path: str, part: str, status: os.stat_result, is_last: bool) -> None:
    """InputError if somebody else than root can exchange ``part``, or what is in it."""
    refused = f"root doesn't work in {printable(path)}"
    shown = printable(part)
    if status.st_uid != 0 and not _is_unmapped(status.st_uid):
        owner = _name(status.st_uid)
        raise InputError(
            f"{refused}: {shown} belongs to {owner}",
            f"run this as {owner}, or choose a directory that only root can change",
        )
    # The mode of a link means nothing.
    if stat.S_ISLNK(status.st_mode) or not status.st_mode & 0o022:
        return
    # In a sticky directory nobody can exchange what belongs to root; but they can add to it.
    if status.st_mode & stat.S_ISVTX and not is_last:
        return
    raise InputError(
        f"{refused}: others can write to {shown}",
        f"run chmod go-w {shown}, or choose a directory that only root can change",
    )


def _name(user: int) -> str:
    # Only errors need it.
    import pwd

    try:
        return printable(pwd.getpwuid(user).pw_name)
    except KeyError:
        return f"user {user}"


def _is_unmapped(user: int) -> bool:
    """Whether we are in a user namespace that shows the owner as nobody.

    There the machine's root and strangers look alike, and our root has no more rights than the
    user who made the namespace.
    """
    try:
        with open("/proc/sys/fs/overflowuid", encoding="ascii") as file:
            if user != int(file.read()):
                return False
        with open("/proc/self/uid_map", encoding="ascii") as file:
            return file.read().split() != ["0", "0", "4294967295"]
    except OSError:
        return False
