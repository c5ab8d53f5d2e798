# SPDX-License-Identifier: Apache-2.0
"""Gathers the facts. Changes nothing, and waits for nothing without a limit."""

from __future__ import annotations

import os
import shutil
import time

from podman_cvmfs.doctor.facts import Configuration, Contents, Facts, Native, Place, Presence
from podman_cvmfs.doctor.look.blob_sources import look_at_blob_sources
from podman_cvmfs.doctor.look.client import look_at_clients
from podman_cvmfs.doctor.look.containers import look_at_stuck
from podman_cvmfs.doctor.look.crio import look_at_crio, look_at_standing
from podman_cvmfs.doctor.look.engine import (
    as_spelt,
    ask_podman,
    look_at_configuration,
    look_at_engine,
    look_at_native,
)
from podman_cvmfs.doctor.look.exact import look_at_left_exact
from podman_cvmfs.doctor.look.machine import (
    is_container,
    look_at_broken,
    look_at_disks,
    look_at_registries,
    look_at_units,
    look_at_user,
    look_at_wish_lists,
)
from podman_cvmfs.doctor.look.policy import look_at_policy
from podman_cvmfs.doctor.look.repository import look_at_repositories
from podman_cvmfs.doctor.look.store import look_at_contents, look_at_place
from podman_cvmfs.doctor.look.targets import look_at_targets
from podman_cvmfs.podman.services import Service, services_without
from podman_cvmfs.podman.storage_conf.effective import Places
from podman_cvmfs.podman.storage_conf.generation import Generation
from podman_cvmfs.settings import paths
from podman_cvmfs.settings.files import COMMAND_LINE, Settings, file_that_sets
from podman_cvmfs.settings.sharing import files_naming
from podman_cvmfs.setup.users import shadowed
from podman_cvmfs.util.probe import HangingError, bounded

#: Reading a full store, or asking podman with one, takes so many times as long as one look at a
#: file system.
_FULL_LOOK = 6


def gather(settings: Settings, seconds: float) -> Facts:
    """Look at this machine and the store of the settings, as the user who runs this.

    ``seconds`` is how long to wait for each file system. Raises InputError for a broken
    environment variable of ours.
    """
    user = look_at_user()
    engine, generation = look_at_engine()
    configuration = _configuration(generation, settings.store, seconds)
    store = look_at_place(settings.store, seconds)
    named = [look_at_place(each, seconds) for each in dict.fromkeys(configuration.effective.stores)]
    others = tuple(each for each in named if not _same(each, store))
    hangs = any(each.presence is Presence.HANGS for each in (store, *others))
    remote = "CONTAINER_HOST" in configuration.environment
    if engine.version and configuration.has_graphroot and not (hangs or remote):
        engine = ask_podman(engine, seconds * _FULL_LOOK)
    named_by = _naming(settings.store, generation, seconds) if user.uid == 0 else ()
    contents, wants_shared = Contents(), False
    left_exact = look_at_left_exact(settings.store, seconds * _FULL_LOOK)
    if store.presence is Presence.THERE:
        policy = settings.policy
        wants_shared = policy.shared
        contents = look_at_contents(settings.store, str(policy), seconds * _FULL_LOOK)
    repositories = look_at_repositories(settings, contents.repositories, seconds)
    there = [each.path for each in repositories if each.presence is Presence.THERE]
    # An empty directory is an unmounted mount point: its files have not left the repository.
    mounted = [each.path for each in repositories if each.path in there and not each.empty]
    return Facts(
        store=store,
        is_configured=len(others) < len(named),
        user=user,
        now=int(time.time()),
        engine=engine,
        crio=look_at_crio(settings.store, store.names, configuration.graphroot, seconds),
        configuration=configuration,
        native=_native(configuration, seconds),
        contents=contents,
        others=others,
        repositories=repositories,
        clients=look_at_clients(there, seconds),
        targets=look_at_targets(
            settings.store,
            mounted,
            seconds * _FULL_LOOK,
            [each.path for each in repositories if each.trouble],
        ),
        disks=look_at_disks(
            {
                "store": settings.store,
                "cache": settings.cache,
                **({"graphroot": configuration.graphroot} if configuration.graphroot else {}),
            },
            seconds,
        ),
        units=look_at_units(user.uid != 0 and settings.store != paths.SYSTEM_STORE),
        registries=look_at_registries(store.names),
        policy=look_at_policy(store.names, settings),
        blob_sources=look_at_blob_sources(settings, seconds),
        unreached=_unreached(settings.store, generation, seconds) if named_by else (),
        named_by=named_by,
        services=_services(settings.store, seconds),
        shared=bool(settings.shared),
        wants_shared=wants_shared,
        in_container=is_container(),
        has_cvmfs=shutil.which("cvmfs_config") is not None,
        wanted_overlay=settings.overlay.value,
        not_exact=settings.not_exact if contents.exact or left_exact else "",
        left_exact=left_exact,
        settings_file=file_that_sets(settings, "overlay"),
        offline=settings.offline,
        given=_given(settings),
        bad_wish_lists=look_at_wish_lists(settings.wish_lists, settings.cache, seconds),
        broken=look_at_broken(
            (settings.store, *(each.path for each in others)), seconds, settings.graphroots
        ),
        standing=look_at_standing(settings.store, seconds) if named else (),
        stuck=_stuck(configuration, seconds),
        warnings=settings.warnings,
    )


def _configuration(generation: Generation, store: str, seconds: float) -> Configuration:
    try:
        return bounded(lambda: look_at_configuration(generation, store), seconds)
    except HangingError:
        return Configuration(
            problem=f"podman's configuration or graphroot doesn't answer in {seconds:g} seconds",
            hint="see what hangs with 'podman --log-level=debug info'",
        )


def _stuck(configuration: Configuration, seconds: float) -> tuple[str, ...]:
    if not configuration.has_graphroot:
        return ()
    try:
        return bounded(lambda: look_at_stuck(configuration.graphroot, seconds), seconds + 1)
    except (HangingError, OSError):
        return ()


def _native(configuration: Configuration, seconds: float) -> Native:
    found = look_at_native()
    try:
        return bounded(lambda: as_spelt(found, configuration), seconds)
    except (HangingError, OSError):
        return found


def _naming(store: str, generation: Generation, seconds: float) -> tuple[str, ...]:
    try:
        return bounded(lambda: files_naming(store, lambda: generation.drop_ins), seconds)
    except (HangingError, OSError):
        return ()


def _given(settings: Settings) -> tuple[str, ...]:
    words: list[str] = []
    if settings.source("repositories") == COMMAND_LINE:
        words += [word for path in settings.repositories for word in ("--repository", path)]
    if settings.source("cache") == COMMAND_LINE:
        words += ["--cache", settings.cache]
    return tuple(words)


def _same(one: Place, other: Place) -> bool:
    return os.path.normpath(one.path) == os.path.normpath(other.path) or (
        one.real != "" and one.real == other.real
    )


def _services(store: str, seconds: float) -> tuple[Service, ...]:
    try:
        return bounded(lambda: services_without(store, Places.of_process()), seconds)
    except (HangingError, OSError):
        return ()


def _unreached(store: str, generation: Generation, seconds: float) -> tuple[str, ...]:
    try:
        return tuple(bounded(lambda: shadowed(Places.of_process(), generation, store), seconds))
    except (HangingError, OSError):
        return ()
