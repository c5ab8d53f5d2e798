# SPDX-License-Identifier: Apache-2.0
"""Which process holds a lock that we wait for, as far as the kernel tells (proc_locks(5))."""

from __future__ import annotations

import os

from podman_cvmfs.errors import printable


def lock_holder(descriptor: int) -> str:
    """Name the processes that hold a lock on the open file: ``process 12 (podman)``.

    Both flock and fcntl locks count. A holder on another machine, or in a container whose
    processes aren't seen here, is "a process that isn't seen here".
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
    return " and ".join(map(_named, found)) or "a process that isn't seen here"


def _named(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", "rb") as file:
            name = file.read().decode("utf-8", "replace").strip()
    except OSError:
        return f"process {pid}"
    return f"process {pid} ({printable(name)})"
