# SPDX-License-Identifier: Apache-2.0
"""Finds the directories in which podman keeps containers and pulled images, for all users of this
machine; and CRI-O's."""

from __future__ import annotations

import os
import pwd
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from podman_cvmfs.errors import InputError, PodmanCvmfsError, printable
from podman_cvmfs.podman.crio_conf import DIRECTORY as CRIO
from podman_cvmfs.podman.crio_conf import read_crio_conf
from podman_cvmfs.podman.storage_conf.effective import Places, storage_files
from podman_cvmfs.podman.storage_conf.generation import Generation
from podman_cvmfs.podman.storage_conf.toml_file import plain, section
from podman_cvmfs.usage.named_graphroots import find_matches
from podman_cvmfs.util.foreign_file import read_bounded
from podman_cvmfs.util.probe import bounded_each

_PASSWD = "/etc/passwd"
#: The users that may run podman without root, among them those of a directory service (subuid(5)).
_SUBUID = "/etc/subuid"
#: Where a graphroot may be named (containers/storage ``types/options.go``). The one that counts
#: depends on podman's version and on the user. An extra one does no harm.
_KEYS = ("graphroot", "rootless_storage_path", "imagestore")
_GENERATIONS = (Generation("", False, False), Generation("", True, True))
#: Larger configuration files are refused, in bytes.
_MAX_CONF = 1 << 20
#: Seconds for one user's files, and for those of all users whose files don't answer in time.
_SECONDS, _IN_ALL = 5.0, 30.0


@dataclass
class Graphroots:
    """Existing graphroots, by their real paths.

    ``own`` are the caller's and the named ones, ``others`` are other users'. ``unseen`` maps
    unreadable places to the reason: they may hide graphroots. ``own_unseen`` is the caller's part
    of it, with the places that the settings name.
    """

    own: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    unseen: dict[str, str] = field(default_factory=dict)
    own_unseen: tuple[str, ...] = ()


def find_graphroots(
    named: Sequence[str] = (),
    places: Places | None = None,
    passwd: str = _PASSWD,
    subuid: str = _SUBUID,
    crio: str | None = CRIO,
    patterns: Sequence[str] = (),
) -> Graphroots:
    """Find the graphroots of this machine; ``named`` must exist, else InputError. ``patterns`` are
    those of the settings (see ``named_graphroots``).

    CRI-O runs as root, so the directories in its configuration in ``crio`` are root's; None leaves
    them out.

    Other users than root only find graphroots that they can read. Of a directory service's users
    only those in ``subuid`` are looked at: a look into all homes of a site would mount them. A home
    that doesn't answer in time is unseen.
    """
    places = Places.of_process() if places is None else places
    found = Graphroots()
    for path in named:
        if not os.path.isdir(f"{path}/overlay-layers"):
            raise InputError(
                f"{printable(path)} is no graphroot: it has no directory overlay-layers",
                "'podman info' shows the right one as graphRoot",
            )
        _add(found.own, path, found)
    conf: dict[str, list[str]] = {}
    variables = {**os.environ, "UID": str(places.uid)}
    for path in _graphroots_of(places, variables, conf, found):
        _add(found.own, path, found)
    if crio is not None and places.uid == 0:
        for path in _roots_of_crio(crio, found):
            _add(found.own, path, found)
    found.own_unseen = tuple(found.unseen)
    _add_matches(found, patterns, is_root=places.uid == 0)

    def look(user: tuple[str, int, str]) -> Graphroots:
        name, uid, home = user
        seen = Graphroots()
        variables = {"UID": str(uid), "HOME": home, "USER": name, "LOGNAME": name}
        for path in _graphroots_of(Places.of_user(uid, home, places), variables, conf, seen):
            if places.uid == 0 or os.access(f"{path}/overlay-layers", os.R_OK | os.X_OK):
                _add(seen.others, path, seen)
        return seen

    users = [user for user in _users(passwd, subuid) if user[1] != places.uid]
    for user, seen in zip(users, bounded_each(look, users, _SECONDS, _IN_ALL)):
        if seen is None:
            seen = Graphroots(unseen={user[2]: "it doesn't answer"})
        known = {*found.own, *found.others}
        found.others += [path for path in seen.others if path not in known]
        # What keeps an ordinary user from other users' directories is as it should be.
        if places.uid == 0:
            found.unseen.update(seen.unseen)
    return found


def _add_matches(found: Graphroots, patterns: Sequence[str], is_root: bool) -> None:
    """Add the graphroots that ``patterns`` mean to those of other users. Who isn't root skips
    those of them that he can't read."""
    for pattern, matches in zip(patterns, find_matches(patterns)):
        if matches.problem:
            found.unseen[pattern] = matches.problem
            found.own_unseen = (*found.own_unseen, pattern)
        for path in matches.paths:
            if is_root or os.access(f"{path}/overlay-layers", os.R_OK | os.X_OK):
                _add(found.others, path, found)


def _add(paths: list[str], path: str, found: Graphroots) -> None:
    """Add ``path`` to one of the lists of ``found``, unless it is in one or doesn't exist."""
    path = os.path.realpath(path)
    if path in found.own or path in paths:
        return
    try:
        os.stat(f"{path}/overlay-layers")
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as err:
        found.unseen[path] = err.strerror or str(err)
    paths.append(path)


def _graphroots_of(
    places: Places, variables: Mapping[str, str], conf: dict[str, list[str]], found: Graphroots
) -> Iterator[str]:
    """The directories that may hold one user's images. ``conf`` remembers the content of
    configuration files."""
    yield places.graphroot
    try:
        files = {path for each in _GENERATIONS for path in storage_files(places, each)}
    except OSError as err:
        found.unseen[places.user] = err.strerror or str(err)
        return
    for path in sorted(files):
        if path not in conf:
            try:
                conf[path] = _named_in(path)
            except FileNotFoundError:
                conf[path] = []
            except (OSError, PodmanCvmfsError) as err:
                conf[path] = []
                found.unseen[path] = err.message if isinstance(err, PodmanCvmfsError) else str(err)
        for value in conf[path]:
            value = string.Template(value).safe_substitute(variables)
            if value.startswith("/") and "$" not in value and "\0" not in value:
                yield value


def _roots_of_crio(directory: str, found: Graphroots) -> tuple[str, ...]:
    """The directories in which CRI-O keeps its containers and images, if its files name any."""
    try:
        return tuple(each for each in read_crio_conf(directory).roots if os.path.isabs(each))
    except InputError as err:
        found.unseen[directory] = err.message
        return ()


def _named_in(path: str) -> list[str]:
    """The graphroots that the storage.conf ``path`` names. Raises OSError, InputError."""
    storage = section(path, plain(path, read_bounded(path, _MAX_CONF)), "storage")
    return [storage[key] for key in _KEYS if isinstance(storage.get(key), str)]


def _users(passwd: str, subuid: str) -> Iterator[tuple[str, int, str]]:
    """Name, user ID and home of each user in ``passwd``, then of those only in ``subuid``."""
    seen: set[str] = set()
    for fields in _fields(passwd):
        if len(fields) == 7 and fields[2].isdecimal() and fields[5].startswith("/"):
            seen.update((fields[0], fields[2]))
            yield fields[0], int(fields[2]), fields[5]
    for fields in _fields(subuid):
        if fields[0] and fields[0] not in seen:
            seen.add(fields[0])
            try:
                entry = (
                    pwd.getpwuid(int(fields[0]))
                    if fields[0].isdecimal()
                    else pwd.getpwnam(fields[0])
                )
            except (KeyError, OverflowError):
                continue
            yield entry.pw_name, entry.pw_uid, entry.pw_dir


def _fields(path: str) -> list[list[str]]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return [line.rstrip("\n").split(":") for line in file]
    except OSError:
        return []
