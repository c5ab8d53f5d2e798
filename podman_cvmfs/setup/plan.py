# SPDX-License-Identifier: Apache-2.0
"""Decides which files set-up makes or edits so that podman uses the store. Changes nothing."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import replace

import tomlkit

from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.podman.composefs import OPTION
from podman_cvmfs.podman.storage_conf.edit import (
    STORES,
    VOLUMES,
    add,
    add_mount_option,
    remove,
    set_mount_program,
)
from podman_cvmfs.podman.storage_conf.effective import (
    Effective,
    Places,
    check_driver,
    containers_files,
    driver_of,
    is_overlay,
    names_store,
    read_effective,
    read_volumes,
    stores_in,
    stores_of_options,
)
from podman_cvmfs.podman.storage_conf.generation import Generation
from podman_cvmfs.podman.storage_conf.toml_file import array_in, plain, read_file, section
from podman_cvmfs.podman.storage_conf.use import why_unused
from podman_cvmfs.setup import ordinary
from podman_cvmfs.setup.hook import has_hook, put_hook
from podman_cvmfs.setup.mounts import destination, drop_in
from podman_cvmfs.setup.request import Plan, SetupRequest

#: Sorted behind the others: a later drop-in whose array doesn't append would replace our entry. The
#: user's has another name, because of two drop-ins with one name podman reads only the user's. It
#: comes before the system's, whose images may not start for the user.
SYSTEM_DROP_IN = "99-podman-cvmfs.conf"
USER_DROP_IN = "98-podman-cvmfs-user.conf"

_DROP_IN_HEADER = """\
# Adds the image store of podman-cvmfs, keeping the others. Needs containers/storage 1.63 or later
# (podman 6); 'podman-cvmfs setup' knows where to put it, 'setup --undo' removes it.
"""
_PATHS = "00-podman-cvmfs.conf"
_PATHS_TEXT = b"""\
# Made by 'podman-cvmfs setup' with ../storage.conf, where podman 5 and older need these paths.
# Only podman 6 reads this: it would take them for ordinary users too, who can't write there.
[storage]
runroot = ""
graphroot = ""
"""
_NEW_HEADER = """\
# Made by 'podman-cvmfs setup': there was no storage.conf. 'podman-cvmfs setup --undo' removes it.
"""
_INHERITED_HEADER = """\
# Made by 'podman-cvmfs setup' of what podman had taken from the system's storage.conf, which it
# reads no more now. 'podman-cvmfs setup --undo' removes this file.
"""


def plan_setup(
    places: Places, generation: Generation, request: SetupRequest, environment_files: bool = True
) -> Plan:
    """Decide for the system (``places`` of root) or for one user. Raises InputError.

    With ``environment_files`` false only podman's files change: our settings and the files that set
    the environment of sessions stay as they are.
    """
    effective = read_effective(places, generation)
    plan = Plan()
    _look_at_driver(plan, places, effective)
    if places.storage_conf:
        plan.remarks.append(
            f"CONTAINERS_STORAGE_CONF names {printable(places.storage_conf)}: setup "
            "changes only that file, and only commands with this variable use it"
        )
    uses_drop_ins = generation.drop_ins and not places.storage_conf
    if uses_drop_ins and not (request.older and not places.uid):
        _put_drop_in(plan, places, effective, request)
    else:
        _put_main(plan, places, effective, request)
        if uses_drop_ins:
            _drop_drop_ins(plan, places, request)
    if not places.uid and not places.storage_conf and environment_files:
        _put_sessions(plan, generation, effective, request)
        ordinary.put_settings(plan, request)
    if request.volumes:
        _put_volumes(plan, places, generation, request.volumes)
    if request.prefetch or has_hook(request.earlier):
        put_hook(plan, places, generation, request.store)
    return plan


def _look_at_driver(plan: Plan, places: Places, effective: Effective) -> None:
    """Raises InputError if the configuration chooses another driver than overlay. podman's database
    can choose one against the configuration; then this makes a remark."""
    try:
        check_driver(places, effective)
    except InputError as err:
        if not is_overlay(effective.driver):
            raise
        plan.remarks.append(f"{err.message}: {err.hint}")


def _put_sessions(
    plan: Plan, generation: Generation, effective: Effective, request: SetupRequest
) -> None:
    """Plan the files that name the store in the sessions of ordinary users, or take them back."""
    if not request.users:
        ordinary.drop_environment(plan, request)
    elif generation.drop_ins:
        return
    elif effective.driver or not effective.main:
        ordinary.put_environment(plan, request)
    else:
        # podman 4 then uses vfs for ordinary users, and vfs refuses the option.
        plan.remarks.append(
            f"{printable(effective.main)} sets no driver, so ordinary users don't get the "
            'store: add driver = "overlay" to its [storage] and run this again'
        )


def _put_drop_in(plan: Plan, places: Places, effective: Effective, request: SetupRequest) -> None:
    """A user's own drop-in, or root's: the one that earlier versions made for all is taken back."""
    name = USER_DROP_IN if places.uid else SYSTEM_DROP_IN
    path, former = f"{places.user}/storage.conf.d/{name}", ""
    if not places.uid:
        path = f"{places.admin}/storage.rootful.conf.d/{name}"
        former = f"{places.admin}/storage.conf.d/{name}"
    others = [each for each in effective.files if os.path.basename(each) != name]
    is_named = names_store(stores_in(others), request.store)
    present = read_file(path)
    if present is None and former:
        present = read_file(former)
    # A package's drop-in is enough; ours has the same name and would replace it.
    is_enough = present is None and names_store(effective.stores, request.store)
    if present is None:
        present = storage_drop_in([] if is_named else [request.store])
    data = remove(path, present, STORES, request.replaces)
    if is_named:
        data = remove(path, data, STORES, [request.store])
    else:
        data = add(path, data, STORES, [request.store])
    if request.kernel is not None:
        # Empty: what another file names doesn't count.
        data = set_mount_program(path, data, "" if request.kernel else request.mount_program)
    if request.exact:
        data = add_mount_option(path, data, OPTION, effective.options.get("mountopt", ""))
    if request.kernel is not None or request.exact or not is_enough:
        plan.put(path, data)
        _look_behind(plan, path, effective.files, STORES, appends=True)
    if former:
        names = [request.store, *request.replaces]
        plan.take_back(former, request.earlier, lambda found: remove(former, found, STORES, names))
        ordinary.put_drop_in(plan, places, request, name, data)


def _drop_drop_ins(plan: Plan, places: Places, request: SetupRequest) -> None:
    """Take the store out of our drop-ins: storage.conf names it, for engines that read no other
    file, and podman lists the images of a store twice if it is named twice."""
    names = [request.store, *request.replaces]
    packages = [f"{places.vendor}/storage.{each}conf.d" for each in ("", "rootful.")]
    packaged = filter(os.path.exists, (f"{each}/{SYSTEM_DROP_IN}" for each in packages))
    is_packaged = names_store(stores_in(packaged), request.store)
    for kind in ("rootful", "rootless"):
        path = f"{places.admin}/storage.{kind}.conf.d/{SYSTEM_DROP_IN}"
        if kind == "rootful" and is_packaged:
            # One of the same name replaces it.
            plan.put(path, storage_drop_in([]))
        else:
            without = functools.partial(remove, path, key=STORES, values=names)
            plan.take_back(path, request.earlier, without)


def _look_behind(
    plan: Plan, path: str, files: Sequence[str], key: Sequence[str], *, appends: bool
) -> None:
    """Add remarks about drop-ins that podman reads after ours at ``path`` and that replace its
    array ``key``.

    ``appends``: ours says ``{append=true}``, which also counts for later files without such an
    attribute.
    """
    for each in files:
        if ".conf.d/" not in each or os.path.basename(each) <= os.path.basename(path):
            continue
        found = array_in(each, plain(each, read_file(each) or b""), key)
        if found is None:
            continue
        append = found[1]
        if append is False or (append is None and not appends):
            plan.remarks.append(
                f"{printable(each)} is read after {path} and replaces {key[-1]}: give it a name "
                "that sorts earlier"
            )


def storage_drop_in(stores: Sequence[str]) -> bytes:
    """The drop-in for containers/storage 1.63 and later that adds ``stores``."""
    array = tomlkit.array()
    for store in stores:
        array.append(store)
    attribute = tomlkit.inline_table()
    attribute["append"] = True
    array.append(attribute)
    document = tomlkit.document()
    options = tomlkit.table()
    options["additionalimagestores"] = array
    document["storage"] = tomlkit.table(is_super_table=True)
    document["storage"]["options"] = options
    return (_DROP_IN_HEADER + tomlkit.dumps(document)).encode()


def _put_main(plan: Plan, places: Places, effective: Effective, request: SetupRequest) -> None:
    """Edit storage.conf, or make it from the configuration in force until now."""
    directory = places.user if places.uid else places.admin
    path = places.storage_conf or f"{directory}/storage.conf"
    if os.path.islink(path) and not os.path.exists(path):
        raise InputError(
            f"{printable(path)} is a symbolic link to a missing file",
            "remove the link or correct it",
        )
    data = read_file(path)
    if data is None:
        data = _inherited_conf(effective) if places.uid else _system_conf(places, effective)
        if not places.uid and not places.storage_conf:
            plan.put(f"{places.admin}/storage.rootless.conf.d/{_PATHS}", _PATHS_TEXT)
        if effective.main and not places.storage_conf:
            plan.remarks.append(f"{path} replaces {effective.main} from now on")
    # With a file of one's own the next login sets no options in the environment any more. A user's
    # own store comes before the system's, whose images may not start for this user.
    data = remove(path, data, STORES, request.replaces)
    others = [each for each in effective.stores if each not in request.replaces]
    is_spelt_otherwise = request.store not in others and names_store(others, request.store)
    stores = [] if is_spelt_otherwise else [request.store]
    stores += others if places.uid else []
    data = add(path, data, STORES, stores, first=bool(places.uid))
    if request.kernel is not None:
        data = set_mount_program(path, data, None if request.kernel else request.mount_program)
    if request.exact:
        data = add_mount_option(path, data, OPTION, effective.options.get("mountopt", ""))
    plan.put(path, data)
    if not places.uid and not places.storage_conf:
        ordinary.guard(plan, places, request, path, data)
    options = places.storage_opts
    if options is not None and request.store not in stores_of_options(options):
        # This holds for every file that podman reads (containers/storage types/options.go). Without
        # an own file of the user, the options have only been added until now.
        plan.remarks.append(
            "STORAGE_OPTS is set in this environment and replaces the options of storage.conf: "
            "'unset STORAGE_OPTS' or log in again; until then podman doesn't use the store"
        )


def _system_conf(places: Places, effective: Effective) -> bytes:
    """The vendor's file, or podman's built-in defaults (containers/storage types/options_linux.go).

    podman 4 and 5 refuse a system's storage.conf without the two directories.
    """
    if effective.main and effective.main != places.storage_conf:
        return read_file(effective.main) or b""
    document = tomlkit.document()
    document["storage"] = {
        "driver": "overlay",
        "runroot": "/run/containers/storage",
        "graphroot": "/var/lib/containers/storage",
    }
    return (_NEW_HEADER + tomlkit.dumps(document)).encode()


def _inherited_conf(effective: Effective) -> bytes:
    """The part of the system's storage.conf that an ordinary user without an own one gets.

    containers/storage 1.43 to 1.62, types/options.go getRootlessStorageOpts: the driver, the
    place of the images, ignore_chown_errors, the settings of pulls.
    """
    storage: dict[str, object] = {}
    system: dict[str, object] = {}
    options: dict[str, object] = {}
    if effective.main and effective.inherited:
        content = plain(effective.main, read_file(effective.main) or b"")
        system = section(effective.main, content, "storage")
        options = section(effective.main, content, "storage", "options")
    storage["driver"] = system.get("driver") or "overlay"
    for key in ("rootless_storage_path", "driver_priority"):
        if key in system:
            storage[key] = system[key]
    kept: dict[str, object] = {
        key: options[key] for key in ("pull_options", "ignore_chown_errors") if key in options
    }
    overlay = options.get("overlay")
    if isinstance(overlay, dict) and "ignore_chown_errors" in overlay:
        kept["overlay"] = {"ignore_chown_errors": overlay["ignore_chown_errors"]}
    if kept:
        storage["options"] = kept
    header = _INHERITED_HEADER if effective.inherited else _NEW_HEADER
    return (header + tomlkit.dumps({"storage": storage})).encode()


def _put_volumes(
    plan: Plan, places: Places, generation: Generation, volumes: Sequence[str]
) -> None:
    if places.containers_conf:
        path = places.containers_conf
        present = read_volumes(places, generation)
        plan.put(path, add(path, read_file(path) or b"", VOLUMES, _missing(volumes, present)))
        return
    name = (USER_DROP_IN if places.uid else SYSTEM_DROP_IN).replace(".conf", "-mounts.conf")
    path = f"{places.user if places.uid else places.admin}/containers.conf.d/{name}"
    # For a user, the system's files are read before.
    others = read_volumes(places, generation, without=path)
    missing = _missing(volumes, others)
    if missing:
        plan.put(path, drop_in(missing, None if generation.appends else others))
    files = containers_files(places, generation.drop_ins)
    _look_behind(plan, path, files, VOLUMES, appends=generation.appends)


def _missing(volumes: Sequence[str], present: Sequence[str]) -> list[str]:
    taken = {destination(volume) for volume in present}
    return [volume for volume in volumes if destination(volume) not in taken]


def serves(places: Places, generation: Generation, request: SetupRequest) -> bool:
    """Whether podman at ``places`` would use the store with the present files."""
    effective = read_effective(replace(places, storage_opts=None), generation)
    driver = driver_of(places, effective)[0]
    return why_unused(request.store, effective) is None and is_overlay(driver)
