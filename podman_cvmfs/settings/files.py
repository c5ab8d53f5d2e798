# SPDX-License-Identifier: Apache-2.0
"""Reads the settings of administrators and users, and remembers where each comes from.

A later source overrides an earlier one, key by key: the defaults; ``/etc/podman-cvmfs/config.toml``
and ``config.d/*.toml`` beside it, by name; for ordinary users the same below
``$XDG_CONFIG_HOME/podman-cvmfs``; the command line. If the environment variable
``PODMAN_CVMFS_CONFIG`` names a file, that one is read instead of all others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.oci.platform import Platform
from podman_cvmfs.podman.composefs import obstacle
from podman_cvmfs.podman.mount_points import mount_points
from podman_cvmfs.settings import checks, paths
from podman_cvmfs.settings.checks import HOST, NEVER
from podman_cvmfs.settings.policy import Overlay, Policy, Reuse, View
from podman_cvmfs.settings.sharing import is_shared
from podman_cvmfs.util.toml import TomlFile, drop_ins, read_toml
from podman_cvmfs.util.web_address import is_web_address

SYSTEM_DIRECTORY = "/etc/podman-cvmfs"
VARIABLE = "PODMAN_CVMFS_CONFIG"
DEFAULT, COMMAND_LINE = "default", "command line"
#: Only root writes and shares the system's store and cache.
_ROOTS = frozenset({"store", "cache", "shared"})


class OnOutage(str, Enum):
    """What happens to a repository's images while the repository can't be read."""

    KEEP = "keep"
    HIDE = "hide"


class Lists(str, Enum):
    """Where the file lists of layers are from: what is at hand, or the tars in registries."""

    AUTO = "auto"
    REGISTRY = "registry"


class Signatures(str, Enum):
    """What happens to images for which podman's policy.json demands a signature."""

    REQUIRED = "required"
    IGNORED = "ignored"


@dataclass(frozen=True)
class RegistrySettings:
    """The limits for registries.

    ``timeout`` is in seconds, for connecting and for each wait for data. ``retries`` is how often a
    failed request is repeated. If a registry asks for a pause longer than ``max_pause`` seconds,
    this counts as a refusal.
    """

    timeout: float = 30.0
    retries: int = 2
    max_pause: float = 10.0


@dataclass(frozen=True)
class Settings:
    """All settings. ``repositories`` are in order of preference; paths are absolute.

    ``wish_lists`` are files or web addresses; an empty list means all images. ``include`` and
    ``exclude`` are globs of image names. ``arch`` is the architecture whose images are wanted.
    ``lists_budget`` is how many bytes file lists may take in the cache.
    ``grace_days`` is how long retired layers stay; None for ever. ``graphroots`` are patterns of
    directories in which to look for users of layers. ``shared`` says whether other users can read
    the store; None if it isn't set. ``blob_sources`` are directories or web addresses to ask before
    any registry. ``profiles`` is the site's directory of start-up profiles. With ``prefetch`` a
    sync reads early what the images of wish lists open when they start.
    """

    repositories: tuple[str, ...] = (paths.REPOSITORY,)
    wish_lists: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    arch: str = HOST
    store: str = field(default_factory=paths.default_store)
    cache: str = field(default_factory=paths.default_cache)
    view: View = View.AUTO
    reuse: Reuse = Reuse.BASE
    overlay: Overlay = Overlay.KERNEL
    reuse_from: tuple[str, ...] | None = None
    shared: bool | None = None
    lists: Lists = Lists.AUTO
    lists_budget: int = 10 << 30
    grace_days: int | None = 14
    graphroots: tuple[str, ...] = ()
    blob_sources: tuple[str, ...] = ()
    profiles: str = paths.PROFILES
    prefetch: bool = False
    offline: bool = False
    on_outage: OnOutage = OnOutage.KEEP
    signatures: Signatures = Signatures.REQUIRED
    registries: RegistrySettings = RegistrySettings()
    files: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)

    def source(self, key: str) -> str:
        """Where the value of ``key`` (such as ``registries.timeout``) comes from: ``default``,
        ``command line``, or ``file:line``."""
        if key not in _CHECKS:
            raise KeyError(key)
        return self.sources.get(key, DEFAULT)

    def values(self) -> dict[str, object]:
        """All values by key, in the types of TOML and JSON. ``shared`` is false if it isn't set."""
        return {
            **{key: _plain(_get(self, key)) for key in _CHECKS},
            "reuse_from": list(self.trusted),
            "shared": bool(self.shared),
            "grace_days": NEVER if self.grace_days is None else self.grace_days,
        }

    @property
    def trusted(self) -> tuple[str, ...]:
        """The repositories whose layers other images may use, in order of preference. If they
        aren't set, a single repository counts, but of several repositories not one."""
        if self.reuse_from is None:
            return self.repositories if len(self.repositories) == 1 else ()
        return tuple(each for each in self.repositories if each in self.reuse_from)

    @property
    def policy(self) -> Policy:
        """The policy for the store. If this machine's configuration names the store to ordinary
        users, it is shared with them, whatever the settings say."""
        shared = is_shared(self.shared, self.store, self.cache)
        is_clear = self.trusted == self.repositories and len(self.repositories) == 1
        reuse_from = None if is_clear else self.trusted
        is_wished = self.view in (View.AUTO, View.EXACT)
        return Policy(
            self.view,
            self.reuse,
            self.overlay,
            shared,
            mount_points(),
            reuse_from,
            exact=is_wished and not self._not_exact(shared),
        )

    @property
    def not_exact(self) -> str:
        """Why no image can be given the exact view here, as a sentence without a full stop; "" if
        images can."""
        return self._not_exact(is_shared(self.shared, self.store, self.cache))

    def _not_exact(self, shared: bool) -> str:
        if self.overlay is not Overlay.KERNEL:
            return f"{self.overlay.value} can't mount it"
        if shared:
            return "podman of ordinary users, who read this store, can't mount it"
        return obstacle(f"{self.cache}/exact.json", store=self.store)

    @property
    def platform(self) -> Platform:
        """The platform that images must run on."""
        return Platform.of_host() if self.arch == HOST else Platform.parse(self.arch)


def load_settings(overrides: Mapping[str, object] | None = None) -> Settings:
    """Read all sources. ``overrides`` are values of the command line by key, None for those not
    given; relative paths among them start at the current directory.

    Raises InputError, which names file and line, for an unreadable file and for a wrong value.
    """
    found: dict[str, object] = {}
    sources: dict[str, str] = {}
    warnings: list[str] = []
    files = []
    for file, ignored in _files():
        files.append(file.path)
        for key, value in _flat(file, warnings):
            if key in ignored:
                continue
            try:
                found[key] = _CHECKS[key](value)
            except ValueError as err:
                raise file.wrong(key, str(err)) from None
            sources[key] = file.where(key)
    for key, value in (overrides or {}).items():
        if value is None:
            continue
        try:
            found[key] = _CHECKS[key](_from_here(key, value))
        except ValueError as err:
            raise InputError(f"{key} {err}") from None
        sources[key] = COMMAND_LINE
    patience = {k[len("registries.") :]: v for k, v in found.items() if k.startswith("registries.")}
    values: dict[str, Any] = {key: value for key, value in found.items() if "." not in key}
    return Settings(
        **values,
        registries=RegistrySettings(**patience),  # type: ignore[arg-type]
        files=tuple(files),
        warnings=tuple(warnings),
        sources=sources,
    )


def user_directory() -> str:
    """Where an ordinary user's settings are."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(os.path.expanduser("~"), ".config")
    return os.path.join(base, "podman-cvmfs")


def file_that_sets(settings: Settings, key: str) -> str:
    """The file in which to change ``key``: the file that sets it, or the usual one."""
    source = settings.source(key)
    if source not in (DEFAULT, COMMAND_LINE):
        return source.rpartition(":")[0]
    named = os.environ.get(VARIABLE)
    if named:
        return os.path.abspath(named)
    directory = SYSTEM_DIRECTORY if os.geteuid() == 0 else user_directory()
    return f"{directory}/config.toml"


def _files() -> Iterator[tuple[TomlFile, frozenset[str]]]:
    """The existing files, the weakest first, and the keys that don't count in each."""
    named = os.environ.get(VARIABLE)
    if named:
        file = read_toml(os.path.abspath(named))
        if file is None:
            raise InputError(f"{VARIABLE} names a missing file: {printable(named)}")
        yield file, frozenset()
        return
    is_root = os.geteuid() == 0
    yield from _below(SYSTEM_DIRECTORY, frozenset() if is_root else _ROOTS)
    if not is_root:
        yield from _below(user_directory(), frozenset())


def _below(directory: str, ignored: frozenset[str]) -> Iterator[tuple[TomlFile, frozenset[str]]]:
    for path in [f"{directory}/config.toml", *drop_ins(f"{directory}/config.d", ".toml")]:
        file = read_toml(path)
        if file is not None:
            yield file, ignored


def _flat(file: TomlFile, warnings: list[str]) -> Iterator[tuple[str, object]]:
    """The settings in ``file`` by key; unknown ones are warned of."""
    for key, value in file.data.items():
        if key == "registries":
            if not isinstance(value, dict):
                raise file.wrong(key, "must be a table")
            inner = {f"{key}.{name}": each for name, each in value.items()}
        else:
            inner = {key: value}
        for name, each in inner.items():
            if name in _CHECKS:
                yield name, each
            else:
                where = file.where(name)
                warnings.append(f"{where}: unknown setting {printable(name)!r} ignored")


def _from_here(key: str, value: object) -> object:
    if key in ("repositories", "wish_lists", "blob_sources") and isinstance(value, (list, tuple)):
        # An empty path would be the current directory.
        return [
            each if not each or is_web_address(each) else os.path.abspath(each) for each in value
        ]
    if key in ("store", "cache") and isinstance(value, str) and value:
        return os.path.abspath(value)
    return value


def _get(settings: Settings, key: str) -> object:
    value: object = settings
    for name in key.split("."):
        value = getattr(value, name)
    return value


def _plain(value: object) -> object:
    if isinstance(value, Enum):
        return value.value
    return list(value) if isinstance(value, tuple) else value


#: All keys in the order of the output, and the functions that check and convert TOML's values.
_CHECKS: dict[str, Callable[[object], object]] = {
    "repositories": checks.not_empty(checks.list_of(checks.path)),
    "wish_lists": checks.list_of(checks.place),
    "include": checks.list_of(checks.text),
    "exclude": checks.list_of(checks.text),
    "arch": checks.architecture,
    "store": checks.path,
    "cache": checks.path,
    "view": checks.one_of(View),
    "reuse": checks.one_of(Reuse),
    "overlay": checks.one_of(Overlay),
    "reuse_from": checks.list_of(checks.path),
    "shared": checks.truth,
    "lists": checks.one_of(Lists),
    "lists_budget": checks.whole_number(0, 1 << 50),
    "grace_days": checks.days(0, 3650),
    "graphroots": checks.list_of(checks.path),
    "blob_sources": checks.list_of(checks.place),
    "profiles": checks.path,
    "prefetch": checks.truth,
    "offline": checks.truth,
    "on_outage": checks.one_of(OnOutage),
    "signatures": checks.one_of(Signatures),
    "registries.timeout": checks.seconds(0.1, 3600),
    "registries.retries": checks.whole_number(0, 10),
    "registries.max_pause": checks.seconds(0, 3600),
}
