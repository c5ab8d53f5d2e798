# SPDX-License-Identifier: Apache-2.0
"""Owner, mode, extended attributes and time of a file: given to it, or copied from another.

Only root can set owners. An ordinary user owns all the files, and each must stay readable to its
owner (directories writable too). Otherwise the tree could not be merged or removed.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from podman_cvmfs.errors import InputError, RepositoryError, printable

log = logging.getLogger(__name__)

#: Not taken from images: overlayfs' own marks, which would act on a kernel overlay above the
#: repository, and labels and signatures that only mean something to the host that made them.
_SKIPPED = (
    "trusted.",
    "user.overlay.",
    "security.selinux",
    "security.ima",
    "security.evm",
    "security.apparmor",
    "security.SMACK",
)
#: The value is not allowed for such an attribute.
_MALFORMED = (errno.EINVAL, errno.ERANGE, errno.E2BIG)
#: A file system without extended attributes, or one of a kind it can't hold there.
_UNSUPPORTED = (errno.ENOTSUP, errno.EPERM, errno.EACCES)


def is_root() -> bool:
    """Whether owners can be given away."""
    return os.geteuid() == 0


@dataclass(frozen=True)
class Attributes:
    """What a file has beside its contents. ``mtime_ns`` in nanoseconds since 1970."""

    mode: int
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    xattrs: Mapping[str, bytes] = field(default_factory=dict)


#: A directory that no entry of the image describes.
DEFAULT_DIRECTORY = Attributes(0o755)


def apply(attributes: Attributes, fd: int) -> None:
    """Give ``attributes`` to the open file or directory ``fd``.

    The order matters: a change of owner clears setuid and capabilities.
    """
    mode = attributes.mode & 0o7777
    if is_root():
        with _owner_refused(attributes):
            os.fchown(fd, attributes.uid, attributes.gid)
    else:
        mode |= 0o700 if stat.S_ISDIR(os.fstat(fd).st_mode) else 0o400
    os.fchmod(fd, mode)
    for name, value in attributes.xattrs.items():
        _set_xattr(fd, name, value, True)
    os.utime(fd, ns=(attributes.mtime_ns, attributes.mtime_ns))


def apply_special(attributes: Attributes, name: bytes, dir_fd: int) -> None:
    """Give ``attributes`` to the link, device or pipe ``name``, which can't be opened."""
    is_link = stat.S_ISLNK(os.lstat(name, dir_fd=dir_fd).st_mode)
    if is_root():
        with _owner_refused(attributes):
            os.chown(name, attributes.uid, attributes.gid, dir_fd=dir_fd, follow_symlinks=False)
    if not is_link:
        # Linux has no chmod for links. This isn't a link, and nobody else writes to this directory.
        os.chmod(name, attributes.mode & 0o7777, dir_fd=dir_fd)
    for key, value in attributes.xattrs.items():
        _set_xattr(_through(dir_fd, name), key, value, False)
    times = (attributes.mtime_ns, attributes.mtime_ns)
    os.utime(name, ns=times, dir_fd=dir_fd, follow_symlinks=False)


@contextlib.contextmanager
def _owner_refused(attributes: Attributes) -> Iterator[None]:
    """Replace "Invalid argument" by a better message if root may not set owners (NFS, user
    namespaces)."""
    try:
        yield
    except OSError as err:
        if err.errno not in (errno.EPERM, errno.EINVAL):
            raise
        raise RepositoryError(
            f"files can't be given to owner {attributes.uid}:{attributes.gid} here: {err.strerror}",
            "publish as an ordinary user, or on a file system where root may give files away",
        ) from None


def of_file(fd: int) -> Attributes:
    """The attributes of the open file or directory ``fd``."""
    return _from(os.fstat(fd), fd, True)


def of_special(name: bytes, dir_fd: int) -> Attributes:
    """The attributes of the link, device or pipe ``name``."""
    status = os.lstat(name, dir_fd=dir_fd)
    return _from(status, _through(dir_fd, name), False)


def is_kept(xattr: str) -> bool:
    """Whether an image's extended attribute of this name is kept."""
    return not xattr.startswith(_SKIPPED)


def _from(status: os.stat_result, where: int | bytes, follow: bool) -> Attributes:
    xattrs = {}
    try:
        for name in os.listxattr(where, follow_symlinks=follow):
            if is_kept(name):
                xattrs[name] = os.getxattr(where, name, follow_symlinks=follow)
    except OSError as err:
        if err.errno not in (*_UNSUPPORTED, errno.ENODATA):
            raise
    mode = stat.S_IMODE(status.st_mode)
    return Attributes(mode, status.st_uid, status.st_gid, status.st_mtime_ns, xattrs)


def _through(dir_fd: int, name: bytes) -> bytes:
    """A path to ``name`` below an open directory, for calls that take no ``dir_fd``."""
    return b"/proc/self/fd/%d/%s" % (dir_fd, name)


def _set_xattr(where: int | bytes, name: str, value: bytes, follow: bool) -> None:
    try:
        os.setxattr(where, name, value, follow_symlinks=follow)
    except OSError as err:
        if err.errno in _MALFORMED:
            raise InputError(
                f"the extended attribute {printable(name)} of a file in it is not valid"
            ) from None
        if err.errno not in _UNSUPPORTED:
            raise
        log.debug("extended attribute %r can't be kept here: %s", name, err.strerror)
