# SPDX-License-Identifier: Apache-2.0
"""The facts about a machine that matter to podman and our store. Frozen dataclasses, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from podman_cvmfs.podman.services import Service
from podman_cvmfs.podman.storage_conf.ask import major_of
from podman_cvmfs.podman.storage_conf.effective import Effective
from podman_cvmfs.usage.broken_layers import BrokenUsers
from podman_cvmfs.verify.fault import Fault


class Presence(str, Enum):
    """Whether a directory answers. ``OTHER``: something else has its name; ``CLOSED``: the user may
    not look into it; ``HANGS``: it gives no answer in time, or only an error."""

    THERE = "there"
    MISSING = "missing"
    OTHER = "not a directory"
    CLOSED = "closed"
    HANGS = "hangs"


@dataclass(frozen=True)
class Engine:
    """podman. What it says of its storage is empty for a user who has never used it: asking would
    make storage."""

    version: str = ""
    #: Whether it reads drop-ins of storage.conf.
    drop_ins: bool = False
    #: Why it doesn't even start, and what helps.
    problem: str = ""
    hint: str = ""
    #: Why it can't open its storage.
    failure: str = ""
    #: What it says of its storage.
    driver: str = ""
    mount_program: str = ""

    @property
    def major(self) -> int | None:
        """The first number of the version."""
        return major_of(self.version)


@dataclass(frozen=True)
class Native:
    """What the real containers/storage library reads."""

    #: The value of PODMAN_CVMFS_NATIVE.
    mode: str = "auto"
    version: str = ""
    #: Why it can't be asked.
    problem: str = ""
    #: What it said instead of an answer.
    failure: str = ""
    driver: str = ""
    graphroot: str = ""
    stores: tuple[str, ...] = ()


@dataclass(frozen=True)
class Configuration:
    """storage.conf by our own reading."""

    effective: Effective = field(
        default_factory=lambda: Effective(None, (), False, "overlay", (), {})
    )
    #: Why it can't be read, and what helps.
    problem: str = ""
    hint: str = ""
    driver: str = "overlay"
    #: What decides the driver.
    driver_reason: str = ""
    graphroot: str = ""
    has_graphroot: bool = False
    #: The variables that change what podman reads.
    environment: Mapping[str, str] = field(default_factory=dict)
    #: Stores that files name without effect, because STORAGE_OPTS replaces them.
    dropped_stores: tuple[str, ...] = ()
    #: Keys that ``effective.main`` has to set and doesn't set -> the default value.
    lacking: Mapping[str, str] = field(default_factory=dict)
    #: Files with ``{append=true}``, which this podman can't parse.
    with_append: tuple[str, ...] = ()
    #: Needed programs that are missing.
    missing_programs: tuple[str, ...] = ()
    #: An option, or "driver" -> the file that sets it.
    set_in: Mapping[str, str] = field(default_factory=dict)
    #: Those of them that no command of ours can change in this file: this user may not write it, or
    #: the key is not on a line of its own.
    fixed: frozenset[str] = frozenset()
    #: Whether ``effective.main`` has a line ``[storage]``; None if no command may add one.
    has_table: bool | None = True
    #: Whether ``mount_program`` is the site's own program, not fuse-overlayfs.
    is_own_program: bool = False
    #: The file in which podman's storage remembers that a program mounts its layers, whatever the
    #: options say; "" if it doesn't.
    remembered_in: str = ""
    #: Whether /dev/fuse can be opened.
    has_fuse: bool = True
    #: The shell file that names our store at each login; "" if there is none.
    profile: str = ""
    #: The program with which that file has ordinary users' podman mount; "" for the kernel.
    profile_program: str = ""
    #: The user namespace that containers get without being told; "" for the usual one.
    userns: str = ""


@dataclass(frozen=True)
class Place:
    """Our store, or an additional store that podman's configuration names."""

    path: str
    presence: Presence = Presence.THERE
    #: The path without links.
    real: str = ""
    #: Directories on the way to it that others than their owner, or this ordinary user, may not
    #: enter or read.
    closed_at: tuple[str, ...] = ()
    #: Missing files and directories that podman needs.
    lacking: tuple[str, ...] = ()
    #: Lock file -> its size.
    locks: Mapping[str, int] = field(default_factory=dict)
    #: The names of its images.
    names: frozenset[str] = frozenset()
    owner: int | None = None
    #: Whether the directory itself lets everybody in.
    is_open: bool = False
    #: Whether a sync has written it.
    by_us: bool = False


@dataclass(frozen=True)
class Contents:
    """What our store holds."""

    #: Why it can't be read.
    problem: str = ""
    #: The counts of ``status``.
    counts: Mapping[str, int] = field(default_factory=dict)
    #: How many images are shown by their layers.
    by_layers: int = 0
    #: The value of ``overlay`` that these are laid out for.
    overlay: str = ""
    #: The policy that the store remembers, and the one of the settings.
    policy: str = ""
    policy_wanted: str = ""
    #: Names of images that podman 4 can't mount.
    too_deep: tuple[str, ...] = ()
    #: What a quick examination has found.
    faults: tuple[Fault, ...] = ()
    #: The repositories of the images.
    repositories: tuple[str, ...] = ()

    @property
    def images(self) -> int:
        """How many images have names."""
        return self.counts.get("images", 0)


@dataclass(frozen=True)
class Targets:
    """Names of images whose files can't be seen, though their repository can be."""

    #: Their files have left the repository.
    gone: tuple[str, ...] = ()
    #: podman's pause process sees another tree of mounts.
    hidden: tuple[str, ...] = ()


@dataclass(frozen=True)
class Repository:
    """An unpacked repository."""

    path: str
    presence: Presence = Presence.THERE
    #: Why it can't be read.
    problem: str = ""
    #: Whether the program that serves it has gone.
    is_dead: bool = False
    #: Whether nothing is there.
    empty: bool = False
    #: Whether its layout is unknown.
    foreign: bool = False
    #: The users that some files of an image belong to.
    owners: tuple[int, ...] = ()
    #: CernVM-FS's.
    revision: int | None = None
    #: When (seconds since 1970) a sync last did everything, and the revision that it saw.
    synced: int | None = None
    synced_revision: int | None = None
    #: Whether the settings name it.
    wished: bool = True
    #: Whether it can be mounted by its path alone.
    in_fstab: bool = False


@dataclass(frozen=True)
class Client:
    """CernVM-FS's client that shows a repository."""

    repository: str
    #: Where its cache is.
    cache: str
    #: Whether it moves what it has fetched within one directory.
    one_directory: bool = False
    #: Graphroots, of whoever runs this, that are on the cache's file system.
    own: tuple[str, ...] = ()
    #: Such graphroots of other users.
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class User:
    """Who runs podman."""

    uid: int = 0
    name: str = "root"
    #: How many subordinate IDs the user has; None where a directory service knows.
    subuids: int | None = None
    subgids: int | None = None
    #: Whether there are subordinate IDs for containers of root in automatic user namespaces.
    auto_ids: bool = True
    #: newuidmap and newgidmap, if they are missing or lack the right to map.
    bad_programs: tuple[str, ...] = ()
    #: Whether users may make user namespaces.
    namespaces: bool = True
    #: No user has subordinate IDs from this one on.
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
class ImagePolicy:
    """podman's policy.json, of which podman reads the one at ``path``."""

    path: str = ""
    #: Why it can't be read, and what helps.
    problem: str = ""
    hint: str = ""
    #: Images of the store that it rejects -> the rule.
    rejected: Mapping[str, str] = field(default_factory=dict)
    #: Images of the store for which it demands a signature, if the settings heed that -> the rule.
    unsigned: Mapping[str, str] = field(default_factory=dict)
    #: The same rules for all images that it doesn't name; "" for no such rule.
    rejects_others: str = ""
    mistrusts_others: str = ""
    #: The file of our settings in which ``signatures`` is set, or could be.
    settings_file: str = "/etc/podman-cvmfs/config.toml"


@dataclass(frozen=True)
class BlobSource:
    """A blob source of our settings."""

    place: str
    #: Why it doesn't answer.
    problem: str = ""
    #: Digests under which it has other bytes.
    wrong: tuple[str, ...] = ()


@dataclass(frozen=True)
class Facts:
    """Everything."""

    #: The examined store.
    store: Place
    #: Whether podman's configuration names it.
    is_configured: bool = True
    user: User = field(default_factory=User)
    now: int = 0
    engine: Engine = field(default_factory=Engine)
    configuration: Configuration = field(default_factory=Configuration)
    native: Native = field(default_factory=Native)
    contents: Contents = field(default_factory=Contents)
    #: The other additional stores that podman's configuration names.
    others: tuple[Place, ...] = ()
    repositories: tuple[Repository, ...] = ()
    clients: tuple[Client, ...] = ()
    targets: Targets = field(default_factory=Targets)
    disks: tuple[Disk, ...] = ()
    units: Units = field(default_factory=Units)
    registries: Registries = field(default_factory=Registries)
    policy: ImagePolicy = field(default_factory=ImagePolicy)
    blob_sources: tuple[BlobSource, ...] = ()
    #: A line for each user of this machine whose podman doesn't look into our store, although
    #: ``named_by`` name it to all.
    unreached: tuple[str, ...] = ()
    #: The files that name our store to ordinary users.
    named_by: tuple[str, ...] = ()
    #: Services whose own options replace podman's, so that they don't use our store.
    services: tuple[Service, ...] = ()
    #: Whether the settings ask for sharing.
    shared: bool = False
    #: Whether the next sync opens the store to all users.
    wants_shared: bool = False
    #: Whether podman itself runs inside a container.
    in_container: bool = False
    #: Whether CernVM-FS's client is installed.
    has_cvmfs: bool = False
    #: ``overlay`` of our settings, and the file where it is set, or could be.
    wanted_overlay: str = "kernel"
    settings_file: str = "/etc/podman-cvmfs/config.toml"
    #: ``offline`` of our settings.
    offline: bool = False
    #: The options of the command line with which a sync finds the same places.
    given: tuple[str, ...] = ()
    #: Why a sync refuses a wish list -> the cure.
    bad_wish_lists: Mapping[str, str] = field(default_factory=dict)
    #: Users' images and containers that show one layer as their whole root.
    broken: BrokenUsers = field(default_factory=BrokenUsers)
    #: Warnings about our settings.
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
