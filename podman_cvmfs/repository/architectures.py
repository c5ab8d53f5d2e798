# SPDX-License-Identifier: Apache-2.0
"""The directories for architectures in DUCC's tree, and which of them count here.

DUCC writes ``<architecture>:<variant>``. Where an index has no variant, the directory is called
``<architecture>`` or ``<architecture>:``. So several directories may mean one platform, each of
them filled at another time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence

from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.oci.platform import Platform
from podman_cvmfs.repository import layout
from podman_cvmfs.repository.tree import Tree


def architectures(entries: Iterable[os.DirEntry[str]]) -> Iterator[tuple[str, Platform]]:
    """The names of the directories among ``entries``, and what they mean. For a name without
    meaning it is a platform that nothing runs on."""
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            try:
                yield entry.name, Platform.parse(entry.name)
            except InputError:
                yield entry.name, Platform(printable(entry.name))


def fitting(found: Iterable[tuple[str, Platform]], host: Platform) -> list[list[str]]:
    """The directories of architectures that run on ``host``, the best first. Directories that mean
    the same platform (``arm64`` and ``arm64:v8``) are together, those with a variant first."""
    ranked: dict[int, list[str]] = {}
    for name, platform in found:
        rank = host.rank(platform)
        if rank is not None:
            ranked.setdefault(rank, []).append(layout.architecture_directory(name))
    return [sorted(ranked[rank], key=lambda place: (-len(place), place)) for rank in sorted(ranked)]


def newest(tree: Tree, places: Sequence[str], path_in: Callable[[str], str], favourite: str) -> str:
    """The one of ``places`` with the newest file ``path_in(place)``. Of equally old ones it is the
    one whose file is ``favourite``, or else the first. Raises RepositoryError."""
    if len(places) == 1:
        return places[0]

    def rank(place: str) -> tuple[int, bool]:
        path = path_in(place)
        attributes = tree.lstat(path)
        return -1 if attributes is None else attributes.st_mtime_ns, path == favourite

    return max(places, key=rank)
