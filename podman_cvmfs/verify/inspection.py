# SPDX-License-Identifier: Apache-2.0
"""Look at the files of a store and note their faults.

Nothing is trusted. Where a file is expected, no link is followed, no FIFO blocks, and no huge file
is read. Nothing is written, and no lock file is opened.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Collection

from podman_cvmfs.errors import printable
from podman_cvmfs.settings.advice import on_store, repair_of
from podman_cvmfs.verify.fault import REMOVE, Fault, Kind, Severity

#: The index of a million images fits.
_MAX_FILE = 1 << 30


class Inspection:
    """Looks into the store in the directory ``store``.

    Paths are relative to it, "" is the store itself. ``owner`` is the uid that must own everything
    in the store. ``closed`` are directories with an image's modes that only the owner can read.
    ``closable`` are directories that may be closed to others as a whole. ``reads_blobs`` says
    whether the digests of metadata are computed, which takes seconds for gigabytes.
    """

    def __init__(self, store: str) -> None:
        self.store = store
        self.owner: int | None = None
        with contextlib.suppress(OSError):
            self.owner = os.lstat(store).st_uid
        self.closed: list[str] = []
        self.closable: frozenset[str] = frozenset()
        self.reads_blobs = True
        self._found: dict[Fault, None] = {}

    @property
    def findings(self) -> tuple[Fault, ...]:
        """All faults noted, in order, each once."""
        return tuple(self._found)

    def path(self, relative: str) -> str:
        """The absolute path of ``relative``."""
        return f"{self.store}/{relative}" if relative else self.store

    def error(
        self, relative: str, what: str, cure: str | None = None, kind: Kind = Kind.DAMAGED
    ) -> None:
        """Note an error of the file at ``relative``. Without ``cure`` a repair cures it."""
        self._note(Severity.ERROR, kind, relative, what, cure or repair_of(self.store))

    def foreign(self, relative: str) -> None:
        """Note a thing at ``relative`` that is not ours."""
        self._note(Severity.ERROR, Kind.FOREIGN, relative, "doesn't belong here", REMOVE)

    def warning(self, kind: Kind, relative: str, what: str, cure: str) -> None:
        """Note a warning about the file at ``relative``."""
        self._note(Severity.WARNING, kind, relative, what, cure)

    def _note(self, severity: Severity, kind: Kind, relative: str, what: str, cure: str) -> None:
        path = relative if relative.startswith("/") else self.path(relative)
        self._found[Fault(severity, kind, printable(path), printable(what)[:500], cure)] = None

    def attributes(self, relative: str, *, optional: bool = False) -> os.stat_result | None:
        """The attributes of the file at ``relative``; None, and a finding, if there is no file."""
        try:
            return os.lstat(self.path(relative))
        except FileNotFoundError:
            if not optional:
                self.error(relative, "is missing")
        except OSError as err:
            self.error(relative, f"can't be examined: {err.strerror}")
        return None

    def names(self, relative: str, *, optional: bool = False) -> set[str] | None:
        """The names in a directory of ours; None, and a finding, if it isn't a directory or can't
        be read."""
        attributes = self.attributes(relative, optional=optional)
        if attributes is None:
            return None
        if not stat.S_ISDIR(attributes.st_mode):
            self.error(relative, f"is {kind_of(attributes)}, not a directory")
            return None
        # The policy decides whether the store itself should be open to others.
        is_closed = relative in self.closable and stat.S_IMODE(attributes.st_mode) == 0o700
        self._rights(relative, attributes, 0o755 if relative and not is_closed else None)
        try:
            return set(os.listdir(self.path(relative)))
        except OSError as err:
            if not relative and isinstance(err, PermissionError) and not self.is_ours:
                cure = f"run {self.verify_as_owner()}"
                self.error("", "is closed to you", cure, Kind.UNCHECKED)
            else:
                self.error(relative, f"can't be listed: {err.strerror}")
            return None

    def no_others(self, relative: str, names: Collection[str], known: Collection[str]) -> None:
        """Note the ``names`` in a directory that are not in ``known``."""
        for name in sorted(set(names) - set(known)):
            self.foreign(f"{relative}/{name}" if relative else name)

    def regular(self, relative: str, mode: int | None = 0o644) -> os.stat_result | None:
        """The attributes of a regular file of ours; None, and a finding, if it isn't a regular
        file. Another mode is a finding, unless ``mode`` is None."""
        attributes = self.attributes(relative)
        if attributes is None:
            return None
        if not stat.S_ISREG(attributes.st_mode):
            self.error(relative, f"is {kind_of(attributes)}, not a regular file")
            return None
        self._rights(relative, attributes, mode)
        return attributes

    def read(self, relative: str) -> bytes | None:
        """The content of a regular file of ours; None, and a finding, if it can't be read."""
        if self.regular(relative) is None:
            return None
        try:
            descriptor = os.open(
                self.path(relative), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            )
            with open(descriptor, "rb") as file:
                data = file.read(_MAX_FILE + 1)
        except OSError as err:
            self.error(relative, f"can't be read: {err.strerror}")
            return None
        if len(data) > _MAX_FILE:
            self.error(relative, f"has more than {_MAX_FILE} bytes")
            return None
        return data

    def holds(self, relative: str, content: bytes) -> None:
        """Note it if a file of ours has other content, which must be short text."""
        data = self.read(relative)
        if data is not None and data != content:
            self.error(relative, f"holds {data[:40]!r}, not {content.decode()}")

    def link(self, relative: str, target: str | None = None) -> str | None:
        """The target of a symbolic link.

        If ``target`` is given, another target is a finding. None, and a finding, if it isn't a
        link.
        """
        try:
            found = os.readlink(self.path(relative))
        except FileNotFoundError:
            self.error(relative, "is missing")
            return None
        except OSError:
            attributes = self.attributes(relative)
            if attributes is not None:
                self.error(relative, f"is {kind_of(attributes)}, not a symbolic link")
            return None
        if target is not None and found != target:
            self.error(relative, f"leads to {found!r}, not to {target!r}")
        return found

    def belongs(self, relative: str, attributes: os.stat_result) -> None:
        """Note a file that doesn't belong to the store's owner."""
        if self.owner is not None and attributes.st_uid != self.owner:
            self.error(
                relative,
                f"is owned by uid {attributes.st_uid}, but the store's owner is {self.owner}",
            )

    def mode(self, relative: str, attributes: os.stat_result, mode: int) -> None:
        """Note a file with another mode than ``mode``."""
        # A directory may have inherited its parent's setgid bit.
        found = stat.S_IMODE(attributes.st_mode) & ~stat.S_ISGID
        if found != mode:
            self.error(relative, f"has the mode {found:04o}, not {mode:04o}")

    def _rights(self, relative: str, attributes: os.stat_result, mode: int | None) -> None:
        if mode is not None:
            self.mode(relative, attributes, mode)
        self.belongs(relative, attributes)

    @property
    def is_ours(self) -> bool:
        """Whether the caller is the store's owner or root, and so can read everything in it."""
        return os.geteuid() in (0, self.owner)

    def unread(self, relative: str, err: OSError) -> None:
        """Note that the local directory at ``relative`` can't be read."""
        if isinstance(err, PermissionError) and not self.is_ours:
            self.closed.append(relative)
        else:
            self.error(relative, f"can't be read: {err.strerror}")

    def verify_as_owner(self) -> str:
        """The command that examines the parts closed to the caller, and the user who must run
        it."""
        whose = "root" if self.owner == 0 else f"the user with the uid {self.owner}"
        return f"'{on_store(self.store, 'verify')}' as {whose}"


def kind_of(attributes: os.stat_result) -> str:
    """The kind of a file, in words."""
    return {
        stat.S_IFDIR: "a directory",
        stat.S_IFREG: "a regular file",
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
    }.get(stat.S_IFMT(attributes.st_mode), "a device")
