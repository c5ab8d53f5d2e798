# SPDX-License-Identifier: Apache-2.0
"""Recognizes repositories of Singularity's image files, such as singularity.galaxyproject.org.

Such a file holds a whole image, which podman can't show. Format: the launch line of an executable
image, 32 bytes long, and then the magic ``SIF_MAGIC`` (SIF 1.0, ``sif.go``, "Header"). Older files
have an image in another format behind the same line.
"""

from __future__ import annotations

from podman_cvmfs.errors import RepositoryError
from podman_cvmfs.repository.tree import Tree

_LAUNCH = b"#!/usr/bin/env run-singularity\n"
_MAGIC, _MAGIC_AT = b"SIF_MAGIC", 32
#: Galaxy's repository has them one to three directories deep.
_DEPTH = 3
#: So many entries of a directory are looked at, and so many in all.
_OF_EACH, _MOST = 8, 200


def holds_image_files(tree: Tree) -> bool:
    """Whether one of the first files in ``tree`` is Singularity's. False for an unreadable one."""
    pending = [("", 0)]
    seen = 0
    while pending and seen < _MOST:
        directory, depth = pending.pop(0)
        try:
            for entry in list(tree.entries(directory))[:_OF_EACH]:
                seen += 1
                path = f"{directory}/{entry.name}" if directory else entry.name
                if entry.is_dir(follow_symlinks=False) and depth < _DEPTH:
                    pending.append((path, depth + 1))
                elif entry.is_file(follow_symlinks=False) and _is_image_file(tree, path):
                    return True
        except (RepositoryError, OSError):
            continue
    return False


def _is_image_file(tree: Tree, path: str) -> bool:
    head = tree.read_head(path, _MAGIC_AT + len(_MAGIC)) or b""
    return head.startswith(_LAUNCH) or head[_MAGIC_AT:] == _MAGIC
