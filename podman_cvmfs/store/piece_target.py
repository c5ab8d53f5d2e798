# SPDX-License-Identifier: Apache-2.0
"""Tells where the files of a piece on disk are."""

from __future__ import annotations

import os

from podman_cvmfs.store.layout import COMPOSEFS, FILES


def piece_target(directory: str, below: int | None = None) -> str | None:
    """The directory in a repository whose files the piece in ``directory`` shows; None for a piece
    that shows no files of a repository, and for one that can't be read. The path may be relative to
    the open directory ``below``."""
    try:
        target = os.readlink(f"{directory}/diff", dir_fd=below)
    except OSError:
        try:
            return os.readlink(f"{directory}/{FILES}", dir_fd=below)
        except OSError:
            return None
    try:
        os.lstat(f"{directory}/{COMPOSEFS}", dir_fd=below)
    except OSError:
        return target
    # The metadata are in other pieces, and the link leads to the root of the repository.
    return None
