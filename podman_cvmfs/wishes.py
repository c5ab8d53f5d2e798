# SPDX-License-Identifier: Apache-2.0
"""What a sync is asked for, and what it reports. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from podman_cvmfs.blobcache import BlobCache
from podman_cvmfs.errors import PodmanCvmfsError
from podman_cvmfs.platforms import Platform
from podman_cvmfs.policy import DEFAULT_POLICY, Policy
from podman_cvmfs.registry.access import RegistrySource
from podman_cvmfs.retirement import GRACE
from podman_cvmfs.selection import Selection
from podman_cvmfs.store.store import Store


@dataclass(frozen=True)
class Wishes:
    """What to bring into which store.

    ``repositories`` are directories in order of preference: of two images with one name the first
    wins. With ``requested`` names only these are added; else the store shall hold just what
    ``selection`` wants, as far as it runs on ``platform``. ``registry`` makes the client asked for
    configs that are nowhere else, None leaves registries out. ``hide_outage`` takes the images of a
    repository that can't be read out of the store until it can, so that podman pulls them. What
    leaves the store stays usable for ``grace`` seconds.
    """

    repositories: Sequence[str]
    store: Store
    cache: BlobCache
    registry: Callable[[], RegistrySource] | None = None
    requested: Sequence[str] = ()
    selection: Selection = field(default_factory=Selection)
    platform: Platform = field(default_factory=Platform.of_host)
    policy: Policy = DEFAULT_POLICY
    hide_outage: bool = False
    grace: int = GRACE


@dataclass
class SyncReport:
    """What a sync did. Names are podman's; ``failed`` maps what couldn't be done to why,
    ``left_out`` what was wished for but is there for another architecture only to which.
    ``silent`` maps registries that left a question unanswered to why, ``waiting`` to the names of
    images whose config or manifest is made up because of that. ``found`` maps the names that were
    requested to the names under which repositories have them.

    ``notices`` say what users should know of the repositories although nothing failed, ``warnings``
    what should be done about the store.
    ``next_due`` is the time (seconds since 1970) at which something is to be done even if nothing
    changes, None if never.
    """

    added: Sequence[str] = ()
    removed: Sequence[str] = ()
    moved: Sequence[str] = ()
    images: int = 0
    synthesised: int = 0
    changed: bool = False
    failed: dict[str, PodmanCvmfsError] = field(default_factory=dict)
    left_out: dict[str, PodmanCvmfsError] = field(default_factory=dict)
    silent: Mapping[str, str] = field(default_factory=dict)
    waiting: dict[str, list[str]] = field(default_factory=dict)
    found: dict[str, str] = field(default_factory=dict)
    notices: Sequence[str] = ()
    warnings: Sequence[str] = ()
    next_due: int | None = None
