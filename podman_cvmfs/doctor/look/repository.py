# SPDX-License-Identifier: Apache-2.0
"""Look at repositories: whether they are mounted and answer, and who owns their files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from podman_cvmfs.doctor.facts import Presence, Repository
from podman_cvmfs.errors import printable
from podman_cvmfs.reports.status import status_of
from podman_cvmfs.repository.layout import PARTS
from podman_cvmfs.repository.owners import owners_in
from podman_cvmfs.repository.served import NO_CLIENT
from podman_cvmfs.settings.files import Settings
from podman_cvmfs.store.records import StoreContent
from podman_cvmfs.sync.stamp import revision_of
from podman_cvmfs.sync.trouble import is_offline, trouble_of
from podman_cvmfs.util.probe import HangingError, bounded

_FSTAB = "/etc/fstab"


def look_at_repositories(
    settings: Settings, used: Sequence[str], seconds: float
) -> tuple[Repository, ...]:
    """The repositories of the settings, and other repositories that a store has ``used``."""
    paths = dict.fromkeys((*settings.repositories, *used))
    found = [
        replace(_one(path, seconds), wished=path in settings.repositories, in_fstab=_in_fstab(path))
        for path in paths
    ]
    answering = [each.path for each in found if each.presence is Presence.THERE]
    try:
        asked = replace(settings, repositories=tuple(answering))
        stamps = bounded(lambda: status_of(asked, StoreContent()).repositories, seconds)
    except (HangingError, OSError):
        return tuple(found)
    by_path = {each.path: each for each in stamps}
    return tuple(
        each
        if each.path not in by_path
        else replace(
            each,
            revision=by_path[each.path].revision,
            synced=by_path[each.path].synced,
            synced_revision=by_path[each.path].synced_revision,
        )
        for each in found
    )


def _one(path: str, seconds: float) -> Repository:
    try:
        return bounded(lambda: _look(path), seconds)
    except HangingError:
        return Repository(path, Presence.HANGS, f"no answer within {seconds:g} seconds")
    except FileNotFoundError:
        return Repository(path, Presence.MISSING)
    except PermissionError:
        return Repository(path, Presence.CLOSED)
    except OSError as err:
        problem = printable(err.strerror or str(err))
        return Repository(path, problem=problem, is_dead=err.errno in NO_CLIENT)


def _look(path: str) -> Repository:
    """Raises OSError."""
    revision_of(path)
    names = set(os.listdir(path))
    return Repository(
        path,
        trouble=trouble_of(path),
        is_offline=is_offline(path),
        empty=not names,
        foreign=names.isdisjoint(PARTS),
        owners=owners_in(path),
    )


def _in_fstab(path: str) -> bool:
    try:
        with open(_FSTAB, encoding="utf-8", errors="replace") as file:
            return any(line.split()[1:2] == [path] for line in file if line[:1] not in "#\n")
    except OSError:
        return False
