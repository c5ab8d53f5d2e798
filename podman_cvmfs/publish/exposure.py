# SPDX-License-Identifier: Apache-2.0
"""Keeps the files of images from giving rights to users of this host.

A file in a repository has the owner, the setuid bit and the capabilities that the image gives it.
They would count on the host as well: every user could become root by a setuid file of root, and a
file of user 1000 belongs to the host's user 1000. So either nobody else can reach the repository,
or its file system is mounted with nosuid and nodev, as CernVM-FS is.
"""

from __future__ import annotations

import contextlib
import logging
import os

from podman_cvmfs.errors import RepositoryError, printable
from podman_cvmfs.util.trusted_place import require_own_place

log = logging.getLogger(__name__)

_BOTH = os.ST_NOSUID | os.ST_NODEV


def check_exposure(directory: str, assume_nosuid: bool) -> None:
    """Raise an error unless images can be published into ``directory`` without harm.

    InputError if somebody else can exchange its parts, RepositoryError if other users reach it and
    setuid files work there; with ``assume_nosuid`` the caller vouches that they don't. A directory
    that is missing passes: ``make_directory`` makes it.
    """
    require_own_place(directory)
    if assume_nosuid or not os.path.isdir(directory) or _ignores_rights(directory):
        return
    if not _is_reached(directory):
        return
    shown = printable(directory)
    raise RepositoryError(
        f"{shown}: other users of this machine can reach this repository, and setuid files work "
        "on its file system",
        f"mount the file system with nosuid,nodev, or run chmod 0700 {shown}; "
        "give --assume-nosuid if users reach it only by such a mount",
    )


def make_directory(directory: str, assume_nosuid: bool) -> None:
    """Make the repository if it is missing; closed to other users if necessary.

    Raises OSError, and what ``check_exposure`` raises.
    """
    require_own_place(directory)
    with contextlib.suppress(FileExistsError):
        above = os.path.dirname(os.path.abspath(directory))
        if assume_nosuid or _ignores_rights(above):
            os.mkdir(directory, 0o755)
        else:
            os.mkdir(directory, 0o700)
            log.warning(
                "made %s with mode 0700, since setuid files work on its file system: containers "
                "of other users can't use these images",
                printable(directory),
            )
    # It may have been made by somebody else just now.
    check_exposure(directory, assume_nosuid)


def _ignores_rights(path: str) -> bool:
    """Whether the file system at ``path`` is mounted with nosuid and nodev."""
    return os.statvfs(path).f_flag & _BOTH == _BOTH


def _is_reached(directory: str) -> bool:
    """Whether other users can enter the directory: it, and all above, let them."""
    path = os.path.realpath(directory)
    while True:
        status = os.stat(path)
        # The bits of the group also stand for users whom an access control list names.
        if status.st_uid in (0, os.geteuid()) and not status.st_mode & 0o011:
            return False
        if path == "/":
            return True
        path = os.path.dirname(path)
