# SPDX-License-Identifier: Apache-2.0
"""The facts about podman, CRI-O and their configuration. Frozen dataclasses, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from podman_cvmfs.podman.storage_conf.ask import major_of
from podman_cvmfs.podman.storage_conf.effective import Effective


@dataclass(frozen=True)
class Engine:
    """podman. What it says of its storage is empty for a user who has never used it: asking would
    make storage."""

    version: str = ""
    #: Whether it reads drop-ins of storage.conf.
    drop_ins: bool = False
    #: Why it doesn't even start, and what helps.
    problem: str = ""
    hint: str = ""
    #: Whether it isn't installed.
    is_missing: bool = False
    #: Why it can't open its storage.
    failure: str = ""
    #: What it says of its storage.
    driver: str = ""
    mount_program: str = ""

    @property
    def major(self) -> int | None:
        """The first number of the version."""
        return major_of(self.version)


@dataclass(frozen=True)
class Crio:
    """CRI-O, as far as it concerns our store. Only root looks at it."""

    is_there: bool = False
    #: Why its configuration can't be read, and what helps.
    problem: str = ""
    hint: str = ""
    #: Whether it has our store.
    has_store: bool = True
    #: Whether podman keeps its images in the same directory.
    shares: bool = False
    #: Additional stores that it names and that are missing.
    missing: tuple[str, ...] = ()
    #: Whether it repairs its storage after a crash.
    repairs: bool = False
    #: Names in our store that it doesn't pin.
    unpinned: tuple[str, ...] = ()
    #: Our store's pause image, if this CRI-O can't start it in a user namespace.
    pause: str = ""


@dataclass(frozen=True)
class Native:
    """What the real containers/storage library reads."""

    #: The value of PODMAN_CVMFS_NATIVE.
    mode: str = "auto"
    version: str = ""
    #: Why it can't be asked.
    problem: str = ""
    #: What it said instead of an answer.
    failure: str = ""
    driver: str = ""
    graphroot: str = ""
    stores: tuple[str, ...] = ()


@dataclass(frozen=True)
class Configuration:
    """storage.conf by our own reading."""

    effective: Effective = field(
        default_factory=lambda: Effective(None, (), False, "overlay", (), {})
    )
    #: Why it can't be read, and what helps.
    problem: str = ""
    hint: str = ""
    driver: str = "overlay"
    #: What decides the driver.
    driver_reason: str = ""
    graphroot: str = ""
    has_graphroot: bool = False
    #: The variables that change what podman reads.
    environment: Mapping[str, str] = field(default_factory=dict)
    #: Stores that files name without effect, because STORAGE_OPTS replaces them.
    dropped_stores: tuple[str, ...] = ()
    #: Keys that ``effective.main`` has to set and doesn't set -> the default value.
    lacking: Mapping[str, str] = field(default_factory=dict)
    #: Files with ``{append=true}``, which this podman can't parse.
    with_append: tuple[str, ...] = ()
    #: Needed programs that are missing.
    missing_programs: tuple[str, ...] = ()
    #: An option, or "driver" -> the file that sets it.
    set_in: Mapping[str, str] = field(default_factory=dict)
    #: Those of them that no command of ours can change in this file: this user may not write it, or
    #: the key is not on a line of its own.
    fixed: frozenset[str] = frozenset()
    #: Whether ``effective.main`` has a line ``[storage]``; None if no command may add one.
    has_table: bool | None = True
    #: Whether ``mount_program`` is the site's own program, not fuse-overlayfs.
    is_own_program: bool = False
    #: The file in which podman's storage remembers that a program mounts its layers, whatever the
    #: options say; "" if it doesn't.
    remembered_in: str = ""
    #: Whether /dev/fuse can be opened.
    has_fuse: bool = True
    #: The shell file that names our store at each login; "" if there is none.
    profile: str = ""
    #: The program with which that file has ordinary users' podman mount; "" for the kernel.
    profile_program: str = ""
    #: The user namespace that containers get without being told; "" for the usual one.
    userns: str = ""
