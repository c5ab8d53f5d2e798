# SPDX-License-Identifier: Apache-2.0
"""What a machine is like, as far as podman and our store go. Frozen dataclasses, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from podman_cvmfs.podman.storage_conf.ask import major_of
from podman_cvmfs.podman.storage_conf.effective import Effective
from podman_cvmfs.usage.broken_layers import BrokenUsers


class Presence(str, Enum):
    """Whether a directory answers. ``OTHER``: something else has its name; ``CLOSED``: the user may
    not look into it; ``HANGS``: there is no answer in time, or none but an error."""

    THERE = "there"
    MISSING = "missing"
    OTHER = "not a directory"
    CLOSED = "closed"
    HANGS = "hangs"


@dataclass(frozen=True)
class Engine:
    """podman: its version and what it understands; ``problem`` (with ``hint``) why it doesn't even
    start. The rest is what podman says once it has opened its storage, ``failure`` why it can't. It
    is empty for a user who has never used podman: that would make storage.
    """

    version: str = ""
    drop_ins: bool = False
    problem: str = ""
    hint: str = ""
    failure: str = ""
    driver: str = ""
    mount_program: str = ""

    @property
    def major(self) -> int | None:
        """The first number of the version."""
        return major_of(self.version)


@dataclass(frozen=True)
class Native:
    """What the real containers/storage library reads. ``problem`` is why it can't be asked,
    ``failure`` what it said instead of an answer, ``mode`` of PODMAN_CVMFS_NATIVE."""

    mode: str = "auto"
    version: str = ""
    problem: str = ""
    failure: str = ""
    driver: str = ""
    graphroot: str = ""
    stores: tuple[str, ...] = ()


@dataclass(frozen=True)
class Configuration:
    """storage.conf by our own reading: ``problem`` (with ``hint``) if it can't be read.

    ``driver`` is the driver's name and ``driver_reason`` what decides it. ``environment`` are the
    variables that change what podman reads; ``dropped_stores`` what files name in vain, since
    STORAGE_OPTS replaces it. ``lacking`` maps what ``effective.main`` has to set and doesn't to
    the value by default; ``with_append`` are files with ``{append=true}``, which this podman can't
    parse; ``missing_programs`` are needed and aren't there; ``set_in`` maps options, and
    "driver", to the file that sets them. ``has_fuse`` says that /dev/fuse can be opened.
    ``profile`` is the shell file that names our store at each login, "" if there is none;
    ``profile_program`` what it has ordinary users' podman mount with, "" for the kernel.
    ``userns`` is the user namespace that containers get without being told, "" for the usual one.
    """

    effective: Effective = field(
        default_factory=lambda: Effective(None, (), False, "overlay", (), {})
    )
    problem: str = ""
    hint: str = ""
    driver: str = "overlay"
    driver_reason: str = ""
    graphroot: str = ""
    has_graphroot: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    dropped_stores: tuple[str, ...] = ()
    lacking: Mapping[str, str] = field(default_factory=dict)
    with_append: tuple[str, ...] = ()
    missing_programs: tuple[str, ...] = ()
    set_in: Mapping[str, str] = field(default_factory=dict)
    has_fuse: bool = True
    profile: str = ""
    profile_program: str = ""
    userns: str = ""


@dataclass(frozen=True)
class Place:
    """An additional store that podman is told of, or ours.

    ``closed_at`` are directories on the way to it that others than their owner (or, for an ordinary
    user, this user) may not enter or read; ``lacking`` is what podman needs and isn't there,
    ``locks`` maps a lock file to its size, ``names`` are those of its images. ``real`` is the path
    without links. ``is_open`` says that the directory itself lets everybody in, ``by_us`` that a
    sync has written it.
    """

    path: str
    presence: Presence = Presence.THERE
    real: str = ""
    closed_at: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    locks: Mapping[str, int] = field(default_factory=dict)
    names: frozenset[str] = frozenset()
    owner: int | None = None
    is_open: bool = False
    by_us: bool = False


@dataclass(frozen=True)
class Fault:
    """Something that a quick examination of our store has found."""

    is_error: bool
    path: str
    what: str
    cure: str


@dataclass(frozen=True)
class Contents:
    """What our store holds. ``problem`` is why it can't be read.

    ``counts`` are those of ``status``; ``by_layers`` is how many images are shown by their layers,
    ``overlay`` what these are laid out for. ``too_deep`` are names of images that podman 4 can't
    mount, ``repositories`` where the images are from.
    """

    problem: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    by_layers: int = 0
    overlay: str = ""
    policy: str = ""
    policy_wanted: str = ""
    too_deep: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    repositories: tuple[str, ...] = ()

    @property
    def images(self) -> int:
        """How many images have names."""
        return self.counts.get("images", 0)


@dataclass(frozen=True)
class Repository:
    """An unpacked repository. ``problem`` is why it can't be read; ``empty`` says that nothing is
    there, ``foreign`` that it isn't in DUCC's layout.

    ``owners`` are the users that some files of an image belong to.
    ``revision`` is CernVM-FS's; ``synced`` is when (seconds since 1970) a sync last did everything,
    ``synced_revision`` what it saw. ``wished`` says that the settings name it, ``in_fstab`` that
    it can be mounted by its path alone.
    """

    path: str
    presence: Presence = Presence.THERE
    problem: str = ""
    empty: bool = False
    foreign: bool = False
    owners: tuple[int, ...] = ()
    revision: int | None = None
    synced: int | None = None
    synced_revision: int | None = None
    wished: bool = True
    in_fstab: bool = False


@dataclass(frozen=True)
class Client:
    """CernVM-FS's client that shows a repository: where its cache is, and whether it moves what it
    has fetched within one directory.

    ``own`` are graphroots of whoever runs this, ``others`` those of other users, both as far as
    they are on the cache's file system.
    """

    repository: str
    cache: str
    one_directory: bool = False
    own: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class User:
    """Who runs podman. ``subuids`` and ``subgids`` are how many subordinate IDs there are, None
    where a directory service has them. ``bad_programs`` are newuidmap and newgidmap if they are
    missing or lack the right to map; ``namespaces`` says that users may make user namespaces. From
    ``free_id`` on no user has subordinate IDs."""

    uid: int = 0
    name: str = "root"
    subuids: int | None = None
    subgids: int | None = None
    bad_programs: tuple[str, ...] = ()
    namespaces: bool = True
    free_id: int = 100_000
    kernel: tuple[int, int] = (6, 0)


@dataclass(frozen=True)
class Disk:
    """The file system where something of ours lies (``what``: store, cache, graphroot)."""

    what: str
    path: str
    free: int
    size: int
    free_inodes: int
    inodes: int


@dataclass(frozen=True)
class Units:
    """systemd's units by name: what ``systemctl show`` says of each that is installed.

    ``known`` is false where systemd doesn't run or doesn't answer.
    """

    known: bool = False
    states: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Registries:
    """registries.conf: ``problem`` (with ``hint``) if it can't be read; ``blocked`` maps the images
    of the store that it blocks to the reason."""

    problem: str = ""
    hint: str = ""
    blocked: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """Everything. ``store`` is ours, the one that is asked about, and ``is_configured`` says that
    podman is told of it; ``others`` are the additional stores that podman is told of besides;
    ``unreached`` has a line for each user of this machine whom podman doesn't give our store though
    ``named_by``, the files that name it to ordinary users, would. ``shared`` says that the settings
    ask for sharing, ``wants_shared`` that the next sync lays it out for all users.
    ``has_cvmfs`` says that CernVM-FS's client is installed. Of our own settings: ``warnings``, the
    ``wanted_overlay``, ``offline``, and ``given``, those options of the command line with which a
    sync finds the same places. ``settings_file`` is where ``overlay`` is set, or could be;
    ``bad_wish_lists`` maps why a sync refuses a wish list to what mends that. ``broken`` are users'
    images and containers that show one layer as their whole root."""

    store: Place
    is_configured: bool = True
    user: User = field(default_factory=User)
    now: int = 0
    engine: Engine = field(default_factory=Engine)
    configuration: Configuration = field(default_factory=Configuration)
    native: Native = field(default_factory=Native)
    contents: Contents = field(default_factory=Contents)
    others: tuple[Place, ...] = ()
    repositories: tuple[Repository, ...] = ()
    clients: tuple[Client, ...] = ()
    disks: tuple[Disk, ...] = ()
    units: Units = field(default_factory=Units)
    registries: Registries = field(default_factory=Registries)
    unreached: tuple[str, ...] = ()
    named_by: tuple[str, ...] = ()
    shared: bool = False
    wants_shared: bool = False
    has_cvmfs: bool = False
    wanted_overlay: str = "kernel"
    settings_file: str = "/etc/podman-cvmfs/config.toml"
    offline: bool = False
    given: tuple[str, ...] = ()
    bad_wish_lists: Mapping[str, str] = field(default_factory=dict)
    broken: BrokenUsers = field(default_factory=BrokenUsers)
    warnings: tuple[str, ...] = ()

    @property
    def is_root(self) -> bool:
        """Whether podman runs as root."""
        return self.user.uid == 0

    @property
    def is_own(self) -> bool:
        """Whether our store belongs to this user."""
        return self.store.owner in (None, self.user.uid)

    @property
    def stores(self) -> tuple[str, ...]:
        """The additional stores that podman looks into, in order."""
        return self.configuration.effective.stores
