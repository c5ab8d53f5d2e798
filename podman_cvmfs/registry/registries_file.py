# SPDX-License-Identifier: Apache-2.0
"""Reads one file in the format of ``registries.conf``: tables, aliases, lists.

Format: containers-registries.conf(5) and containers/image v5.36 ``pkg/sysregistriesv2``. Wrong
content is an error here as there. As for every Go program that reads TOML, keys may have capitals.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.names.reference import parse_name, split_domain
from podman_cvmfs.util.toml import TomlFile

_PULL_FROM_MIRROR = ("all", "digest-only", "tag-only")
_SHORT_NAME_MODES = ("disabled", "enforcing", "permissive")
_HOST = re.compile(r"[A-Za-z0-9.-]+(:[0-9]+)?\Z|\[[0-9a-fA-F:]+\](:[0-9]+)?\Z")


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


def in_small_letters(table: Mapping[str, Any]) -> dict[str, Any]:
    """The table with its keys in small letters; a key that is spelt so wins over its likes."""
    exact = {key: value for key, value in table.items() if key == key.lower()}
    return {**{key.lower(): value for key, value in table.items()}, **exact}


def tables_of(file: TomlFile) -> Iterator[RegistryTable]:
    """The ``[[registry]]`` tables in their order. Raises InputError."""
    entries = in_small_letters(file.data).get("registry", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise file.wrong("registry", "must be an array of tables, [[registry]]")
    seen: dict[str, RegistryTable] = {}
    for entry in entries:
        table = _table(file, in_small_letters(entry))
        other = seen.setdefault(table.location or table.prefix, table)
        if (other.insecure, other.blocked) != (table.insecure, table.blocked):
            place = printable(table.location or table.prefix)
            raise file.wrong("registry", f"{place} is defined twice and contradicts itself")
        yield table


def _table(file: TomlFile, entry: dict[str, Any]) -> RegistryTable:
    location = location_of(file, "registry.location", _optional(file, entry, "location"))
    prefix = location_of(file, "registry.prefix", _optional(file, entry, "prefix")) or location
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
        tuple(_mirror(file, in_small_letters(each), digest_only) for each in mirrors),
    )


def _mirror(file: TomlFile, entry: dict[str, Any], digest_only: bool) -> Mirror:
    location = location_of(file, "registry.mirror.location", _optional(file, entry, "location"))
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


def aliases_of(file: TomlFile) -> dict[str, str]:
    """Short name -> full name. Raises InputError, like all below."""
    aliases = in_small_letters(file.data).get("aliases", {})
    if not isinstance(aliases, dict) or not all(isinstance(v, str) for v in aliases.values()):
        raise file.wrong("aliases", "must be a table of texts")
    for short, full in aliases.items():
        _check_alias(file, short, full)
    return aliases


def _check_alias(file: TomlFile, short: str, full: str) -> None:
    """Short names have no registry, full names have one; neither has a tag or a digest. An empty
    full name takes back what an earlier file says."""
    first, slash, others = short.partition("/")
    if slash:  # containers/image takes the first part for a host, which may have capitals.
        short = f"{first.lower()}/{others}"
    for text, is_full in ((short, False), *([(full, True)] if full else [])):
        try:
            registry, rest = split_domain(text)
            parse_name(text)
        except InputError as err:
            raise file.wrong("aliases", f"has a bad name: {err.message}") from None
        if (registry is not None) != is_full or ":" in rest or "@" in rest:
            kind = "full" if is_full else "short"
            raise file.wrong("aliases", f"{printable(text)!r} is not a {kind} name without a tag")


def check_short_name_mode(file: TomlFile) -> None:
    """Raise InputError if the file sets a mode that doesn't exist."""
    mode = in_small_letters(file.data).get("short-name-mode", "")
    if mode and mode not in _SHORT_NAME_MODES:
        raise file.wrong("short-name-mode", f"must be one of {', '.join(_SHORT_NAME_MODES)}")


def location_of(file: TomlFile, key: str, text: str) -> str:
    """The value ``text`` of ``key`` as a place in a registry."""
    if "://" in text:
        raise file.wrong(key, f"must have no scheme: {printable(text)!r}")
    return text.rstrip("/")


def search_host_of(file: TomlFile, key: str, text: str) -> str:
    """The value ``text`` of ``key`` as a registry to search."""
    host = location_of(file, key, text)
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


def texts_of(
    file: TomlFile, entry: Mapping[str, Any], key: str, shown: str | None = None
) -> tuple[str, ...]:
    """The list of texts that ``entry`` has as ``key``; ``shown`` is the key in messages."""
    value = entry.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise file.wrong(shown or key, "must be a list of texts")
    return tuple(value)
