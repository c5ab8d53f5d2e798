# SPDX-License-Identifier: Apache-2.0
"""Make the stamps by which the next sync tells that nothing has changed.

On CernVM-FS revision and root hash identify the repository's content. A plain directory has no
revision. There the stamp has the times and inodes of the directories in which names are added,
removed and moved. As in git's index, very young times are not trusted: a later change could have
the same time.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace

from podman_cvmfs.errors import printable
from podman_cvmfs.repository import layout
from podman_cvmfs.repository.served import lies_on_fuse
from podman_cvmfs.settings.files import Settings
from podman_cvmfs.sync.report import SyncReport
from podman_cvmfs.sync.stamp import FOR_EVER, FORMAT, generation_of, revision_of, stamp_path
from podman_cvmfs.util.files import write_whole

#: Coarsest time step of file systems in use, in nanoseconds (NFS and ext3: a second).
_RACY = 2_000_000_000
#: Directories of DUCC's whose directories are those of architectures.
_ARCHITECTURES = (layout.MULTIARCH, layout.MULTIARCH_METADATA)
_INNER = (layout.METADATA, *_ARCHITECTURES)

#: path -> (mtime in ns, inode) of each directory or manifest, or the extended attributes' values.
State = dict[str, list[int]]
#: After so many seconds a registry that lacked an image's config is asked again.
_ASK_AGAIN = 24 * 3600
#: And the site's blob sources: they may get the documents a little later than we need them.
_ASK_SOURCES_AGAIN = 15 * 60


def directories_of(repository: str) -> State | None:
    """Times and inodes of the directories that hold names; None while one of them is too young.

    These are the directories of public links, those of other architectures among them, and in
    ``.metadata`` those above the manifests. For images without public link the manifests are
    included: only they show that the tag has moved.
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
    # A colon below a registry marks a tag: such a directory holds a manifest and no names.
    return ":" not in entry.name


class Stamp:
    """A stamp in the making. Make it before the repository is read."""

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
    ) -> bytes:
        """The stamp to keep after a sync of ``store`` that did everything.

        ``now`` and ``expires`` are in seconds since 1970. ``report`` is the report of later syncs
        with nothing to do. ``shown`` are the directories that must not become links. Where a
        directory was too young, the stamp only tells that the sync was complete; the next sync
        compares everything. Raises OSError."""
        # CernVM-FS's publishers alone change its files, with a new revision. On another file system
        # the directory's owner can set the attributes that tell a revision.
        is_signed = self._revision is not None and lies_on_fuse(self.repository)
        document = {
            "format": FORMAT,
            "repository": self.repository,
            "wishes": wishes,
            "generation": generation_of(store),
            "written": now,
            "expires": expires,
            "revision": self._revision,
            "directories": self._directories or {},
            "shown": [] if is_signed else self._below(shown),
            "report": report,
        }
        return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()

    def _below(self, directories: Iterable[str]) -> list[str]:
        """Those in this repository, relative to it."""
        top = f"{os.path.abspath(self.repository)}/"
        return [path[len(top) :] for path in directories if path.startswith(top)]


def keep_stamps(
    stamps: Iterable[Stamp], settings: Settings, wishes: str, report: SyncReport, now: int
) -> list[str]:
    """Write the stamps after a sync that did everything at the time ``now``. Returns a warning if
    that fails."""
    expires = FOR_EVER if report.next_due is None else report.next_due
    if report.synthesised and not settings.offline:
        expires = min(expires, now + _ASK_AGAIN)
    if settings.blob_sources and (report.synthesised or report.unanswered):
        expires = min(expires, now + _ASK_SOURCES_AGAIN)
    nothing = replace(report, changed=False, added=(), removed=(), moved=())
    unchanged = nothing.as_data(settings.store)
    try:
        for stamp in stamps:
            data = stamp.content(settings.store, wishes, now, expires, unchanged, report.shown)
            path = stamp_path(settings.cache, settings.store, stamp.repository)
            write_whole(path, data, inside=settings.cache)
    except OSError as err:
        # The store is up to date. The failure only costs one comparison.
        problem = f"can't write to the cache {printable(settings.cache)}: {err.strerror}"
        return [f"the next sync compares everything again: {problem}"]
    return []
