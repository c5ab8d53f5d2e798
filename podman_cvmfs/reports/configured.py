# SPDX-License-Identifier: Apache-2.0
"""Tells whether the configuration of podman or CRI-O names a store, and what to do if
not."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, replace

from podman_cvmfs.errors import InputError, PodmanCvmfsError, printable
from podman_cvmfs.podman.crio_conf import (
    DIRECTORY,
    RESTART,
    has_crio,
)
from podman_cvmfs.podman.crio_storage import read_crio_storage
from podman_cvmfs.podman.services import Service, services_without
from podman_cvmfs.podman.storage_conf.effective import (
    Places,
    as_replaced,
    check_driver,
    names_store,
    read_effective,
)
from podman_cvmfs.podman.storage_conf.generation import find_generation
from podman_cvmfs.podman.storage_conf.use import Unused, in_words, why_unused

PODMAN, CRIO = "podman", "CRI-O"


@dataclass(frozen=True)
class Configured:
    """Whether podman uses the store; if not, why not and how to change it. ``before`` are the
    additional stores that podman searches before this one, ``after`` the stores that it searches
    next. ``failure`` is why every podman command fails, "" if they work. ``services`` start podman
    with options that leave the store out. ``engine`` is podman or CRI-O, ``graphroots`` are its own
    directories; None: those of whoever runs this."""

    used: bool
    problem: str = ""
    cure: str | None = None
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    failure: str = ""
    services: tuple[Service, ...] = ()
    engine: str = PODMAN
    graphroots: tuple[str, ...] | None = None


def configured_store(store: str) -> Configured:
    """Whether the caller's podman uses the store in the directory ``store``, and works at all."""
    try:
        places = Places.of_process()
        generation = find_generation()
        effective, dropped = as_replaced(read_effective(places, generation), generation, places)
    except (PodmanCvmfsError, OSError) as err:
        reason = err.message if isinstance(err, PodmanCvmfsError) else str(err)
        return Configured(False, failure=f"podman can't start: {reason}")
    failure = next(filter(None, map(_why_no_store, effective.stores)), "")
    why = why_unused(store, effective, dropped)
    if why is not None:
        cure = ["podman-cvmfs", "setup", "--user" if places.uid else "--system", "--store", store]
        if why is Unused.REPLACED:
            cure = ["unset", "STORAGE_OPTS"]
        problem = in_words(why, "it", effective)
        return Configured(
            False,
            f"podman doesn't use the store: {problem}",
            printable(shlex.join(cure)),
            after=effective.stores,
            failure=failure,
        )
    try:
        check_driver(places, effective)
    except InputError as err:
        return Configured(False, err.message, err.hint, failure=failure)
    before, after = _around(store, effective.stores)
    services = services_without(store, places)
    return Configured(True, before=before, after=after, failure=failure, services=services)


def configured_in_crio(store: str, directory: str = DIRECTORY) -> Configured:
    """Whether CRI-O, which has its configuration in ``directory``, uses the ``store``."""
    if not has_crio(directory):
        return Configured(False, failure="CRI-O is not on this machine", engine=CRIO)
    try:
        storage = read_crio_storage(directory)
    except (PodmanCvmfsError, OSError) as err:
        reason = err.message if isinstance(err, PodmanCvmfsError) else str(err)
        return Configured(False, failure=f"CRI-O can't start: {reason}", engine=CRIO)
    stores = storage.stores
    found = Configured(
        names_store(stores, store),
        failure=next(filter(None, (_why_no_store(each, CRIO) for each in stores)), ""),
        engine=CRIO,
        graphroots=tuple(dict.fromkeys([storage.graphroot, *storage.conf.roots])),
    )
    if not found.used:
        cure = printable(shlex.join(["podman-cvmfs", "setup", "--crio", "--store", store]))
        problem = "CRI-O doesn't use the store"
        return replace(found, problem=problem, cure=f"{cure}; {RESTART}", after=stores)
    before, after = _around(store, stores)
    return replace(found, before=before, after=after)


def _around(store: str, stores: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The ``stores`` before ``store``, and those after it."""
    place = list(map(os.path.realpath, stores)).index(os.path.realpath(store))
    return stores[:place], stores[place + 1 :]


def _why_no_store(path: str, engine: str = PODMAN) -> str:
    """Why ``engine`` fails if its configuration names a store at ``path``; "" if it works."""
    try:
        os.stat(path)
    except OSError as err:
        return f"{engine} fails because its configuration names the store {path}: {err.strerror}"
    return ""
