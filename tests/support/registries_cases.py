# SPDX-License-Identifier: Apache-2.0
"""Cases of registries.conf: files in many places, and what podman makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from podman_cvmfs.errors import InputError, RegistryError
from podman_cvmfs.names.reference import parse_name
from podman_cvmfs.registry.registries_conf import RegistriesConf

SEARCH = 'unqualified-search-registries = ["r.io"]\n'
BLOCK = '[[registry]]\nlocation = "r.io"\nblocked = true\n'
ALLOW = '[[registry]]\nlocation = "r.io"\n'
MIRROR = '[[registry]]\nlocation = "r.io"\n[[registry.mirror]]\nlocation = "m.io"\n'
ALIAS = '[aliases]\n"lab/new" = "r.io/lab/new"\n'

NOTHING, FOUND, BLOCKED, FAILS = "nothing", "r.io", "blocked", "fails"
ALIASED, MIRRORED = "alias", "m.io r.io"


@dataclass(frozen=True)
class Case:
    """Files, and what podman 6 and older ones make of them.

    The files' paths begin with etc (/etc/containers), share (/usr/share/containers), home, or the
    value of a variable in ``environ``.
    """

    files: Mapping[str, str]
    new: str
    old: str
    uid: int = 0
    environ: Mapping[str, str] = field(default_factory=dict)


_MAIN = "etc/registries.conf"
CASES = {
    "A vendor's main file": Case({"share/registries.conf": SEARCH}, FOUND, NOTHING),
    "A2 before it, the administrator's": Case(
        {"share/registries.conf": BLOCK, _MAIN: SEARCH}, FOUND, FOUND
    ),
    "B vendor's drop-in": Case(
        {"share/registries.conf.d/50-x.conf": BLOCK, _MAIN: SEARCH}, BLOCKED, FOUND
    ),
    "C for root": Case(
        {"etc/registries.rootful.conf.d/x.conf": BLOCK, _MAIN: SEARCH}, BLOCKED, FOUND
    ),
    "C2 of the vendor": Case(
        {"share/registries.rootful.conf.d/x.conf": BLOCK, _MAIN: SEARCH}, BLOCKED, FOUND
    ),
    "C3 for root, read by a user": Case(
        {"etc/registries.rootful.conf.d/x.conf": BLOCK, _MAIN: SEARCH}, FOUND, FOUND, 1000
    ),
    "D for users": Case(
        {"etc/registries.rootless.conf.d/x.conf": BLOCK, _MAIN: SEARCH}, BLOCKED, FOUND, 1000
    ),
    "D2 for users, read by root": Case(
        {"etc/registries.rootless.conf.d/x.conf": BLOCK, _MAIN: SEARCH}, FOUND, FOUND
    ),
    "E for one user": Case(
        {"etc/registries.rootless.conf.d/1000/x.conf": BLOCK, _MAIN: SEARCH}, BLOCKED, FOUND, 1000
    ),
    "E2 for another user": Case(
        {"etc/registries.rootless.conf.d/1001/x.conf": BLOCK, _MAIN: SEARCH}, FOUND, FOUND, 1000
    ),
    "F sorted over all directories": Case(
        {
            "etc/registries.conf.d/50-y.conf": ALLOW,
            "share/registries.conf.d/99-x.conf": BLOCK,
            _MAIN: SEARCH,
        },
        BLOCKED,
        FOUND,
    ),
    "F2 the same name": Case(
        {
            "etc/registries.conf.d/50-x.conf": ALLOW,
            "share/registries.conf.d/50-x.conf": BLOCK,
            _MAIN: SEARCH,
        },
        FOUND,
        FOUND,
    ),
    "G own main file, drop-in in /etc": Case(
        {"home/.config/containers/registries.conf": SEARCH, "etc/registries.conf.d/x.conf": BLOCK},
        BLOCKED,
        FOUND,
    ),
    "H XDG_CONFIG_HOME": Case(
        {"xdg/containers/registries.conf": SEARCH}, FOUND, NOTHING, 1000, {"XDG_CONFIG_HOME": "xdg"}
    ),
    "H2 XDG_CONFIG_HOME takes home's place": Case(
        {"home/.config/containers/registries.conf": SEARCH},
        NOTHING,
        FOUND,
        1000,
        {"XDG_CONFIG_HOME": "xdg"},
    ),
    "I named file without drop-ins": Case(
        {"named": SEARCH, "etc/registries.conf.d/x.conf": BLOCK},
        FOUND,
        BLOCKED,
        0,
        {"CONTAINERS_REGISTRIES_CONF": "named"},
    ),
    "J override": Case(
        {_MAIN: SEARCH, "over": BLOCK},
        BLOCKED,
        FOUND,
        0,
        {"CONTAINERS_REGISTRIES_CONF_OVERRIDE": "over"},
    ),
    "J2 override after a named file": Case(
        {"named": SEARCH, "over": BLOCK},
        BLOCKED,
        FOUND,
        0,
        {"CONTAINERS_REGISTRIES_CONF": "named", "CONTAINERS_REGISTRIES_CONF_OVERRIDE": "over"},
    ),
    "J3 override is missing": Case(
        {_MAIN: SEARCH}, FAILS, FOUND, 0, {"CONTAINERS_REGISTRIES_CONF_OVERRIDE": "over"}
    ),
    "K the older variable": Case(
        {"named": SEARCH}, NOTHING, FOUND, 0, {"REGISTRIES_CONFIG_PATH": "named"}
    ),
    "L version 1": Case({_MAIN: '[registries.search]\nregistries = ["r.io"]\n'}, FAILS, FOUND),
    "L2 version 1 without a list": Case({_MAIN: SEARCH + "[registries.search]\n"}, FOUND, FOUND),
    "M mirror": Case({_MAIN: SEARCH + MIRROR}, MIRRORED, MIRRORED),
    "M2 vendor's mirror": Case(
        {_MAIN: SEARCH, "share/registries.conf.d/m.conf": MIRROR}, MIRRORED, FOUND
    ),
    "N alias": Case({"etc/registries.conf.d/a.conf": ALIAS}, ALIASED, ALIASED),
    "N2 vendor's alias": Case(
        {"share/registries.conf.d/000-shortnames.conf": ALIAS}, ALIASED, NOTHING
    ),
    "O a later list replaces": Case(
        {
            _MAIN: 'unqualified-search-registries = ["x.io"]\n',
            "etc/registries.conf.d/x.conf": SEARCH,
        },
        FOUND,
        FOUND,
    ),
    "O2 an empty list replaces": Case(
        {_MAIN: SEARCH, "etc/registries.conf.d/x.conf": "unqualified-search-registries = []\n"},
        NOTHING,
        NOTHING,
    ),
    "P append": Case(
        {_MAIN: 'unqualified-search-registries = ["r.io", {append=true}]\n'}, FAILS, FAILS
    ),
    "Q blocked": Case({_MAIN: SEARCH + BLOCK}, BLOCKED, BLOCKED),
    "R capitals": Case(
        {
            _MAIN: SEARCH.title().replace("R.Io", "r.io")
            + '[[Registry]]\nLocation = "r.io"\nBlocked = true\n'
        },
        BLOCKED,
        BLOCKED,
    ),
    "R2 an alias keeps its capitals": Case(
        {_MAIN: '[Aliases]\n"Lab/new" = "r.io/lab/new"\n'}, NOTHING, NOTHING
    ),
    "S bad mode": Case({_MAIN: SEARCH + 'short-name-mode = "foo"\n'}, FAILS, FAILS),
    "S2 good mode": Case({_MAIN: SEARCH + 'short-name-mode = "enforcing"\n'}, FOUND, FOUND),
    "S3 bad alias": Case({_MAIN: SEARCH + '[aliases]\na = "r.io/a:1"\n'}, FAILS, FAILS),
    "T byte order mark": Case({_MAIN: f"\ufeff{SEARCH}"}, FOUND, FOUND),
}


def outcome(load: Callable[[], RegistriesConf]) -> str:
    """What our reading makes of the short name lab/new, in a case's words."""
    try:
        conf = load()
    except InputError:
        return FAILS
    if "lab/new" in conf.aliases:
        return ALIASED
    if not conf.search_registries:
        return NOTHING
    try:
        endpoints = conf.endpoints(parse_name(f"{conf.search_registries[0]}/lab/new:1"))
    except RegistryError:
        return BLOCKED
    return " ".join(each.name.registry for each in endpoints)
