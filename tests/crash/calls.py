# SPDX-License-Identifier: Apache-2.0
"""The system calls that touch files: their numbers, and where their arguments name a file.

Numbers from the kernel's ``arch/x86/entry/syscalls/syscall_64.tbl`` and
``include/uapi/asm-generic/unistd.h``.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass

_X86_64 = """
    read 0, write 1, open 2, close 3, stat 4, lstat 6, pread64 17, pwrite64 18, readv 19,
    writev 20, access 21, sendfile 40, fcntl 72, flock 73, fsync 74, fdatasync 75, truncate
    76, ftruncate 77, rename 82, mkdir 83, rmdir 84, creat 85, link 86, unlink 87, symlink 88,
    readlink 89, chmod 90, fchmod 91, chown 92, fchown 93, lchown 94, utime 132, mknod 133,
    sync 162, setxattr 188, lsetxattr 189, fsetxattr 190, getxattr 191, lgetxattr 192,
    listxattr 194, llistxattr 195, removexattr 197, lremovexattr 198, fremovexattr 199,
    getdents64 217, utimes 235, openat 257, mkdirat 258, mknodat 259, fchownat 260, newfstatat
    262, unlinkat 263, renameat 264, linkat 265, symlinkat 266, readlinkat 267, fchmodat 268,
    faccessat 269, utimensat 280, fallocate 285, pwritev 296, syncfs 306, renameat2 316,
    copy_file_range 326, pwritev2 328, statx 332, openat2 437, faccessat2 439, fchmodat2 452
"""
_GENERIC = """
    setxattr 5, lsetxattr 6, fsetxattr 7, getxattr 8, lgetxattr 9, listxattr 11, llistxattr
    12, removexattr 14, lremovexattr 15, fremovexattr 16, fcntl 25, flock 32, mknodat 33,
    mkdirat 34, unlinkat 35, symlinkat 36, linkat 37, renameat 38, truncate 45, ftruncate 46,
    fallocate 47, faccessat 48, fchmod 52, fchmodat 53, fchownat 54, fchown 55, openat 56,
    close 57, getdents64 61, read 63, write 64, readv 65, writev 66, pread64 67, pwrite64 68,
    pwritev 70, sendfile 71, readlinkat 78, newfstatat 79, sync 81, fsync 82, fdatasync 83,
    utimensat 88, syncfs 267, renameat2 276, copy_file_range 285, pwritev2 287, statx 291,
    openat2 437, faccessat2 439, fchmodat2 452
"""


def _numbers(table: str) -> dict[str, int]:
    pairs = (entry.split() for entry in table.split(","))
    return {name: int(number) for name, number in pairs}


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


#: Call -> number, on this machine.
NUMBERS = _numbers({"x86_64": _X86_64, "aarch64": _GENERIC}[platform.machine()])
NAMES = {number: name for name, number in NUMBERS.items()}

_BY_DESCRIPTOR = _names(
    "read write close pread64 pwrite64 readv writev fcntl flock fsync fdatasync ftruncate fchmod "
    "fchown fsetxattr fremovexattr getdents64 fallocate pwritev pwritev2 syncfs"
)
#: Call -> which arguments are (directory descriptor, path); the last pair is what is changed.
_AT = {
    "linkat": (2, 3),
    "renameat": (2, 3),
    "renameat2": (2, 3),
    "symlinkat": (1, 2),
}
_SECOND = frozenset(("rename", "link", "symlink"))
_DESCRIPTOR_AT = {"sendfile": 0, "copy_file_range": 2}

_OPENS = frozenset(("open", "openat"))
_READS = _names(
    "read pread64 readv stat lstat access readlink readlinkat newfstatat statx faccessat "
    "faccessat2 getxattr lgetxattr listxattr llistxattr getdents64"
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_LOCKING = {6, 7, 37, 38}  # F_SETLK, F_SETLKW and their forms for open file descriptions

#: What changes a file system, or is a step of doing so; and what reads one.
MODIFYING = frozenset(NUMBERS) - _READS
READING = _READS | (_OPENS & frozenset(NUMBERS))


@dataclass(frozen=True)
class Call:
    """A system call that a process is about to make."""

    name: str
    process: int
    arguments: tuple[int, ...]

    @property
    def modifies(self) -> bool:
        """Whether it may change a file or a lock."""
        if self.name in _OPENS:
            return bool(self._flags & _WRITING)
        if self.name == "fcntl":
            return self.arguments[1] in _LOCKING
        return self.name in MODIFYING

    @property
    def reads(self) -> bool:
        """Whether it reads names, attributes or content."""
        return self.name in _READS or (self.name in _OPENS and not self._flags & _WRITING)

    @property
    def _flags(self) -> int:
        return self.arguments[2 if self.name == "openat" else 1]

    def path(self) -> str:
        """The absolute path of the file it is about, "" if that can't be told."""
        try:
            if self.name in _BY_DESCRIPTOR:
                return self._descriptor(self.arguments[0])
            if self.name in _DESCRIPTOR_AT:
                return self._descriptor(self.arguments[_DESCRIPTOR_AT[self.name]])
            if self.name in _AT or self.name.endswith(("at", "at2")) or self.name == "statx":
                directory, path = _AT.get(self.name, (0, 1))
                text = self._text(self.arguments[path])
                if os.path.isabs(text):
                    return text
                return f"{self._descriptor(self.arguments[directory])}/{text}".rstrip("/")
            text = self._text(self.arguments[1 if self.name in _SECOND else 0])
            return os.path.join(os.readlink(f"/proc/{self.process}/cwd"), text)
        except OSError:
            return ""

    def _descriptor(self, number: int) -> str:
        # AT_FDCWD comes as an unsigned number, of 32 or 64 bits.
        name = f"fd/{number}" if number < 1 << 31 else "cwd"
        return os.readlink(f"/proc/{self.process}/{name}")

    def _text(self, address: int) -> str:
        if address == 0:
            return ""
        data = b""
        with open(f"/proc/{self.process}/mem", "rb", buffering=0) as memory:
            # A read must not run into a page that isn't there.
            while b"\0" not in data:
                place = address + len(data)
                memory.seek(place)
                data += memory.read(4096 - place % 4096)
        return os.fsdecode(data.partition(b"\0")[0])

    def __str__(self) -> str:
        return f"{self.name}({self.path()})"
