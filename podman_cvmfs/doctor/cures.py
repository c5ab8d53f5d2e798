# SPDX-License-Identifier: Apache-2.0
"""The commands that cure conditions, quoted for a shell. Pure."""

from __future__ import annotations

import shlex

from podman_cvmfs.doctor.facts import Facts
from podman_cvmfs.doctor.mounting import layout_used
from podman_cvmfs.errors import printable
from podman_cvmfs.settings import paths
from podman_cvmfs.settings.policy import Overlay


def setup(facts: Facts, *options: str) -> str:
    """``podman-cvmfs setup`` for the user who runs doctor."""
    who = "--system" if facts.is_root else "--user"
    words = ["podman-cvmfs", "setup", who, "--store", facts.store.path, *options]
    return _fresh(facts) + shlex.join(words)


def _fresh(facts: Facts) -> str:
    """What comes before a set-up: STORAGE_OPTS would replace what set-up writes."""
    return "unset STORAGE_OPTS && " if "STORAGE_OPTS" in facts.configuration.environment else ""


def make_store(facts: Facts) -> tuple[str, bool]:
    """The command that makes the store and has podman use it, and whether only root can run it."""
    if facts.store.path == paths.SYSTEM_STORE and not facts.is_root:
        return "as root: podman-cvmfs setup --system", True
    return setup(facts), False


def own_store(facts: Facts) -> str:
    """Make an ordinary user's own store. podman uses it before root's."""
    return _fresh(facts) + "podman-cvmfs setup --user && podman-cvmfs sync"


def use_fuse(facts: Facts) -> tuple[str, bool]:
    """Have fuse-overlayfs mount the layers, and lay out the store for it; and whether that takes
    more than one command of this user."""
    chosen = ("--overlay", Overlay.FUSE.value)
    if facts.is_root or facts.is_own:
        cure = f"{setup(facts, *chosen)} && {store_command(facts, 'sync', *facts.given, *chosen)}"
    else:
        options = shlex.join(chosen)
        cure = f"{_fresh(facts)}podman-cvmfs setup --user {options} && podman-cvmfs sync {options}"
    if facts.configuration.has_fuse:
        return cure, False
    opening, by_hand = open_fuse(facts)
    return (f"{opening}; then: {cure}", True) if by_hand else (f"{opening}; {cure}", False)


def open_fuse(facts: Facts) -> tuple[str, bool]:
    """Let everybody use /dev/fuse, and whether this user needs root for that."""
    command = "modprobe fuse; chmod 0666 /dev/fuse"
    return (command, False) if facts.is_root else (f"as root: {command}", True)


def use_kernel(facts: Facts) -> str:
    """Have the kernel mount the layers, and lay out the store for it."""
    chosen = ("--overlay", Overlay.KERNEL.value)
    command = setup(facts, *chosen)
    remembered = facts.configuration.remembered_in
    if remembered:
        # Without it podman looks into its storage, whether the kernel can mount all of that.
        command += f" && {shell('rm', '--force', remembered)}"
    if facts.contents.overlay != Overlay.FUSE.value:
        return command
    return f"{command} && {store_command(facts, 'sync', *facts.given, *chosen)}"


def fuse_stays(facts: Facts) -> str:
    """What to add to a finding whose cure is fuse-overlayfs: the setting for later syncs."""
    if facts.wanted_overlay == Overlay.FUSE.value:
        return ""
    line = f'overlay = "{Overlay.FUSE.value}"'
    return f" (to make the cure last, put {line} into {printable(facts.settings_file)})"


def store_command(facts: Facts, command: str, *options: str) -> str:
    """A command of ours on the examined store, which may not be the default one."""
    return shlex.join(["podman-cvmfs", command, "--store", facts.store.path, *options])


def sync(facts: Facts, *options: str) -> str:
    """A sync of the store from the examined repositories, with the layout that podman's mounts
    need."""
    used = layout_used(facts)
    overlay = () if used == facts.wanted_overlay else ("--overlay", used)
    return store_command(facts, "sync", *facts.given, *overlay, *options)


def shell(*words: str) -> str:
    """Any command."""
    return shlex.join(words)
