# SPDX-License-Identifier: Apache-2.0
"""What podman's configuration says, for one user of this machine: files in force, their sum.

``places`` tells which files these are.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.podman.storage_conf.edit import HOOKS, STORES, VOLUMES
from podman_cvmfs.podman.storage_conf.generation import Generation
from podman_cvmfs.podman.storage_conf.places import Places as Places
from podman_cvmfs.podman.storage_conf.places import containers_files as containers_files
from podman_cvmfs.podman.storage_conf.places import storage_files as storage_files
from podman_cvmfs.podman.storage_conf.places import system_mains
from podman_cvmfs.podman.storage_conf.toml_file import (
    array_in,
    plain,
    read_file,
    refuse_bom,
    section,
)

_OVERLAY_NAMES = ("overlay", "overlay2")
#: Options that name one store (containers/storage ``drivers/overlay/overlay.go``).
_STORE_OPTIONS = ("imagestore", "additionalimagestore")
#: The drivers of containers/storage that are in use.
DRIVERS = ("overlay", "vfs", "btrfs", "zfs")
#: libpod's database below the graphroot, of podman 4 and of podman 5.
DATABASES = ("libpod/bolt_state.db", "db.sql")


@dataclass(frozen=True)
class Effective:
    """The sum of the storage configuration.

    ``main`` is the storage.conf in force (None: podman's built-in defaults), ``files`` all that
    are read, in order; ``inherited`` says that ``main`` is the system's and that this user gets
    only a few of its settings, and no stores. ``options`` are the storage driver's other ones, as
    text: ``mount_program``, ``use_composefs``..
    """

    main: str | None
    files: tuple[str, ...]
    inherited: bool
    driver: str
    stores: tuple[str, ...]
    options: Mapping[str, str] = field(default_factory=dict)


def read_effective(places: Places, generation: Generation) -> Effective:
    """What podman of ``generation`` reads at ``places``. Raises InputError for broken files."""
    files = storage_files(places, generation)
    override = places.storage_override if generation.drop_ins else None
    if override and not os.path.exists(override):
        raise InputError(
            f"CONTAINERS_STORAGE_CONF_OVERRIDE names {printable(override)}, which is missing",
            "unset CONTAINERS_STORAGE_CONF_OVERRIDE",
        )
    main = next((path for path in files if not _is_drop_in(path) and path != override), None)
    inherited = not generation.drop_ins and bool(places.uid) and main in system_mains(places)
    driver = ""
    array = _Array(STORES)
    # [storage.options], and [storage.options.overlay].
    tables: tuple[dict[str, str], dict[str, str]] = ({}, {})
    for path in files:
        data = read_file(path) or b""
        # Without a version it doesn't even start, maybe for that.
        if generation.major in (None, 4):
            refuse_bom(path, data)
        content = plain(path, data)
        storage = section(path, content, "storage")
        driver = str(storage.get("driver") or driver)
        if not inherited:
            for table, more in zip(tables, _options_in(path, content)):
                table.update(more)
            array.read(path, content)
    stores = array.values
    # An empty text for the driver doesn't hide the one for all drivers.
    options = {**tables[0], **{key: value for key, value in tables[1].items() if value}}
    if not generation.drop_ins and places.uid and (inherited or main is None):
        # Only where the user has no file of his own are the options of the environment added.
        stores += stores_of_options(places.storage_opts or "")
        options.update(other_options(places.storage_opts or ""))
    return Effective(main, tuple(files), inherited, driver, tuple(stores), options)


def as_replaced(
    effective: Effective, generation: Generation, places: Places
) -> tuple[Effective, tuple[str, ...]]:
    """The configuration as STORAGE_OPTS leaves it, and the stores that don't count any more.

    containers/storage ``types/options.go`` (ReloadConfigurationFile): whatever file is read, the
    environment's options take the place of its own.
    """
    options = places.storage_opts
    if options is None or effective.inherited or not (effective.main or generation.drop_ins):
        return effective, ()
    stores = tuple(stores_of_options(options))
    dropped = tuple(each for each in effective.stores if each not in stores)
    return replace(effective, stores=stores, options=other_options(options)), dropped


def stores_in(files: Iterable[str]) -> tuple[str, ...]:
    """The additional stores that these files name, read in this order by containers/storage 1.63 or
    later. Raises InputError."""
    array = _Array(STORES)
    for path in files:
        array.read(path, plain(path, read_file(path) or b""))
    return tuple(array.values)


def names_store(stores: Sequence[str], store: str) -> bool:
    """Whether ``store`` is among ``stores``, however it is spelt. If a store is named twice, podman
    lists its images twice."""
    return os.path.realpath(store) in map(os.path.realpath, stores)


def read_hook_directories(places: Places, generation: Generation, without: str = "") -> list[str]:
    """The directories of hooks that containers.conf(5) names, as if the file ``without`` weren't
    there. Raises InputError."""
    return _containers_array(HOOKS, places, generation, without)


def read_volumes(places: Places, generation: Generation, without: str = "") -> list[str]:
    """The volumes that every container gets, as if the file ``without`` weren't there."""
    return _containers_array(VOLUMES, places, generation, without)


def _containers_array(
    key: Sequence[str], places: Places, generation: Generation, without: str
) -> list[str]:
    array = _Array(key)
    for path in containers_files(places, generation.drop_ins):
        if path != without:
            array.read(path, plain(path, read_file(path) or b""))
    return array.values


def read_userns(places: Places, generation: Generation) -> str:
    """The user namespace that containers get without being told (containers.conf(5), ``userns``),
    "" for the usual one. Raises InputError."""
    found = ""
    for path in containers_files(places, generation.drop_ins):
        table = section(path, plain(path, read_file(path) or b""), "containers")
        found = str(table.get("userns") or found)
    return found


def check_driver(places: Places, effective: Effective) -> None:
    """Raise InputError where images are kept with another driver than overlay."""
    driver, reason = driver_of(places, effective)
    if not is_overlay(driver):
        change = "" if is_overlay(effective.driver) else "change the driver to overlay; then "
        raise InputError(
            f"podman uses the storage driver {printable(driver)} ({printable(reason)}); "
            "the store needs overlay",
            f"{change}'podman --storage-driver {printable(driver)} system reset' removes the other "
            "driver's images and containers",
        )


def driver_of(places: Places, effective: Effective) -> tuple[str, str]:
    """The storage driver, and what decides it, as a phrase. Raises InputError.

    Without a driver in the configuration podman takes the driver whose images are there. A podman
    that has a database keeps to the driver of its first command (libpod ``runtime.go``,
    ``mergeDBConfig``), whatever the configuration says.
    """
    graphroot = graphroot_of(places, effective)
    found = [name for name in DRIVERS if os.path.isdir(f"{graphroot}/{name}-images")]
    if effective.driver:
        has_database = any(os.path.exists(f"{graphroot}/{name}") for name in DATABASES)
        # A podman with a database has opened its storage, and that makes this directory.
        if is_overlay(effective.driver) and has_database and found and "overlay" not in found:
            return found[0], f"its database in {graphroot} says so"
        return effective.driver, f"{_last_that_sets('driver', effective)} says so"
    driver = "overlay" if "overlay" in found or not found else found[0]
    return driver, f"{graphroot} has its images"


def is_overlay(driver: str) -> bool:
    """Whether the storage driver of this name can use the store."""
    return driver in _OVERLAY_NAMES


def stores_of_options(options: str) -> list[str]:
    """The additional stores that a value of STORAGE_OPTS names."""
    pairs = (option.partition("=") for option in options.split(","))
    return [value for key, _, value in pairs if names_one_store(key)]


def names_one_store(option: str) -> bool:
    """Whether an ``option`` of the overlay driver names an additional store."""
    return option.rpartition(".")[2].lower() in _STORE_OPTIONS


def other_options(options: str) -> dict[str, str]:
    """The options of the overlay driver but stores that a value of STORAGE_OPTS names."""
    pairs = (option.partition("=") for option in options.split(","))
    named = {key.rpartition(".")[2]: value for key, _, value in pairs if key}
    return {key: value for key, value in named.items() if not names_one_store(key)}


def graphroot_of(places: Places, effective: Effective) -> str:
    """Where podman keeps its own images, by its configuration. Raises InputError."""
    keys = ("graphroot", "rootless_storage_path")
    for key in reversed(keys) if places.uid else keys:
        path = None if effective.inherited else _last_that_sets(key, effective)
        value = _storage_in(path).get(key) if path else None
        if isinstance(value, str) and value.startswith("/") and "$" not in value:
            return value
    return places.graphroot


def _last_that_sets(key: str, effective: Effective) -> str | None:
    """The file whose value of ``key`` in ``[storage]`` counts."""
    return next((path for path in reversed(effective.files) if key in _storage_in(path)), None)


def _storage_in(path: str) -> dict[str, Any]:
    return section(path, plain(path, read_file(path) or b""), "storage")


def _options_in(path: str, content: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """The texts in ``[storage.options]``, then those in ``[storage.options.overlay]``
    (containers/storage ``pkg/config/config.go``, GetGraphDriverOptions)."""
    for names in (("storage", "options"), ("storage", "options", "overlay")):
        yield {
            key: str(value).lower() if isinstance(value, bool) else value
            for key, value in section(path, content, *names).items()
            if isinstance(value, (str, bool))
        }


@dataclass
class _Array:
    """An array that several files set. Once one has said ``{append=true}`` those of later files are
    added too, until one says ``{append=false}`` (containers/storage ``pkg/configfile/slice.go``).
    """

    key: Sequence[str]
    values: list[str] = field(default_factory=list)
    appends: bool = False

    def read(self, path: str, content: Mapping[str, Any]) -> None:
        """Take in what the file ``path`` says. Raises InputError."""
        found = array_in(path, content, self.key)
        if found is None:
            return
        values, append = found
        self.appends = self.appends if append is None else append
        self.values = self.values + values if self.appends else values


def _is_drop_in(path: str) -> bool:
    return ".conf.d/" in path
