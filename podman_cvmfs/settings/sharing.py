# SPDX-License-Identifier: Apache-2.0
"""Whether other users than its writer may read a store.

Only its writer can read a store, unless the settings share it. But every podman command fails if
the configuration names a store that the user can't read. So root's store stays open as long as this
machine's configuration names it to ordinary users. Users' homes aren't read.

Even a sync with nothing to do needs this answer. So the module imports little and parses no TOML.
Only podman 6 gives ordinary users the stores of the system's storage.conf. podman itself is asked
for that; the cache keeps the answer as long as podman's program stays the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace

from podman_cvmfs.errors import PodmanCvmfsError
from podman_cvmfs.podman.program import identity
from podman_cvmfs.podman.storage_conf.places import Places, with_drop_ins
from podman_cvmfs.settings import paths
from podman_cvmfs.util.foreign_file import read_bounded

#: An ordinary user without files of their own. nobody's user ID has no directory of its own either.
ORDINARY = Places(65534, "/usr/share/containers", "/etc/containers", "/nonexistent", "")
#: The files that set the environment of sessions: a file, and the suffixes of files in directories.
_ENVIRONMENT = "/etc/environment"
_ENVIRONMENTS = {"/etc/environment.d": ".conf", "/etc/profile.d": ".sh"}
#: Others than the owner may list and enter it.
_OPEN = 0o005
#: Longer files are not read, in bytes.
_MOST = 1 << 20

_QUOTED_OR_COMMENT = re.compile(r"(\"[^\"\n]*\"|'[^'\n]*')|#[^\n]*")
_ARRAY = re.compile(r"additionalimagestores[\"']?\s*=\s*\[([^\]]*)\]", re.IGNORECASE)
_APPEND = re.compile(r"append[\"']?\s*=\s*(true|false)", re.IGNORECASE)
_STRING = re.compile(r"\"([^\"\n]*)\"|'([^'\n]*)'")
_OPTION = re.compile(r"\b(?:additional)?imagestore=([^\s,\"']+)", re.IGNORECASE)


def is_shared(asked: bool | None, store: str, cache: str) -> bool:
    """Whether ``store`` is to be laid out for other users too.

    ``asked`` is the setting. For other users than root, the present modes of root's store decide.
    """
    if asked:
        return True
    if os.geteuid() != 0:
        return store == paths.SYSTEM_STORE and is_open(store)
    return bool(files_naming(store, lambda: reads_drop_ins(cache)))


def is_open(store: str) -> bool:
    """Whether other users may list and enter the directory ``store``; not if it isn't there."""
    try:
        return stat.S_IMODE(os.stat(store).st_mode) & _OPEN == _OPEN
    except OSError:
        return False


def files_naming(store: str, drop_ins: Callable[[], bool]) -> tuple[str, ...]:
    """The files of this machine that name ``store`` to ordinary users.

    ``drop_ins`` tells whether podman reads drop-ins of storage.conf: only then do ordinary users
    get the additional stores of the system's files. It is called only if that matters.
    """
    found = dict.fromkeys(_environments_naming(store))
    by_storage = dict.fromkeys(_configurations_naming(store))
    if by_storage and drop_ins():
        found.update(by_storage)
    return tuple(found)


def reads_drop_ins(cache: str) -> bool:
    """Whether podman reads drop-ins of storage.conf; true if that is unknown.

    podman is asked only once; ``cache`` is the directory that keeps the answer.
    """
    podman, memo = identity(), f"{cache}/podman.json"
    try:
        known = json.loads(_text(memo))
        if podman and known["podman"] == podman:
            return bool(known["drop_ins"])
    except (ValueError, KeyError, TypeError):
        pass
    # Imported here, because podman seldom has to be asked.
    from podman_cvmfs.podman.storage_conf.generation import find_generation
    from podman_cvmfs.util.files import write_whole

    try:
        answer = find_generation().drop_ins
    except PodmanCvmfsError:
        return True
    # If the answer can't be written, podman is asked again next time.
    with contextlib.suppress(OSError, PodmanCvmfsError):
        data = json.dumps({"podman": podman, "drop_ins": answer})
        write_whole(memo, data.encode(), inside=cache)
    return answer


def _environments_naming(store: str) -> Iterator[str]:
    """The files that set STORAGE_OPTS for sessions such that it names ``store``."""
    files = [_ENVIRONMENT]
    for directory, suffix in _ENVIRONMENTS.items():
        with contextlib.suppress(OSError):
            names = sorted(name for name in os.listdir(directory) if name.endswith(suffix))
            files += [f"{directory}/{name}" for name in names]
    for path in files:
        if any(_same(each, store) for each in _OPTION.findall(_uncommented(path))):
            yield path


def _configurations_naming(store: str) -> Iterator[str]:
    """The files of containers/storage 1.63 and later that name ``store`` to some ordinary user.

    An array replaces earlier ones unless one of them says ``{append=true}`` (containers/storage
    ``pkg/configfile/slice.go``).
    """
    for user in _ordinary_users():
        named: list[tuple[str, str]] = []
        appends = False
        try:
            files = with_drop_ins(user, "storage")
        except OSError:
            continue
        for path in files:
            for array in _ARRAY.findall(_uncommented(path)):
                attribute = _APPEND.search(array)
                appends = attribute.group(1).lower() == "true" if attribute else appends
                values = [(path, one or other) for one, other in _STRING.findall(array)]
                named = named + values if appends else values
        yield from (path for path, value in named if _same(value, store))


def _ordinary_users() -> Iterator[Places]:
    """A user without a directory for them in the system's configuration, and each user with one."""
    yield ORDINARY
    for directory in (ORDINARY.vendor, ORDINARY.admin):
        try:
            names = os.listdir(f"{directory}/storage.rootless.conf.d")
        except OSError:
            continue
        yield from (replace(ORDINARY, uid=int(name)) for name in names if name.isdecimal())


def _same(named: str, store: str) -> bool:
    """Whether the path ``named`` in a file is that of ``store``, links followed."""
    return os.path.normpath(named) == store or (os.path.realpath(named) == os.path.realpath(store))


def _uncommented(path: str) -> str:
    """The text of a TOML or shell file without its comments."""
    return _QUOTED_OR_COMMENT.sub(r"\1", _text(path))


def _text(path: str) -> str:
    """The text of a file; "" if it can't be read."""
    try:
        return read_bounded(path, _MOST).decode("utf-8", "replace")
    except OSError:
        return ""
