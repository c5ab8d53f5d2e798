# SPDX-License-Identifier: Apache-2.0
"""What set-up is asked for, and what it is going to change."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from podman_cvmfs.podman.storage_conf.toml_file import read_file
from podman_cvmfs.setup.changes import Change
from podman_cvmfs.setup.record import Manifest, undo_of


@dataclass(frozen=True)
class Wishes:
    """What set-up is asked for.

    ``earlier`` is what set-up has done until now: this one takes the place of other stores in it.
    ``volumes``: entries for containers.conf. ``kernel``: True, the kernel mounts the layers;
    False, ``mount_program`` does; None, that stays as it is (and ``mount_program`` is what ordinary
    users have). ``users``: a system's store is for ordinary users, too.
    """

    store: str
    earlier: Manifest = field(default_factory=Manifest)
    volumes: tuple[str, ...] = ()
    kernel: bool | None = None
    mount_program: str | None = None
    users: bool = False

    @property
    def replaces(self) -> tuple[str, ...]:
        """The stores of earlier set-ups that this one takes the place of."""
        return tuple(each for each in self.earlier.stores if each != self.store)


@dataclass
class Plan:
    """What to change, and what the user is to be told."""

    changes: list[Change] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def put(self, path: str, after: bytes, mode: int = 0o644) -> None:
        """Have ``path`` hold ``after``; where it is a symbolic link, what that leads to."""
        path = os.path.realpath(path)
        before = read_file(path)
        if before != after:
            self.changes.append(Change(path, before, after, mode))

    def take_back(self, path: str, earlier: Manifest, otherwise: Callable[[bytes], bytes]) -> None:
        """Have ``path`` be what it was before an ``earlier`` set-up. Where none is known to have
        touched it, ``otherwise`` tells what it is to hold instead of what it holds."""
        path = os.path.realpath(path)
        before = read_file(path)
        if before is None:
            return
        for record in earlier.files:
            if record.path == path:
                change, is_certain = undo_of(record, earlier)
                if is_certain or path.endswith(".conf"):
                    self.changes += [change] if change else []
                    return
        self.put(path, otherwise(before))
