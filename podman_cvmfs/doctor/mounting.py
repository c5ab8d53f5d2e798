# SPDX-License-Identifier: Apache-2.0
"""Which program mounts the layers, which one should, and which layout of the store it needs.
Pure."""

from __future__ import annotations

from podman_cvmfs.doctor.facts import Facts
from podman_cvmfs.repository.owners import are_foreign
from podman_cvmfs.settings.policy import Overlay

#: fuse-overlayfs(1).
_FUSE_OPTIONS = (
    *("fsync", "gidmapping", "noacl", "plugins", "squash_to_gid", "squash_to_root"),
    *("squash_to_uid", "static_nlink", "threaded", "timeout", "uidmapping", "xattr_permissions"),
)
#: User namespaces that don't change the IDs of containers.
_USUAL = ("", "host", "private", "nomap")


def mount_program(facts: Facts) -> str:
    """The program that mounts the layers; "" for the kernel."""
    return facts.engine.mount_program or facts.configuration.effective.options.get(
        "mount_program", ""
    )


def is_given(facts: Facts) -> bool:
    """Whether the program that mounts the layers must stay: it is the site's own, or an option
    needs one."""
    conf = facts.configuration
    needs = bool(conf.effective.options.get("force_mask")) or bool(fuse_options(facts))
    return conf.is_own_program or needs


def fuse_options(facts: Facts) -> list[str]:
    """The options of mounts that fuse-overlayfs has and the kernel refuses."""
    options = facts.configuration.effective.options.get("mountopt", "").split(",")
    return [each for each in options if each.partition("=")[0].strip() in _FUSE_OPTIONS]


def mapped(facts: Facts) -> str:
    """The user namespace that containers get by default, if it changes IDs; else "". The kernel
    can't change IDs for files in another file system."""
    wanted = facts.configuration.userns
    return "" if wanted in _USUAL else wanted


def is_strange(facts: Facts) -> bool:
    """Whether files of a repository belong to somebody else than this ordinary user."""
    return not facts.is_root and any(
        are_foreign(each.owners, facts.user.uid) for each in facts.repositories
    )


def needs_fuse(facts: Facts) -> bool:
    """Whether containers need fuse-overlayfs for something that fails with the kernel."""
    return bool(mapped(facts)) or is_strange(facts)


def layout_used(facts: Facts) -> str:
    """The ``overlay`` value that suits podman's mounts now; if that is unknown, the value of the
    settings."""
    if facts.configuration.problem:
        return facts.wanted_overlay
    return Overlay.FUSE.value if mount_program(facts) else Overlay.KERNEL.value
