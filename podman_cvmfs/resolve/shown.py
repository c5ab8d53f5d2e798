# SPDX-License-Identifier: Apache-2.0
"""The directories that show an image, asked as one root file system. Nothing is walked."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from podman_cvmfs.repository.tree import LinkedError, Tree, UnreadableError
from podman_cvmfs.repository.whiteouts import Markers, is_bundle, parents_of

_MAX_LINKS = 40


@dataclass(frozen=True)
class ShownRoot:
    """One of the directories that show an image, and the paths that it deletes from those below
    it."""

    tree: Tree
    markers: Markers = field(default_factory=Markers)

    @cached_property
    def _files(self) -> frozenset[str]:
        return frozenset(self.markers.files)

    @cached_property
    def _marked(self) -> frozenset[str]:
        return self._files.union(self.markers.hidden, self.markers.opaque)

    def ends(self, path: str) -> bool:
        """Whether this directory hides everything below it at ``path``."""
        way = [*parents_of(path), path]
        if not self._marked.isdisjoint(way):
            return True
        return any(self._is_no_directory(each) for each in way)

    def _is_no_directory(self, path: str) -> bool:
        attributes = self.lstat(path)
        return attributes is not None and not stat.S_ISDIR(attributes.st_mode)

    def lstat(self, path: str) -> os.stat_result | None:
        """The attributes of ``path`` in this directory alone; None if it is missing or can't be
        reached."""
        if not self._files.isdisjoint([path, *parents_of(path)]):
            return None
        try:
            return self.tree.lstat(path)
        except (UnreadableError, LinkedError):
            return None


class Stack:
    """The directories that show an image, topmost first, asked as one root file system."""

    def __init__(self, roots: Sequence[ShownRoot]) -> None:
        self.roots = roots

    def _shown(self, path: str) -> Iterator[ShownRoot]:
        """The directories that take part in showing ``path``."""
        for root in self.roots:
            yield root
            if root.ends(path):
                return

    def lstat(self, path: str) -> os.stat_result | None:
        for root in self._shown(path):
            attributes = root.lstat(path)
            if attributes is not None:
                return attributes
        return None

    def readlink(self, path: str) -> str | None:
        for root in self._shown(path):
            if root.lstat(path) is not None:
                return root.tree.readlink(path)
        return None

    def read(self, path: str, limit: int) -> bytes | None:
        """The content of the regular file at ``path``, of at most ``limit`` bytes; None if the user
        can't read it, or it has gone. Raises RepositoryError."""
        for root in self._shown(path):
            if root.lstat(path) is not None:
                try:
                    return root.tree.read(path, limit)
                except UnreadableError:
                    return None
        return None

    def resolve(self, path: str) -> str | None:
        """``path`` without links; None if it isn't a directory."""
        found, is_whole = self.reach(path)
        return found if is_whole else None

    def reach(self, path: str) -> tuple[str, bool]:
        """The last directory on ``path``, without links, and whether it is the end of ``path``.
        Links are followed as in the container: a target that starts with ``/`` starts at the
        image's root."""
        pending = path.split("/")[::-1]
        current: list[str] = []
        links = 0
        while pending:
            part = pending.pop()
            if part in ("", "."):
                continue
            if part == "..":
                del current[-1:]
                continue
            here = "/".join([*current, part])
            attributes = self.lstat(here)
            if attributes is None:
                return "/".join(current), False
            if stat.S_ISLNK(attributes.st_mode):
                links += 1
                target = self.readlink(here)
                if target is None or links > _MAX_LINKS:
                    return "/".join(current), False
                if target.startswith("/"):
                    current = []
                pending.extend(target.split("/")[::-1])
            elif stat.S_ISDIR(attributes.st_mode):
                current.append(part)
            else:
                return "/".join(current), False
        return "/".join(current), True

    def is_readable(self, path: str) -> bool:
        """Whether the user can list and enter ``path`` in each directory that shows it. overlayfs
        needs that in all of them."""
        for root in self._shown(path):
            attributes = root.lstat(path)
            is_directory = attributes is not None and stat.S_ISDIR(attributes.st_mode)
            if is_directory and not os.access(root.tree.path(path), os.R_OK | os.X_OK):
                return False
        return True

    def bundles_in(self, path: str) -> Iterator[str]:
        """CernVM-FS's own files right below ``path``."""
        for root in self._shown(path):
            try:
                names = {entry.name for entry in root.tree.entries(path)}
            except (UnreadableError, LinkedError):
                continue
            for name in sorted(names):
                if is_bundle(name, names):
                    yield f"{path}/{name}" if path else name

    def notable_below(self, path: str) -> Iterable[str]:
        """The directories right below ``path`` that the user can't list and enter, and those in
        which everybody may write."""
        for root in self._shown(path):
            try:
                entries = list(root.tree.entries(path))
            except (UnreadableError, LinkedError):
                continue
            for entry in entries:
                if entry.is_dir(follow_symlinks=False) and (
                    not os.access(entry.path, os.R_OK | os.X_OK) or _is_open(entry)
                ):
                    yield f"{path}/{entry.name}" if path else entry.name


def _is_open(entry: os.DirEntry[str]) -> bool:
    try:
        return bool(entry.stat(follow_symlinks=False).st_mode & stat.S_IWOTH)
    except OSError:
        return False
