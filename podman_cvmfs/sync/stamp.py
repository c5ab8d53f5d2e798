# SPDX-License-Identifier: Apache-2.0
"""Tell in one check that nothing has changed since the last sync.

A stamp is left in the cache when a sync has done everything: what the repository was like, and what
was asked for. The next sync with the same wishes compares it first, and if it holds reads nothing
else. This module imports little, for that case is the common one and must be cheap. A lost stamp
costs one full comparison.

What the repository is like is told by CernVM-FS's revision and root hash. A plain directory has
none; there the times and inodes of the directories in which names are added, removed and moved
stand for it, as in git's index: times so young that a later change could bear the same are not
trusted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import time
from collections.abc import Iterable, Mapping

from podman_cvmfs.repository import layout
from podman_cvmfs.util.foreign_file import read_bounded

_FORMAT = 2
#: Extended attributes of a CernVM-FS mount (client 2.12): the catalogue's revision and its hash.
_XATTRS = ("user.revision", "user.root_hash")
#: Coarsest time step of file systems in use, in nanoseconds (NFS and ext3: a second).
_RACY = 2_000_000_000
#: A longer one is no stamp, in bytes. A directory has about 100 in it.
_MAX_STAMP = 1 << 28
#: Directories of DUCC's whose directories are those of architectures.
_ARCHITECTURES = (layout.MULTIARCH, layout.MULTIARCH_METADATA)
_INNER = (layout.METADATA, *_ARCHITECTURES)

#: path -> (mtime in ns, inode) of each directory or manifest, or the extended attributes' values.
State = dict[str, list[int]]


def revision_of(repository: str) -> list[str] | None:
    """Revision and root hash of a CernVM-FS mount, None for a plain directory.

    Listing the directory first makes the client look for a new revision; without that a fresh
    process may be told the old one for up to a minute. Raises OSError.
    """
    os.listdir(repository)
    try:
        return [os.getxattr(repository, name).decode("ascii", "replace") for name in _XATTRS]
    except OSError:
        return None


def directories_of(repository: str) -> State | None:
    """Times and inodes of the directories that hold names; None while one of them is too young.

    These are the directories of public links, those of other architectures among them, and in
    ``.metadata`` those above the manifests. Of images without public link, their manifests as well,
    which alone tell that the tag has moved.
    """
    found: State = {}
    latest = time.time_ns() - _RACY
    pending = ["."]
    while pending:
        directory = pending.pop()
        path = os.path.join(repository, directory)
        attributes = os.stat(path, follow_symlinks=False)
        if attributes.st_mtime_ns > latest:
            return None
        found[directory] = [attributes.st_mtime_ns, attributes.st_ino]
        with os.scandir(path) as entries:
            for entry in entries:
                inner = os.path.normpath(os.path.join(directory, entry.name))
                if _holds_names(directory, entry):
                    pending.append(inner)
                elif _describes_alone(repository, inner, entry):
                    described = [inner, f"{inner}/{layout.MANIFEST}"]
                    for each in described:
                        with contextlib.suppress(FileNotFoundError):
                            facts = os.stat(os.path.join(repository, each), follow_symlinks=False)
                            if facts.st_mtime_ns > latest:
                                return None
                            found[each] = [facts.st_mtime_ns, facts.st_ino]
    return found


def _describes_alone(repository: str, path: str, entry: os.DirEntry[str]) -> bool:
    """Whether a directory in ``.metadata`` describes an image that has no public link."""
    prefix = f"{layout.METADATA}/"
    return (
        path.startswith(prefix)
        and ":" in entry.name
        and entry.is_dir(follow_symlinks=False)
        and not os.path.lexists(os.path.join(repository, path[len(prefix) :]))
    )


def _holds_names(directory: str, entry: os.DirEntry[str]) -> bool:
    if not entry.is_dir(follow_symlinks=False):
        return False
    if directory in _ARCHITECTURES:
        return True
    if directory in (".", layout.METADATA) or os.path.dirname(directory) in _ARCHITECTURES:
        if entry.name.startswith("."):
            return os.path.normpath(os.path.join(directory, entry.name)) in _INNER
        return not layout.holds_no_names(entry.name)
    # A colon below a registry is the tag: that directory holds a manifest, no names.
    return ":" not in entry.name


def stamp_path(cache: str, store: str, repository: str) -> str:
    """Where in the directory ``cache`` the stamp for ``repository`` in ``store`` is kept."""
    key = hashlib.sha256(os.fsencode(f"{store}\0{repository}")).hexdigest()
    return f"{_directory(cache)}/{key}.json"


def _directory(cache: str) -> str:
    return f"{cache}/stamps"


def forget(cache: str) -> None:
    """Remove all stamps, so that the next syncs compare everything. Raises OSError, also if a
    symbolic link is in the directory's place."""
    try:
        directory = os.open(_directory(cache), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        for name in os.listdir(directory):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=directory)
    finally:
        os.close(directory)


def is_current(cache: str, store: str, repository: str, wishes: str, now: int) -> bool:
    """Whether the last sync of ``store`` did all that ``wishes`` ask and nothing has changed.

    ``now`` is in seconds since 1970. False in every doubt, and on every error.
    """
    try:
        stamp = json.loads(_read(stamp_path(cache, store, repository)))
        if (
            stamp["format"] != _FORMAT
            or stamp["wishes"] != wishes
            or stamp["repository"] != repository
            or stamp["generation"] != generation_of(store)
            or not stamp["written"] <= now < stamp["expires"]
        ):
            return False
        if stamp["revision"] is not None:
            return bool(stamp["revision"] == revision_of(repository))
        for path, times in stamp["directories"].items():
            attributes = os.stat(os.path.join(repository, path), follow_symlinks=False)
            if [attributes.st_mtime_ns, attributes.st_ino] != times:
                return False
        for path in stamp["shown"]:
            # A link in the place of one of them changes no time that is known.
            if not stat.S_ISDIR(os.lstat(os.path.join(repository, path)).st_mode):
                return False
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return bool(stamp["directories"])


def last_report(cache: str, store: str, repository: str) -> dict[str, object]:
    """What the sync that left the stamp reported; empty if the stamp has gone meanwhile."""
    try:
        return dict(json.loads(_read(stamp_path(cache, store, repository)))["report"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _read(path: str) -> bytes:
    return read_bounded(path, _MAX_STAMP, follow=False)


def generation_of(store: str) -> str:
    """What tells one state of ``store`` from all others. Raises OSError."""
    current = f"{store}/.current"
    attributes = os.lstat(current)
    return f"{os.readlink(current)} {attributes.st_mtime_ns} {attributes.st_ino}"


class Stamp:
    """A stamp in the making: to be begun before the repository is read."""

    def __init__(self, repository: str) -> None:
        """Look at ``repository`` as it is now."""
        self.repository = repository
        self._revision: list[str] | None = None
        self._directories: State | None = None
        try:
            self._revision = revision_of(repository)
            if self._revision is None:
                self._directories = directories_of(repository)
        except OSError:
            pass

    def content(
        self,
        store: str,
        wishes: str,
        now: int,
        expires: int,
        report: Mapping[str, object],
        shown: Iterable[str] = (),
    ) -> bytes | None:
        """The stamp to keep after a sync of ``store`` that did everything; None if there is none
        to be had. ``now`` and ``expires`` are in seconds since 1970, ``report`` is what a sync with
        nothing to do shall report, ``shown`` the directories that must go on to be no links. Raises
        OSError."""
        if self._revision is None and not self._directories:
            return None
        document = {
            "format": _FORMAT,
            "repository": self.repository,
            "wishes": wishes,
            "generation": generation_of(store),
            "written": now,
            "expires": expires,
            "revision": self._revision,
            "directories": self._directories or {},
            "shown": [] if self._revision else self._below(shown),
            "report": report,
        }
        return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()

    def _below(self, directories: Iterable[str]) -> list[str]:
        """Those in this repository, relative to it."""
        top = f"{os.path.abspath(self.repository)}/"
        return [path[len(top) :] for path in directories if path.startswith(top)]
