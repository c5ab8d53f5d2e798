# SPDX-License-Identifier: Apache-2.0
"""Finds what an unpacked layer deletes from the layers below it.

A layer's tar says so by files whose names begin with ``.wh.`` (OCI image-spec v1.1 ``layer.md``).
DUCC leaves them as they are in ``layerfs``; kernel overlayfs takes them for ordinary files. Finding
them means listing every directory of the layer, so the answer is kept, per layer digest, for ever.

podman's own pull (containers/storage ``pkg/archive/archive_linux.go``, 1.43 to 1.64) is followed
to the letter: every ``.wh.NAME`` hides NAME, whatever NAME is; a ``.wh.NAME`` beside a NAME of the
same layer is without effect, for NAME takes the place of the whiteout.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from podman_cvmfs.errors import InputError, RepositoryError
from podman_cvmfs.oci.documents import parse_json
from podman_cvmfs.repository.tree import Tree, UnreadableError

PREFIX = ".wh."
OPAQUE = ".wh..wh..opq"
#: CernVM-FS 2.14 reads such files, one beside another file, and prefetches what they list ("file
#: bundles").
_BUNDLE = ".cvmfsbundle-"

_FORMAT = 1


@dataclass(frozen=True)
class DirectoryFacts:
    """Permission bits, owner and time of a directory in a layer; ``mtime_ns`` in nanoseconds."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int

    @classmethod
    def of(cls, attributes: os.stat_result) -> DirectoryFacts:
        """The facts of a directory whose attributes are these."""
        return cls(
            attributes.st_mode & 0o7777,
            attributes.st_uid,
            attributes.st_gid,
            attributes.st_mtime_ns,
        )


@dataclass(frozen=True)
class Markers:
    """The markers of one layer. All paths are relative to its root; "" is the root.

    ``files`` are the marker files, and other files that must not be visible. ``hidden`` are the
    paths that whiteouts delete from lower layers, ``opaque`` the directories that hide lower layers
    completely. ``native`` says whether the layer holds overlay whiteouts (devices 0:0) that kernel
    overlayfs knows. ``unread`` are directories that the caller can't read. Their content is
    unknown, and such an answer is valid for this caller only. ``directories`` has the facts of
    every directory on the way to a marker.
    """

    files: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    opaque: tuple[str, ...] = ()
    native: bool = False
    unread: tuple[str, ...] = ()
    directories: Mapping[str, DirectoryFacts] = field(default_factory=dict)

    @property
    def is_plain(self) -> bool:
        """Whether the layer holds no ``.wh.`` marker, so that every overlayfs reads it right."""
        return not self.files

    @property
    def is_complete(self) -> bool:
        """Whether the layer consists only of its files: it deletes nothing in any form, and nothing
        is unread. Then every reader gets it right."""
        return not (self.files or self.hidden or self.opaque or self.native or self.unread)

    def to_json(self) -> bytes:
        """A document that ``from_json`` reads; equal markers give equal bytes."""
        facts = {
            path: [each.mode, each.uid, each.gid, each.mtime_ns]
            for path, each in sorted(self.directories.items())
        }
        document = {
            "format": _FORMAT,
            "files": self.files,
            "hidden": self.hidden,
            "opaque": self.opaque,
            "native": self.native,
            "directories": facts,
        }
        # Escaped to ASCII, because file names may be any bytes.
        return json.dumps(document, separators=(",", ":")).encode()


def from_json(data: bytes) -> Markers | None:
    """Read the output of ``to_json``; None for anything else."""
    try:
        document: Any = parse_json(data, "markers")
        if document["format"] != _FORMAT:
            return None
        found = Markers(
            files=tuple(document["files"]),
            hidden=tuple(document["hidden"]),
            opaque=tuple(document["opaque"]),
            native=document["native"],
            directories={
                path: DirectoryFacts(*facts) for path, facts in document["directories"].items()
            },
        )
        paths = [*found.files, *found.hidden, *found.opaque, *found.directories]
        return found if all(map(_is_inside, paths)) else None
    except (InputError, KeyError, TypeError, AttributeError):
        return None


def _is_inside(path: object) -> bool:
    """Whether a path that was read from a file is one that ``scan`` finds."""
    return isinstance(path, str) and (
        path == "" or all(part not in ("", ".", "..") for part in path.split("/"))
    )


def is_bundle(name: str, names: Container[str]) -> bool:
    """Whether the file ``name``, in a directory with these ``names``, is the publisher's list of
    files to prefetch. No image has it by itself."""
    return name.startswith(_BUNDLE) and name[len(_BUNDLE) :] in names


def scan(tree: Tree) -> Markers:
    """Find the markers below the root of ``tree``, the ``layerfs`` of a layer.

    Every directory is listed once. Missing permission is recorded in ``unread``. Any other failure
    raises RepositoryError: a layer that was only partly read must not count as clean.
    """
    files: list[str] = []
    hidden: list[str] = []
    opaque: list[str] = []
    beside: list[str] = []
    unread: list[str] = []
    solid: set[str] = set()
    native = False
    pending = [""]
    while pending:
        directory = pending.pop()
        try:
            listed = list(tree.entries(directory))
        except UnreadableError:
            unread.append(directory)
            solid.update([directory, *parents_of(directory)])
            continue
        names = {entry.name for entry in listed}
        prefix = f"{directory}/" if directory else ""
        is_solid = not listed
        for entry in listed:
            path, name = prefix + entry.name, entry.name
            if is_bundle(name, names):
                files.append(path)
            elif name.startswith(PREFIX):
                files.append(path)
                target = name[len(PREFIX) :]
                if name == OPAQUE:
                    opaque.append(directory)
                elif target in names:
                    beside.append(prefix + target)
                elif target not in ("", ".", ".."):
                    hidden.append(prefix + target)
            elif _is_directory(tree, path, entry):
                pending.append(path)
            else:
                is_solid = True
                native = native or _is_whiteout(tree, path, entry)
        while is_solid and directory not in solid:
            solid.add(directory)
            directory = directory.rpartition("/")[0]
    # A directory with only markers, next to a marker for the directory itself: "rm -r" was recorded
    # for it and for its content. podman's pull lets the deletion win.
    gone: set[str] = set()
    for path in sorted(beside):  # what holds others comes before them
        if path not in solid and not _is_file(tree, path) and gone.isdisjoint(parents_of(path)):
            gone.add(path)

    def is_left(path: str) -> bool:
        return path not in gone and gone.isdisjoint(parents_of(path))

    files = [*filter(is_left, files), *gone]
    hidden = [*filter(is_left, hidden)]
    opaque = [*filter(is_left, opaque)]
    paths = {above for path in (*files, *hidden, *opaque) for above in parents_of(path)}
    return Markers(
        files=tuple(sorted(files)),
        hidden=tuple(sorted(hidden)),
        opaque=tuple(sorted(opaque)),
        native=native,
        unread=tuple(sorted(unread)),
        directories=_facts(tree, paths | set(opaque)),
    )


def parents_of(path: str) -> list[str]:
    """The directories above ``path``, the root ("") first; the root itself has no parents."""
    if not path:
        return []
    parts = path.split("/")[:-1]
    return ["", *("/".join(parts[: count + 1]) for count in range(len(parts)))]


def _is_directory(tree: Tree, path: str, entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        attributes = tree.lstat(path)  # fails with the path in its message
        return attributes is not None and stat.S_ISDIR(attributes.st_mode)


def _is_file(tree: Tree, path: str) -> bool:
    attributes = tree.lstat(path)
    return attributes is None or not stat.S_ISDIR(attributes.st_mode)


def _is_whiteout(tree: Tree, path: str, entry: os.DirEntry[str]) -> bool:
    """Whether it is a character device 0:0. The listing alone identifies files and links."""
    if entry.is_symlink() or entry.is_file(follow_symlinks=False):
        return False
    attributes = tree.lstat(path)
    return attributes is not None and stat.S_ISCHR(attributes.st_mode) and attributes.st_rdev == 0


def _facts(tree: Tree, paths: Iterable[str]) -> dict[str, DirectoryFacts]:
    facts = {}
    for path in sorted(paths):
        attributes = tree.lstat(path)
        if attributes is None:
            raise RepositoryError(f"{tree.path(path)} vanished while it was read")
        facts[path] = DirectoryFacts.of(attributes)
    return facts
