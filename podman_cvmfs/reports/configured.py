# SPDX-License-Identifier: Apache-2.0
"""Tells whether podman's configuration names a store, and what to do if it doesn't."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass

from podman_cvmfs.errors import InputError, PodmanCvmfsError, printable
from podman_cvmfs.podman.services import Service, services_without
from podman_cvmfs.podman.storage_conf.effective import (
    Places,
    as_replaced,
    check_driver,
    read_effective,
)
from podman_cvmfs.podman.storage_conf.generation import find_generation
from podman_cvmfs.podman.storage_conf.use import Unused, in_words, why_unused


@dataclass(frozen=True)
class Configured:
    """Whether podman uses the store; if not, why not and how to change it. ``before`` are the
    additional stores that podman searches before this one, ``after`` the stores that it searches
    next. ``failure`` is why every podman command fails, "" if they work. ``services`` start podman
    with options that leave the store out."""

    used: bool
    problem: str = ""
    cure: str | None = None
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    failure: str = ""
    services: tuple[Service, ...] = ()


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
    place = list(map(os.path.realpath, effective.stores)).index(os.path.realpath(store))
    before, after = effective.stores[:place], effective.stores[place + 1 :]
    services = services_without(store, places)
    return Configured(True, before=before, after=after, failure=failure, services=services)


def _why_no_store(path: str) -> str:
    """Why podman fails if its configuration names a store at ``path``; "" if it works."""
    try:
        os.stat(path)
    except OSError as err:
        return f"podman fails because its configuration names the store {path}: {err.strerror}"
    return ""
