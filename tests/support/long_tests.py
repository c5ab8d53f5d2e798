# SPDX-License-Identifier: Apache-2.0
"""Tests of which every run takes a part, so that it ends in time; ``tests/long.sh`` takes all.

Each of these has a variant that always runs on each podman, or for each user or view.
"""

from __future__ import annotations

import re

#: What follows the name of a test file in the names of its tests.
_LONG = {
    "test_cures.py": r"\[(\w+-)?all-",
    "test_changes.py": (
        r"keep_what_was_changed\[(trixie-rootless-kernel-flat|(bookworm|trixie)-root-kernel-layers"
        r"|(bookworm|sid)-rootless-kernel-layers)"
    ),
    "test_mounted.py": (
        r"end_as_stated\[(?!bookworm-root-kernel-layers-owner:foreign"
        r"|trixie-rootless-kernel-flat-owner:foreign|sid-rootless-kernel-layers-owner:foreign)"
        r"|a_pull_gives\[(?!sid-root-)"
    ),
    "test_real_layers.py": (
        r"survives\[(bookworm-layers|trixie-auto|sid-layers)|(two_stores|made_again)\[(bookworm|trixie)\]"
        r"|found_and_mended\[(bookworm|trixie)\]"
    ),
    # Podman of trixie is upgraded in another test there.
    "test_upgrade.py": r"stays\[(bookworm-root|trixie-|sid-(root layers|user))",
    "test_exact.py": (
        r"(pull_gives|outlive_the_exact_view|copy_nothing|without_the_setting)\[trixie\]"
        r"|(keep_what_was_changed|doctor_has_the_setting_set_that_is_lost)\[sid\]"
    ),
    "test_lock_up.py": (
        r"it_hangs\[(bookworm-rootless|trixie-rootless|sid-root-)"
        r"|our_store_hangs\[(bookworm-(root-foreign-layers|rootless-user-layers|rootless-foreign)"
        r"|trixie-(root-foreign-flat|rootless-user|rootless-foreign-layers)"
        r"|sid-(root-foreign-layers|rootless-user-flat|rootless-foreign))"
        r"|shared_store_hangs\[(bookworm|trixie)"
    ),
}


def is_long(node: str) -> bool:
    """Whether the test of the name ``node`` (pytest's node ID) runs only when all are asked for."""
    path, _, name = node.partition("::")
    pattern = _LONG.get(path.rpartition("/")[2])
    return pattern is not None and re.search(pattern, name) is not None
