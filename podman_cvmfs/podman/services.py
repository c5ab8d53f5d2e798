# SPDX-License-Identifier: Apache-2.0
"""Services that start podman with storage options of their own, which replace storage.conf's.

Tried with podman 4.3, 5.4 and 5.8, as root and as an ordinary user: ``--storage-opt``,
``--storage-driver``, ``--root`` and STORAGE_OPTS take away the additional stores; ``--runroot``,
STORAGE_DRIVER and ``env`` in containers.conf don't. Files: podman-systemd.unit(5) for quadlets,
systemd.unit(5) for units.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from podman_cvmfs.podman.storage_conf.effective import names_store, stores_of_options
from podman_cvmfs.podman.storage_conf.places import Places
from podman_cvmfs.util.foreign_file import read_bounded

#: Longer files are nobody's unit, in bytes. So many files are read at most.
_LONGEST, _MOST = 1 << 16, 5000
_QUADLETS = (".container", ".pod", ".kube", ".image", ".build", ".volume", ".network", ".artifact")
_UNITS = (".service",)
_REPLACING = ("--storage-opt", "--storage-driver", "--root")
_VARIABLE = "STORAGE_OPTS"
#: systemd.service(5): what may stand before the program.
_PREFIXES = "@-:+!|"


@dataclass(frozen=True)
class Service:
    """A file of a service, and the options in it that replace those of storage.conf."""

    path: str
    options: tuple[str, ...]


def services_without(store: str, places: Places) -> tuple[Service, ...]:
    """The services of this user, or for root of the system, whose podman doesn't use ``store``
    because of such options. Files that can't be read are left out."""
    found = []
    for path in _files(places):
        try:
            text = read_bounded(path, _LONGEST).decode("utf-8", "replace")
        except OSError:
            continue
        options = replacing_options(text)
        stores = [each for option in options for each in stores_of_options(_value(option))]
        if options and not names_store(stores, store):
            found.append(Service(path, options))
    return tuple(found)


def replacing_options(text: str) -> tuple[str, ...]:
    """The options in the ``text`` of a quadlet or a unit that replace storage.conf's. Pure."""
    found: dict[str, None] = {}
    section = ""
    for line in re.sub(r"\\\n", " ", text).splitlines():
        key, is_set, value = (each.strip() for each in line.partition("="))
        if line.startswith("["):
            section = line.strip()
        elif not is_set or key.startswith(("#", ";")):
            continue
        elif key == "GlobalArgs":
            found.update(dict.fromkeys(_replacing(_words(value))))
        elif section == "[Service]" and key.startswith("Exec"):
            words = _words(value)
            if words and os.path.basename(words[0].lstrip(_PREFIXES)) == "podman":
                found.update(dict.fromkeys(_replacing(words[1:])))
        elif section == "[Service]" and key == "Environment":
            variables = (word for word in _words(value) if word.startswith(f"{_VARIABLE}="))
            found.update(dict.fromkeys(variables))
    return tuple(found)


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def _replacing(words: Sequence[str]) -> Iterator[str]:
    """Such options among podman's own, which stand before its command."""
    left = iter(words)
    for word in left:
        if not word.startswith("-"):
            return
        name, is_whole, _ = word.partition("=")
        if name in _REPLACING:
            yield word if is_whole else f"{word}={next(left, '')}"
        elif not is_whole and name in _WITH_VALUE:
            next(left, None)


#: podman's other options that take their value from the next word.
_WITH_VALUE = (
    *("--cgroup-manager", "--config", "--conmon", "--connection", "-c", "--events-backend"),
    *("--hooks-dir", "--identity", "--imagestore", "--log-level", "--module", "--network-cmd-path"),
    *("--network-config-dir", "--namespace", "--out", "--runroot", "--runtime", "--runtime-flag"),
    *("--ssh", "--tmpdir", "--url", "-H", "--volumepath"),
)


def _value(option: str) -> str:
    """The options of storage in ``--storage-opt=..`` or ``STORAGE_OPTS=..``."""
    name, _, value = option.partition("=")
    return value if name in ("--storage-opt", _VARIABLE) else ""


def _files(places: Places) -> Iterator[str]:
    """The files of quadlets and units, drop-ins included."""
    left = _MOST
    for endings, directories in _directories(places):
        for directory in directories:
            for path in _below(directory, endings):
                if left <= 0:
                    return
                left -= 1
                yield path


def _directories(places: Places) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    if not places.uid:
        yield (
            _QUADLETS,
            [f"{top}/systemd" for top in ("/run/containers", places.admin, places.vendor)],
        )
        tops = ("/etc", "/run", "/usr/local/lib", "/usr/lib")
        yield _UNITS, [f"{top}/systemd/system" for top in tops]
        return
    run = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{places.uid}"
    users = [f"{top}/systemd/users" for top in (places.admin, places.vendor)]
    yield (
        _QUADLETS,
        [f"{run}/containers/systemd", f"{places.user}/systemd", f"{users[0]}/{places.uid}", *users],
    )
    config = os.path.dirname(places.user)
    bases = (config, run, "/etc", "/run", "/usr/local/lib", "/usr/lib")
    yield _UNITS, [f"{base}/systemd/user" for base in bases]


def _below(directory: str, endings: Sequence[str]) -> Iterator[str]:
    """The files of these kinds in ``directory`` and in the drop-in directories beside them."""
    try:
        entries = sorted(os.scandir(directory), key=lambda each: each.name)
    except OSError:
        return
    is_drop_in = directory.endswith(tuple(f"{ending}.d" for ending in endings))
    for entry in entries:
        if entry.name.endswith(".conf") if is_drop_in else entry.name.endswith(tuple(endings)):
            yield entry.path
        elif is_drop_in:
            continue
        elif entry.name.endswith(tuple(f"{ending}.d" for ending in endings)) or _is_group(
            entry, endings
        ):
            yield from _below(entry.path, endings)


def _is_group(entry: os.DirEntry[str], endings: Sequence[str]) -> bool:
    """Whether it is a directory of more quadlets: those of ordinary users are apart."""
    return endings is _QUADLETS and entry.name != "users" and entry.is_dir(follow_symlinks=False)
