# SPDX-License-Identifier: Apache-2.0
"""What a sync is asked for. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.oci.platform import Platform
from podman_cvmfs.plan.retirement import GRACE
from podman_cvmfs.registry.access import RegistrySource
from podman_cvmfs.settings.policy import DEFAULT_POLICY, Policy
from podman_cvmfs.store.store import Store
from podman_cvmfs.sync.selection import Selection


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
