# SPDX-License-Identifier: Apache-2.0
"""The request to set-up, and the plan of changes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from podman_cvmfs.podman.storage_conf.toml_file import read_file
from podman_cvmfs.setup.changes import Change
from podman_cvmfs.setup.record import Manifest, is_podmans, undo_of


@dataclass(frozen=True)
class SetupRequest:
    """The request to set-up.

    ``earlier`` are the changes of earlier set-ups; the new store replaces the stores in it.
    ``volumes`` are entries for containers.conf. With ``prefetch`` podman reads containers' files
    early. ``kernel``: with True the kernel mounts the layers,
    with False ``mount_program`` does. With None this doesn't change, and ``mount_program`` is the
    present one of ordinary users. ``users``: ordinary users get a system's store too. ``older``: an
    engine beside podman reads no drop-ins of storage.conf. ``exact``: podman commits as the exact
    view needs it.
    """

    store: str
    earlier: Manifest = field(default_factory=Manifest)
    volumes: tuple[str, ...] = ()
    kernel: bool | None = None
    mount_program: str | None = None
    users: bool = False
    older: bool = False
    prefetch: bool = False
    exact: bool = False

    @property
    def replaces(self) -> tuple[str, ...]:
        """The stores of earlier set-ups that the new store replaces."""
        return tuple(each for each in self.earlier.stores if each != self.store)


@dataclass
class Plan:
    """The changes to make, and remarks for the user."""

    changes: list[Change] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def put(self, path: str, after: bytes, mode: int = 0o644) -> None:
        """Plan that ``path`` gets the content ``after``; if it is a symbolic link, the file that it
        leads to."""
        path = os.path.realpath(path)
        before = read_file(path)
        if before != after:
            self.changes.append(Change(path, before, after, mode))

    def take_back(self, path: str, earlier: Manifest, otherwise: Callable[[bytes], bytes]) -> None:
        """Plan that ``path`` becomes what it was before an ``earlier`` set-up. If no earlier set-up
        changed it, ``otherwise`` turns its content into the new one."""
        path = os.path.realpath(path)
        before = read_file(path)
        if before is None:
            return
        for record in earlier.files:
            if record.path == path:
                change, is_certain = undo_of(record, earlier)
                if is_certain or is_podmans(path):
                    self.changes += [change] if change else []
                    return
        self.put(path, otherwise(before))
