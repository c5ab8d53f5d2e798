# SPDX-License-Identifier: Apache-2.0
"""The commands that messages advise, quoted for a shell."""

from __future__ import annotations

import shlex

from podman_cvmfs.errors import printable
from podman_cvmfs.settings import paths


def on_store(store: str, *words: str) -> str:
    """``podman-cvmfs WORDS`` for the store in the directory ``store``, without control characters.
    It names the store unless that is the default."""
    named = [] if store == paths.default_store() else ["--store", store]
    return printable(shlex.join(["podman-cvmfs", *words, *named]))


def repair_of(store: str) -> str:
    """The command that repairs the store in the directory ``store``."""
    return on_store(store, "verify", "--repair")
