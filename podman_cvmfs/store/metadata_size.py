# SPDX-License-Identifier: Apache-2.0
"""How much room the metadata in a store take."""

from __future__ import annotations

import contextlib
import os

from podman_cvmfs.store.layout import BLOB, POOL_LAYERS, TAR_SPLIT

#: The budget by default, in bytes. An image has about 5 MB, and shares most of them with others.
DEFAULT_BUDGET = 10 << 30


def metadata_bytes(store: str) -> int:
    """The bytes of all metadata and tar-splits in the pool of ``store``; 0 if there is no pool."""
    pool = f"{store}/{POOL_LAYERS}"
    found = 0
    with contextlib.suppress(OSError), os.scandir(pool) as entries:
        for entry in entries:
            for name in (BLOB, TAR_SPLIT):
                with contextlib.suppress(OSError):
                    found += os.lstat(f"{entry.path}/{name}").st_size
    return found
