# SPDX-License-Identifier: Apache-2.0
"""Reads ``registries.conf`` and its drop-ins: the places from which an engine would fetch an image.

Format and order of files: containers-registries.conf(5), containers-registries.conf.d(5) and
containers/image v5.36 ``pkg/sysregistriesv2``. Wrong content is an error here as there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from podman_cvmfs.errors import InputError, RegistryError, printable
from podman_cvmfs.names.reference import ImageName, check_parts
from podman_cvmfs.util.toml import TomlFile, drop_ins, read_toml

SYSTEM_FILE = "/etc/containers/registries.conf"
VARIABLES = ("CONTAINERS_REGISTRIES_CONF", "REGISTRIES_CONFIG_PATH")
#: In ``credential-helpers``: the auth files themselves.
AUTH_FILES = "containers-auth.json"

_PULL_FROM_MIRROR = ("all", "digest-only", "tag-only")
_HOST = re.compile(r"[A-Za-z0-9.-]+(:[0-9]+)?\Z|\[[0-9a-fA-F:]+\](:[0-9]+)?\Z")


@dataclass(frozen=True)
class Endpoint:
    """One place to ask for an image.

    ``name`` is the image's name there. ``insecure`` allows plain HTTP and untrusted certificates.
    """

    name: ImageName
    insecure: bool = False


@dataclass(frozen=True)
class Mirror:
    """A mirror of a registry or of a part of it; ``pull`` is all, digest-only or tag-only."""

    location: str
    insecure: bool = False
    pull: str = "all"


@dataclass(frozen=True)
class RegistryTable:
    """One ``[[registry]]`` table. ``location`` is empty if names stay unchanged."""

    prefix: str
    location: str
    insecure: bool = False
    blocked: bool = False
    mirrors: tuple[Mirror, ...] = ()


@dataclass(frozen=True)
class RegistriesConf:
    """The content of all files together. ``aliases`` map short names to names with registries."""

    tables: tuple[RegistryTable, ...] = ()
    search_registries: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    credential_helpers: tuple[str, ...] = (AUTH_FILES,)

    def endpoints(self, name: ImageName, by_digest: bool = False) -> tuple[Endpoint, ...]:
        """The places to ask for ``name``, in order: its mirrors, then the registry itself.

        Mirrors for tags are not asked for an image named by its digest, and mirrors for digests are
        not asked for one named by a tag. ``by_digest`` says that a part of the image is wanted by
        its digest: then a tagged name may use both kinds of mirrors. Raises RegistryError if the
        name is blocked, or can't be rewritten.
        """
        name = name.canonical
        table = self._table(name)
        if table is None:
            return (Endpoint(name),)
        if table.blocked:
            raise RegistryError(
                f"{name}: {printable(table.prefix)} is blocked in registries.conf",
                "this host's administrator doesn't want images from there",
            )
        if name.digest is not None:
            unfit = "tag-only"
        elif by_digest:
            unfit = ""  # containers/image takes the parts from where it has the manifest
        else:
            unfit = "digest-only"
        found = [
            Endpoint(_rewritten(name, table.prefix, mirror.location), mirror.insecure)
            for mirror in table.mirrors
            if mirror.pull != unfit
        ]
        itself = _rewritten(name, table.prefix, table.location)
        return (*found, Endpoint(itself, table.insecure))

    def _table(self, name: ImageName) -> RegistryTable | None:
        text = f"{name.registry}/{name.repository}"
        matching = [table for table in self.tables if _match(text, table.prefix) is not None]
        return max(matching, key=lambda table: len(table.prefix), default=None)


def load_registries_conf() -> RegistriesConf:
    """Read the files an engine of this user would read. Raises InputError."""
    main, is_demanded, directories = _places()
    file = read_toml(main)
    if file is None and is_demanded:
        raise InputError(f"no such registries.conf: {printable(main)}")
    paths = [path for directory in directories for path in drop_ins(directory, ".conf")]
    return merged(file, map(read_toml, paths), read_toml(_chosen_aliases()))


def merged(
    main: TomlFile | None, others: Iterable[TomlFile | None] = (), chosen: TomlFile | None = None
) -> RegistriesConf:
    """The content of the main file and its drop-ins, ``others``, together; a later one wins. None
    stands for a missing file. ``chosen`` is podman's own file with the users' answers to its
    questions. It wins over all others. Raises InputError."""
    found = _Merged()
    if main is not None:
        found.add(main, is_drop_in=False)
    for file in others:
        if file is not None:
            found.add(file, is_drop_in=True)
    if chosen is not None:
        found.aliases.update(_aliases(chosen))
    return found.result()


def _places() -> tuple[str, bool, tuple[str, ...]]:
    """The main file, whether it must exist, and the directories of drop-ins."""
    own = os.path.join(os.path.expanduser("~"), ".config/containers/registries.conf")
    both = (f"{SYSTEM_FILE}.d", f"{own}.d")
    for variable in VARIABLES:
        named = os.environ.get(variable)
        if named:
            return named, True, both
    if os.path.exists(own):
        return own, True, both[1:]
    return SYSTEM_FILE, False, both


def _chosen_aliases() -> str:
    base = "/var/cache"
    if os.geteuid() != 0:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "containers/short-name-aliases.conf")


# ---------------------------------------------------------------------- names


def _match(text: str, prefix: str) -> int | None:
    """The length of the part of ``text`` that matches ``prefix``, None if it doesn't match.

    As in containers/image, a prefix without a port fits a host with any port, and one with a tag
    fits nothing: ``text`` has none.
    """
    if prefix.startswith("*."):
        start = text.find(prefix[1:])
        if start < 0 or "/" in text[:start]:
            return None
        end = start + len(prefix) - 1
    elif text.startswith(prefix):
        end = len(prefix)
    else:
        return None
    return end if text[end : end + 1] in ("", ":", "/") else None


def _rewritten(name: ImageName, prefix: str, location: str) -> ImageName:
    text = f"{name.registry}/{name.repository}"
    length = _match(text, prefix)
    if not location or length is None:
        return name
    registry, _, repository = (location + text[length:]).partition("/")
    try:
        check_parts(registry, repository, None, f"{registry}/{repository}")
    except InputError as err:
        raise RegistryError(f"{name}: as registries.conf rewrites it: {err.message}") from None
    return replace(name, registry=registry, repository=repository).canonical


# ---------------------------------------------------------------------- files


class _Merged:
    """The content of the files read so far; a later one wins."""

    def __init__(self) -> None:
        self.tables: dict[str, RegistryTable] = {}
        self.search: tuple[str, ...] = ()
        self.aliases: dict[str, str] = {}
        self.helpers: tuple[str, ...] = ()

    def add(self, file: TomlFile, is_drop_in: bool) -> None:
        if isinstance(file.data.get("registries"), dict):
            if is_drop_in:
                raise InputError(f"{printable(file.path)}: a drop-in must be of version 2")
            self._add_version_1(file)
            return
        tables: dict[str, RegistryTable] = {}
        for table in _tables(file):
            # Within one file the first of equal prefixes counts.
            tables.setdefault(table.prefix, table)
        self.tables.update(tables)
        if "unqualified-search-registries" in file.data:
            key = "unqualified-search-registries"
            self.search = tuple(_host(file, key, each) for each in _texts(file, file.data, key))
        if "credential-helpers" in file.data:
            self.helpers = _texts(file, file.data, "credential-helpers")
        self.aliases.update(_aliases(file))

    def _add_version_1(self, file: TomlFile) -> None:
        """The old format: three lists of hosts."""
        if {"registry", "unqualified-search-registries", "aliases"} & set(file.data):
            raise InputError(f"{printable(file.path)}: mixes versions 1 and 2 of the format")
        old = file.data["registries"]

        def hosts(kind: str) -> tuple[str, ...]:
            table = old.get(kind, {})
            if not isinstance(table, dict):
                raise file.wrong(f"registries.{kind}", "must be a table")
            return _texts(file, table, "registries", f"registries.{kind}.registries")

        for host in hosts("block"):
            location = _location(file, "registries.block", host)
            self.tables[location] = RegistryTable(location, location, blocked=True)
        for host in hosts("insecure"):
            location = _location(file, "registries.insecure", host)
            before = self.tables.get(location, RegistryTable(location, location))
            self.tables[location] = replace(before, insecure=True)
        self.search = tuple(_host(file, "registries.search", host) for host in hosts("search"))

    def result(self) -> RegistriesConf:
        return RegistriesConf(
            tuple(self.tables.values()),
            self.search,
            {name: value for name, value in self.aliases.items() if value},
            self.helpers or (AUTH_FILES,),
        )


def _tables(file: TomlFile) -> Iterator[RegistryTable]:
    entries = file.data.get("registry", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise file.wrong("registry", "must be an array of tables, [[registry]]")
    seen: dict[str, RegistryTable] = {}
    for entry in entries:
        table = _table(file, entry)
        other = seen.setdefault(table.location or table.prefix, table)
        if (other.insecure, other.blocked) != (table.insecure, table.blocked):
            place = printable(table.location or table.prefix)
            raise file.wrong("registry", f"{place} is defined twice and contradicts itself")
        yield table


def _table(file: TomlFile, entry: dict[str, Any]) -> RegistryTable:
    location = _location(file, "registry.location", _optional(file, entry, "location"))
    prefix = _location(file, "registry.prefix", _optional(file, entry, "prefix")) or location
    if not prefix:
        raise file.wrong("registry", "has neither prefix nor location")
    is_wildcard = prefix.startswith("*.")
    if not location and not is_wildcard:
        raise file.wrong("registry", f"{printable(prefix)!r} has no location")
    if "*" in prefix[is_wildcard:] or (is_wildcard and re.search("[/@:]", prefix)):
        raise file.wrong("registry.prefix", f"{printable(prefix)!r} is not like *.example.com")
    if "pull-from-mirror" in entry:
        raise file.wrong("registry.pull-from-mirror", "may be set for mirrors only")
    digest_only = _truth(file, entry, "mirror-by-digest-only")
    mirrors = entry.get("mirror", [])
    if not isinstance(mirrors, list) or not all(isinstance(mirror, dict) for mirror in mirrors):
        raise file.wrong("registry.mirror", "must be an array of tables, [[registry.mirror]]")
    return RegistryTable(
        prefix,
        location,
        _truth(file, entry, "insecure"),
        _truth(file, entry, "blocked"),
        tuple(_mirror(file, mirror, digest_only) for mirror in mirrors),
    )


def _mirror(file: TomlFile, entry: dict[str, Any], digest_only: bool) -> Mirror:
    location = _location(file, "registry.mirror.location", _optional(file, entry, "location"))
    if not location:
        raise file.wrong("registry.mirror", "has no location")
    pull = _optional(file, entry, "pull-from-mirror")
    if digest_only and pull:
        raise file.wrong("registry.mirror", "mirror-by-digest-only excludes pull-from-mirror")
    pull = "digest-only" if digest_only else pull or "all"
    if pull not in _PULL_FROM_MIRROR:
        allowed = ", ".join(_PULL_FROM_MIRROR)
        raise file.wrong("registry.mirror.pull-from-mirror", f"must be one of {allowed}")
    return Mirror(location, _truth(file, entry, "insecure"), pull)


def _aliases(file: TomlFile) -> dict[str, str]:
    aliases = file.data.get("aliases", {})
    if not isinstance(aliases, dict) or not all(isinstance(v, str) for v in aliases.values()):
        raise file.wrong("aliases", "must be a table of texts")
    return aliases


def _location(file: TomlFile, key: str, text: str) -> str:
    if "://" in text:
        raise file.wrong(key, f"must have no scheme: {printable(text)!r}")
    return text.rstrip("/")


def _host(file: TomlFile, key: str, text: str) -> str:
    host = _location(file, key, text)
    if not _HOST.match(host):
        raise file.wrong(key, f"doesn't name a registry: {printable(text)!r}")
    return host


def _optional(file: TomlFile, entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key, "")
    if not isinstance(value, str):
        raise file.wrong(f"registry.{key}", "must be a text")
    return value


def _truth(file: TomlFile, entry: Mapping[str, Any], key: str) -> bool:
    value = entry.get(key, False)
    if not isinstance(value, bool):
        raise file.wrong(f"registry.{key}", "must be true or false")
    return value


def _texts(
    file: TomlFile, entry: Mapping[str, Any], key: str, shown: str | None = None
) -> tuple[str, ...]:
    value = entry.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise file.wrong(shown or key, "must be a list of texts")
    return tuple(value)
