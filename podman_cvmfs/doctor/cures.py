# SPDX-License-Identifier: Apache-2.0
"""The commands that cure, spelt so that a shell takes them as they are. Pure."""

from __future__ import annotations

import shlex

from podman_cvmfs import paths
from podman_cvmfs.doctor.facts import Facts


def setup(facts: Facts, *options: str) -> str:
    """``podman-cvmfs setup`` for whoever asks."""
    who = "--system" if facts.is_root else "--user"
    return shlex.join(["podman-cvmfs", "setup", who, "--store", facts.store.path, *options])


def make_store(facts: Facts) -> tuple[str, bool]:
    """What makes the store and tells podman of it, and whether that is for somebody else to do."""
    if facts.store.path == paths.SYSTEM_STORE and not facts.is_root:
        return "as root: podman-cvmfs setup --system", True
    return setup(facts), False


def own_store() -> str:
    """An ordinary user's own store, which podman looks into before root's."""
    return "podman-cvmfs setup --user && podman-cvmfs sync"


def on_store(facts: Facts, command: str, *options: str) -> str:
    """A command of ours on the store."""
    return shlex.join(["podman-cvmfs", command, "--store", facts.store.path, *options])


def sync(facts: Facts, *options: str) -> str:
    """A sync of the store from the repositories that were examined."""
    return on_store(facts, "sync", *facts.given, *options)


def edit(expression: str, path: str) -> str:
    """A change of a file by an extended regular expression of sed."""
    return shlex.join(["sed", "--in-place", "--regexp-extended", expression, path])


def shell(*words: str) -> str:
    """Any command."""
    return shlex.join(words)
