# SPDX-License-Identifier: Apache-2.0
"""What mounts the layers, what has to, and which layout of the store that takes. Pure."""

from __future__ import annotations

from podman_cvmfs.doctor.facts import Facts
from podman_cvmfs.repository.owners import are_foreign
from podman_cvmfs.settings.policy import Overlay

#: User namespaces in which IDs are those that containers have anyway.
_USUAL = ("", "host", "private", "nomap")


def mount_program(facts: Facts) -> str:
    """What mounts the layers; "" is the kernel."""
    return facts.engine.mount_program or facts.configuration.effective.options.get(
        "mount_program", ""
    )


def mapped(facts: Facts) -> str:
    """The user namespace that containers get without being told, if it maps IDs otherwise: the
    kernel can't do that for what lies in another file system. Else ""."""
    wanted = facts.configuration.userns
    return "" if wanted in _USUAL else wanted


def is_strange(facts: Facts) -> bool:
    """Whether files of a repository belong to others than this ordinary user."""
    return not facts.is_root and any(
        are_foreign(each.owners, facts.user.uid) for each in facts.repositories
    )


def needs_fuse(facts: Facts) -> bool:
    """Whether containers can do with fuse-overlayfs what they can't where the kernel mounts."""
    return bool(mapped(facts)) or is_strange(facts)


def layout_used(facts: Facts) -> str:
    """What the store has to be laid out for as podman mounts now; where that can't be told, what
    the settings say."""
    if facts.configuration.problem:
        return facts.wanted_overlay
    return Overlay.FUSE.value if mount_program(facts) else Overlay.KERNEL.value
