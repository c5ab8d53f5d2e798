# SPDX-License-Identifier: Apache-2.0
"""Tells where the files of a piece on disk are."""

from __future__ import annotations

import os

from podman_cvmfs.store.layout import COMPOSEFS, FILES


def piece_target(directory: str) -> str | None:
    """The directory in a repository whose files the piece in ``directory`` shows; None for a piece
    that shows no files of a repository, and for one that can't be read."""
    try:
        return os.readlink(f"{directory}/{FILES}")
    except OSError:
        pass
    # Where the metadata lie elsewhere, ``diff`` leads to the root of the repository.
    if os.path.lexists(f"{directory}/{COMPOSEFS}"):
        return None
    try:
        return os.readlink(f"{directory}/diff")
    except OSError:
        return None
