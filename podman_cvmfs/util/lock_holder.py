# SPDX-License-Identifier: Apache-2.0
"""Which process holds a lock that we wait for, as far as the kernel tells."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import struct

from podman_cvmfs.errors import printable
from podman_cvmfs.util.foreign_file import read_bounded

#: struct flock of Linux on 64-bit machines: type, whence, start, length, process.
_FLOCK = "hhqqi0q"


def lock_holder(descriptor: int) -> str:
    """Name the processes that hold a lock on the open file, as ``named`` does (proc_locks(5)).

    Both flock and fcntl locks count. The kernel doesn't list holders on another machine, or in a
    container whose processes aren't seen here.
    """
    status = os.fstat(descriptor)
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    # Some file systems have another device number inside the kernel: then the inode must do.
    exactly: list[int] = []
    by_inode: list[int] = []
    try:
        with open("/proc/locks", encoding="ascii") as file:
            for line in file:
                words = line.split()
                if "->" in words or len(words) < 6:
                    # Somebody who waits, as we do.
                    continue
                where, _, inode = words[5].rpartition(":")
                if inode == str(status.st_ino):
                    (exactly if where == device else by_inode).append(int(words[4]))
    except (OSError, ValueError):
        pass
    # An open-file-description lock has no process: -1.
    found = [pid for pid in dict.fromkeys(exactly or by_inode) if pid > 0 and pid != os.getpid()]
    return " and ".join(map(named, found)) or named(None)


def holder_of(descriptor: int) -> int | None:
    """The process that keeps us from the write lock of an open file (fcntl(2), F_GETLK); None if no
    process does.

    0 or less where it is in another process namespace or on another machine. Raises OSError.
    """
    asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _, _, _, process = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    return None if kind == fcntl.F_UNLCK else int(process)


def named(process: int | None) -> str:
    """A process for a message: its ID, program and user, as far as they can be told."""
    if process is None or process <= 0:
        return "a process that can't be seen from here"
    found = f"process {process}"
    with contextlib.suppress(OSError):
        user = os.stat(f"/proc/{process}").st_uid
        program = read_bounded(f"/proc/{process}/comm", 64).decode("utf-8", "replace").strip()
        found += f" ({printable(program)}, of {_user(user)})"
    return found


def _user(user: int) -> str:
    try:
        return printable(pwd.getpwuid(user).pw_name)
    except KeyError:
        return f"user {user}"
