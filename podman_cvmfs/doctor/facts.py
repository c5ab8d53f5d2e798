# SPDX-License-Identifier: Apache-2.0
"""The facts about a machine that matter to podman and our store. Frozen dataclasses, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from podman_cvmfs.doctor.engine_facts import Configuration as Configuration
from podman_cvmfs.doctor.engine_facts import Crio as Crio
from podman_cvmfs.doctor.engine_facts import Engine as Engine
from podman_cvmfs.doctor.engine_facts import Native as Native
from podman_cvmfs.podman.services import Service
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
    #: How many images are shown exactly.
    exact: int = 0
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
    #: A repository whose client tells of trouble -> names whose files can't be fetched.
    unread: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Repository:
    """An unpacked repository."""

    path: str
    presence: Presence = Presence.THERE
    #: Why it can't be read.
    problem: str = ""
    #: Whether the program that serves it has gone.
    is_dead: bool = False
    #: Why its client may fail to fetch files, by its own words.
    trouble: str = ""
    #: Whether the client is known to work without its server.
    is_offline: bool = False
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
    crio: Crio = field(default_factory=Crio)
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
    #: Why podman here can't be given the exact view; "" if it can, or the store doesn't use it.
    not_exact: str = ""
    #: Names of this user's containers and images on exact layers that the store shows no more.
    left_exact: tuple[str, ...] = ()
    settings_file: str = "/etc/podman-cvmfs/config.toml"
    #: ``offline`` of our settings.
    offline: bool = False
    #: The options of the command line with which a sync finds the same places.
    given: tuple[str, ...] = ()
    #: Why a sync refuses a wish list -> the cure.
    bad_wish_lists: Mapping[str, str] = field(default_factory=dict)
    #: Users' images and containers that show one layer as their whole root.
    broken: BrokenUsers = field(default_factory=BrokenUsers)
    #: Names of this user's images that stand on our store's layers.
    standing: tuple[str, ...] = ()
    #: Running containers of this user whose root file system answers nothing.
    stuck: tuple[str, ...] = ()
    #: Warnings about our settings.
    warnings: tuple[str, ...] = ()

    @property
    def is_root(self) -> bool:
        """Whether podman runs as root."""
        return self.user.uid == 0

    @property
    def lacks_podman(self) -> bool:
        """Whether this is a machine with CRI-O and without podman."""
        return self.engine.is_missing and self.crio.is_there

    @property
    def is_own(self) -> bool:
        """Whether our store belongs to this user."""
        return self.store.owner in (None, self.user.uid)

    @property
    def away(self) -> str:
        """A repository of the settings that can't be read now; "" if all can."""
        for each in self.repositories:
            is_there = each.presence is Presence.THERE and not (each.empty or each.problem)
            if each.wished and not (is_there and not self.targets.unread.get(each.path)):
                return each.path
        return ""

    @property
    def stores(self) -> tuple[str, ...]:
        """The additional stores that podman looks into, in order."""
        return self.configuration.effective.stores
