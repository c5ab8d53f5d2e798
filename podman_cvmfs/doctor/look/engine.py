# SPDX-License-Identifier: Apache-2.0
"""Look at podman, at its configuration, and ask the real library to read the same."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from typing import Any

from podman_cvmfs.doctor import edits
from podman_cvmfs.doctor.facts import Configuration, Engine, Native
from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.podman.storage_conf.edit import STORES
from podman_cvmfs.podman.storage_conf.effective import (
    Effective,
    Places,
    as_replaced,
    driver_of,
    graphroot_of,
    read_effective,
    read_userns,
)
from podman_cvmfs.podman.storage_conf.generation import Generation, find_generation
from podman_cvmfs.podman.storage_conf.toml_file import plain, read_file, section, strings
from podman_cvmfs.setup.snippet import PROFILE, present_program
from podman_cvmfs.util.probe import HangingError, bounded

#: They change which configuration podman reads, or where it runs.
VARIABLES = (
    *("CONTAINERS_STORAGE_CONF", "CONTAINERS_STORAGE_CONF_OVERRIDE"),
    *("STORAGE_OPTS", "STORAGE_DRIVER", "CONTAINER_HOST"),
)
#: The keys that root's storage.conf has to set, with their default values.
_DIRECTORIES = {
    "runroot": "/run/containers/storage",
    "graphroot": "/var/lib/containers/storage",
}
#: The program with which podman makes composefs images.
_MKCOMPOSEFS = "mkcomposefs"
#: How many characters of podman's output are repeated.
_LAST_WORDS = 400
#: podman's message if its database was made with another driver than the configured one (libpod
#: ``runtime.go``).
_OVERWRITTEN = re.compile(r'overwritten by graph driver \\?"(\w+)\\?" from database')
#: Seconds the library may take to read its configuration.
_NATIVE_TIMEOUT = 30.0


def look_at_engine() -> tuple[Engine, Generation]:
    """podman's version and features; storage isn't opened."""
    try:
        generation = find_generation()
    except InputError as err:
        is_missing = shutil.which("podman") is None
        engine = Engine(problem=err.message, hint=err.hint or "", is_missing=is_missing)
        return engine, Generation("", False, False)
    return Engine(generation.version, generation.drop_ins), generation


def ask_podman(engine: Engine, seconds: float) -> Engine:
    """``engine`` with what podman says about its storage. podman opens the storage for that."""
    try:
        output, failure, driver = bounded(_ask, seconds)
        if not output:
            return replace(engine, failure=failure, driver=driver)
        store = json.loads(output)["store"]
        return replace(
            engine,
            driver=str(store["graphDriverName"]),
            mount_program=_mount_program(store.get("graphOptions") or {})
            or _remembered_program(str(store["graphRoot"])),
        )
    except HangingError:
        return replace(engine, failure=f"no answer within {seconds:g} seconds")
    except (OSError, ValueError, KeyError, TypeError) as err:
        return replace(engine, failure=printable(str(err)))


def _ask() -> tuple[str, str, str]:
    """Three texts: the output of ``podman info``; if it is empty, why podman fails at all; or the
    driver that podman has taken from its database."""
    info = _podman("info", "--format", "json")
    if info.returncode == 0:
        return info.stdout, "", ""
    # It also looks at other things than storage, such as cgroups.
    listed = _podman("ps", "--quiet")
    overwritten = _OVERWRITTEN.search(listed.stderr)
    driver = overwritten[1] if overwritten else ""
    if listed.returncode == 0 or driver:
        # That other driver refuses the options of overlay, so podman may fail because of it.
        return "", "", driver
    return "", _last_line(listed.stderr) or f"exit status {listed.returncode}", ""


def _podman(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["podman", *args],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return printable(lines[-1][-_LAST_WORDS:]) if lines else ""


def _mount_program(options: dict[str, Any]) -> str:
    found = options.get("overlay.mount_program", "")
    return str(found.get("Executable", "") if isinstance(found, dict) else found)


def _remembered_program(graphroot: str) -> str:
    """The program that mounts although no option names it."""
    return (shutil.which("fuse-overlayfs") or "") if _remembered_in(graphroot) else ""


def _remembered_in(graphroot: str) -> str:
    """The file by which storage once mounted with fuse-overlayfs keeps it, "" if it doesn't
    (containers/storage ``drivers/overlay/overlay.go``, SupportsNativeOverlay)."""
    path = f"{graphroot}/overlay/.has-mount-program"
    try:
        with open(path, "rb") as file:
            return path if file.read(8).strip() == b"true" else ""
    except OSError:
        return ""


def look_at_configuration(
    generation: Generation, store: str, places: Places | None = None
) -> Configuration:
    """The configuration as podman of ``generation`` reads it, with what concerns our ``store``.
    ``places`` are those of whoever runs this, unless given."""
    places = places or Places.of_process()
    environment = {name: os.environ[name] for name in VARIABLES if os.environ.get(name)}
    if places.storage_opts is not None:
        environment["STORAGE_OPTS"] = places.storage_opts
    try:
        effective = read_effective(places, generation)
        effective, dropped = as_replaced(effective, generation, places)
        driver, reason = driver_of(places, effective)
        graphroot = graphroot_of(places, effective)
        # A podman that doesn't start may fail on these files. Without podman nothing is known.
        is_there = bool(generation.version) or shutil.which("podman") is not None
        older = is_there and not generation.drop_ins
        with_append = tuple(_with_append(effective)) if older else ()
        # podman 5 makes up for a file that the environment names.
        strict = older and not (places.storage_conf and (generation.major or 5) > 4)
        lacking = _lacking(effective) if strict and not places.uid else {}
        set_in, fixed = _set_in(effective)
        userns = os.environ.get("PODMAN_USERNS") or read_userns(places, generation)
    except (InputError, OSError) as err:
        hint = err.hint or "" if isinstance(err, InputError) else ""
        message = err.message if isinstance(err, InputError) else printable(str(err))
        return Configuration(problem=message, hint=hint, environment=environment)
    if "STORAGE_DRIVER" in environment:
        driver, reason = environment["STORAGE_DRIVER"], "STORAGE_DRIVER says so"
    program = effective.options.get("mount_program", "")
    programs = [program]
    if effective.options.get("use_composefs") == "true":
        programs.append(shutil.which(_MKCOMPOSEFS) or _MKCOMPOSEFS)
    return Configuration(
        effective=effective,
        driver=driver,
        driver_reason=reason,
        graphroot=graphroot,
        has_graphroot=os.path.isdir(graphroot),
        environment=environment,
        dropped_stores=dropped,
        lacking=lacking,
        with_append=with_append,
        missing_programs=tuple(each for each in programs if each and not os.access(each, os.X_OK)),
        set_in=set_in,
        fixed=fixed,
        has_table=edits.has_storage(_text(effective.main)) if effective.main else True,
        is_own_program=bool(program)
        and os.path.basename(os.path.realpath(program)) != "fuse-overlayfs",
        remembered_in=_remembered_in(graphroot),
        has_fuse=os.access("/dev/fuse", os.R_OK | os.W_OK),
        profile=_profile(store),
        profile_program=_profile_program(),
        userns=userns,
    )


def _lacking(effective: Effective) -> dict[str, str]:
    """The keys that root's storage.conf lacks (containers/storage 1.43 to 1.62
    ``types/options.go``)."""
    if effective.main is None:
        return {}
    content = plain(effective.main, read_file(effective.main) or b"")
    storage = section(effective.main, content, "storage")
    return {key: value for key, value in _DIRECTORIES.items() if not storage.get(key)}


def _set_in(effective: Effective) -> tuple[dict[str, str], frozenset[str]]:
    """Option, or "driver" -> the last file that sets it; and those that no command can change."""
    found: dict[str, str] = {}
    for path in effective.files:
        content = plain(path, read_file(path) or b"")
        tables = (
            section(path, content, "storage", "options"),
            section(path, content, "storage", "options", "overlay"),
        )
        found.update((key, path) for table in tables for key in table)
        if "driver" in section(path, content, "storage"):
            found["driver"] = path
    texts = {path: _text(path) for path in effective.files}
    fixed = (
        key
        for key, path in found.items()
        if not (os.access(path, os.W_OK) and edits.is_on_a_line(key, texts[path]))
    )
    return found, frozenset(fixed)


def _text(path: str) -> str:
    return (read_file(path) or b"").decode("utf-8", "replace")


def _with_append(effective: Effective) -> list[str]:
    found = []
    for path in effective.files:
        table = section(path, plain(path, read_file(path) or b""), *STORES[:-1])
        if STORES[-1] in table and strings(path, STORES[-1], table[STORES[-1]])[1] is not None:
            found.append(path)
    return found


def _profile(store: str) -> str:
    try:
        text = _text(PROFILE)
    except InputError:
        return ""
    return PROFILE if f"overlay.imagestore={store}" in text else ""


def _profile_program() -> str:
    try:
        return present_program() or ""
    except InputError:
        return ""


def as_spelt(theirs: Native, conf: Configuration) -> Native:
    """``theirs`` with paths spelt as in ``conf`` where both lead to one place: the library resolves
    links, such as a home directory may be."""
    spelt = {os.path.realpath(path): path for path in (*conf.effective.stores, conf.graphroot)}

    def ours(path: str) -> str:
        return spelt.get(os.path.realpath(path), path) if path else path

    stores = tuple(map(ours, theirs.stores))
    return replace(theirs, graphroot=ours(theirs.graphroot), stores=stores)


def look_at_native() -> Native:
    """How the real library reads this user's configuration. Raises InputError for an unknown value
    of PODMAN_CVMFS_NATIVE."""
    from podman_cvmfs.storage_native.artefact import MODE_VARIABLE, Mode, find, mode
    from podman_cvmfs.storage_native.errors import CallError, NativeError
    from podman_cvmfs.storage_native.session import started

    chosen = mode()
    if chosen is Mode.OFF:
        return Native(chosen.value, problem=f"{MODE_VARIABLE} switches it off")
    try:
        artefact = find()
        if artefact is None:
            return Native(chosen.value, problem="not installed")
        with started(artefact, timeout=_NATIVE_TIMEOUT) as (calls, version):
            try:
                config = calls.config()
            except CallError as err:
                return Native(chosen.value, version.storage, failure=printable(err.message))
    except NativeError as err:
        return Native(chosen.value, problem=err.message)
    return Native(
        chosen.value,
        version.storage,
        driver=config.driver,
        graphroot=config.graph_root,
        stores=config.additional_stores,
    )
