# SPDX-License-Identifier: Apache-2.0
"""Small files that are written whole or not at all, and file systems that are written out."""

from __future__ import annotations

import ctypes
import errno
import os
import tempfile

from podman_cvmfs.util.trusted_place import require_own_place


def write_whole(path: str, data: bytes, *, inside: str | None = None) -> None:
    """Put ``data`` at ``path`` by a rename, readable for everybody. Raises OSError.

    Missing directories are made; those below the directory ``inside`` must be no symbolic links,
    and for root that must be a place of root's, else InputError. A reader sees the old content or
    the new.
    """
    directory = os.path.dirname(path)
    above = directory
    while inside is not None and len(above) > len(inside):
        if os.path.islink(above):
            raise OSError(errno.ELOOP, "it holds a symbolic link in a directory's place", above)
        above = os.path.dirname(above)
    os.makedirs(directory, mode=0o755, exist_ok=True)
    if inside is not None:
        require_own_place(inside)
    descriptor, temporary = tempfile.mkstemp(dir=directory, prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def sync_file_system(path: str) -> None:
    """Have the kernel write out the file system of the directory ``path``. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(descriptor)
