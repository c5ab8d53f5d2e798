# SPDX-License-Identifier: Apache-2.0
"""Reads ``registries.conf`` and its drop-ins: the places from which an engine would fetch an image.

Format: containers-registries.conf(5) and containers/image v5.36 and v5.40 ``pkg/sysregistriesv2``.
Wrong content is an error here as there. ``registries_files`` tells which files are read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from podman_cvmfs.errors import InputError, RegistryError, printable
from podman_cvmfs.names.reference import ImageName, check_parts
from podman_cvmfs.podman.registries_rules import RegistriesRules, registries_rules
from podman_cvmfs.registry.registries_file import (
    RegistryTable,
    aliases_of,
    check_short_name_mode,
    in_small_letters,
    location_of,
    search_host_of,
    tables_of,
    texts_of,
)
from podman_cvmfs.registry.registries_files import registries_files
from podman_cvmfs.util.toml import TomlFile, read_toml

#: In ``credential-helpers``: the auth files themselves.
AUTH_FILES = "containers-auth.json"

_VERSION_2 = {"registry", "unqualified-search-registries", "aliases"}
_OLD_RULES = RegistriesRules(everywhere=False)


@dataclass(frozen=True)
class Endpoint:
    """One place to ask for an image.

    ``name`` is the image's name there. ``insecure`` allows plain HTTP and untrusted certificates.
    """

    name: ImageName
    insecure: bool = False


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


def load_registries_conf(rules: RegistriesRules | None = None) -> RegistriesConf:
    """Read the files an engine of this user would read, by ``rules``; None: by the rules of the
    podman that is installed. Raises InputError."""
    rules = registries_rules() if rules is None else rules
    files = registries_files(rules)
    for path in files.demanded:
        if not os.path.exists(path):
            raise InputError(f"no such registries.conf: {printable(path)}")
    others = map(read_toml, files.others)
    return merged(read_toml(files.main), others, read_toml(files.chosen), rules)


def merged(
    main: TomlFile | None,
    others: Iterable[TomlFile | None] = (),
    chosen: TomlFile | None = None,
    rules: RegistriesRules = _OLD_RULES,
) -> RegistriesConf:
    """The content of the main file and its drop-ins, ``others``, together; a later one wins. None
    stands for a missing file. ``chosen`` is podman's own file with the users' answers to its
    questions. It wins over all others. Raises InputError."""
    found = _Merged(rules)
    if main is not None:
        found.add(main, is_drop_in=False)
    for file in others:
        if file is not None:
            found.add(file, is_drop_in=True)
    if chosen is not None:
        found.aliases.update(aliases_of(chosen))
    return found.result()


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

    def __init__(self, rules: RegistriesRules) -> None:
        self.rules = rules
        self.tables: dict[str, RegistryTable] = {}
        self.search: tuple[str, ...] = ()
        self.aliases: dict[str, str] = {}
        self.helpers: tuple[str, ...] = ()

    def add(self, file: TomlFile, is_drop_in: bool) -> None:
        if file.has_bom and not self.rules.skips_bom:
            raise InputError(f"{printable(file.path)}:1: podman 4 can't read a byte order mark")
        data = in_small_letters(file.data)
        lists = _version_1(file, data)
        if lists:
            if is_drop_in or self.rules.everywhere:
                what = "a drop-in must be" if is_drop_in else "podman 6 needs it to be"
                raise InputError(
                    f"{printable(file.path)}: {what} of version 2",
                    "see containers-registries.conf(5)",
                )
            if _VERSION_2 & set(data):
                raise InputError(f"{printable(file.path)}: mixes versions 1 and 2 of the format")
            self._add_version_1(file, lists)
            return
        check_short_name_mode(file)
        tables: dict[str, RegistryTable] = {}
        for table in tables_of(file):
            # Within one file the first of equal prefixes counts.
            tables.setdefault(table.prefix, table)
        self.tables.update(tables)
        if "unqualified-search-registries" in data:
            key = "unqualified-search-registries"
            self.search = tuple(
                search_host_of(file, key, each) for each in texts_of(file, data, key)
            )
        if "credential-helpers" in data:
            self.helpers = texts_of(file, data, "credential-helpers")
        self.aliases.update(aliases_of(file))

    def _add_version_1(self, file: TomlFile, lists: Mapping[str, tuple[str, ...]]) -> None:
        for host in lists.get("block", ()):
            location = location_of(file, "registries.block", host)
            self.tables[location] = RegistryTable(location, location, blocked=True)
        for host in lists.get("insecure", ()):
            location = location_of(file, "registries.insecure", host)
            before = self.tables.get(location, RegistryTable(location, location))
            self.tables[location] = replace(before, insecure=True)
        search = lists.get("search", ())
        self.search = tuple(search_host_of(file, "registries.search", host) for host in search)

    def result(self) -> RegistriesConf:
        return RegistriesConf(
            tuple(self.tables.values()),
            self.search,
            {name: value for name, value in self.aliases.items() if value},
            self.helpers or (AUTH_FILES,),
        )


def _version_1(file: TomlFile, data: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The lists of hosts in version 1 of the format; empty for a file without such a list."""
    found: dict[str, tuple[str, ...]] = {}
    old = data.get("registries")
    if isinstance(old, dict):
        for kind, table in in_small_letters(old).items():
            if kind in ("search", "insecure", "block"):
                if not isinstance(table, dict):
                    raise file.wrong(f"registries.{kind}", "must be a table")
                lists = in_small_letters(table)
                if "registries" in lists:
                    key = f"registries.{kind}.registries"
                    found[kind] = texts_of(file, lists, "registries", key)
    return found
