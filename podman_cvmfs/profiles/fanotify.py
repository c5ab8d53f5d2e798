# SPDX-License-Identifier: Apache-2.0
"""Reports which files of a file system are opened: Linux' fanotify(7), by ctypes.

Only notifications are asked for, no permissions: nobody waits for us.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator

from podman_cvmfs.errors import PodmanCvmfsError

#: ``linux/fanotify.h``.
_CLOEXEC, _NONBLOCK, _CLASS_NOTIF, _UNLIMITED_QUEUE = 0x1, 0x2, 0x0, 0x10
_MARK_ADD, _MARK_FILESYSTEM = 0x1, 0x100
_OPEN, _OVERFLOW = 0x20, 0x4000
_AT_FDCWD = -100
#: Length, version, reserved, length of the metadata, mask, descriptor, process.
_EVENT = struct.Struct("=IBBHQii")
_BUFFER = 256 * 1024


class OpenedFiles:
    """The files that anybody opens on the file system at ``path``, from now until ``close``.

    Raises PodmanCvmfsError where that can't be asked for: it needs root, in the first user
    namespace, and Linux 4.20.
    """

    def __init__(self, path: str) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        flags = _CLASS_NOTIF | _CLOEXEC | _NONBLOCK | _UNLIMITED_QUEUE
        #: Some were missed, because there were too many at once.
        self.is_incomplete = False
        #: Readable when somebody has opened a file.
        self.descriptor = self._call(
            "fanotify_init", flags, os.O_RDONLY | os.O_CLOEXEC | os.O_LARGEFILE
        )
        try:
            self._call(
                "fanotify_mark",
                self.descriptor,
                _MARK_ADD | _MARK_FILESYSTEM,
                ctypes.c_uint64(_OPEN),
                _AT_FDCWD,
                os.fsencode(path),
            )
        except BaseException:
            self.close()
            raise

    def _call(self, name: str, *arguments: object) -> int:
        found: int = getattr(self._libc, name)(*arguments)
        if found < 0:
            number = ctypes.get_errno()
            hint = "run this as root" if number == errno.EPERM else None
            raise PodmanCvmfsError(f"the kernel refuses {name}: {os.strerror(number)}", hint)
        return found

    def paths(self) -> Iterator[str]:
        """The paths opened since the last call, as the opener's mount has them, in order."""
        while True:
            try:
                data = os.read(self.descriptor, _BUFFER)
            except BlockingIOError:
                return
            offset = 0
            while offset + _EVENT.size <= len(data):
                length, _, _, _, mask, descriptor, _ = _EVENT.unpack_from(data, offset)
                offset += max(length, _EVENT.size)
                if mask & _OVERFLOW:
                    self.is_incomplete = True
                if descriptor < 0:
                    continue
                try:
                    yield os.readlink(f"/proc/self/fd/{descriptor}")
                finally:
                    os.close(descriptor)

    def close(self) -> None:
        """Ask for no more."""
        os.close(self.descriptor)
