# SPDX-License-Identifier: Apache-2.0
"""The request to a sync. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.lists.maker import ListMaker
from podman_cvmfs.oci.platform import Platform
from podman_cvmfs.plan.retirement import GRACE
from podman_cvmfs.registry.access import RegistrySource
from podman_cvmfs.settings.policy import DEFAULT_POLICY, Policy, Reuse
from podman_cvmfs.store.store import Store
from podman_cvmfs.sync.selection import Selection


@dataclass(frozen=True)
class SyncRequest:
    """The images to bring into a store, and how."""

    #: Directories in order of preference: of two images with one name the first wins.
    repositories: Sequence[str]
    store: Store
    cache: BlobCache
    #: Makes the client for documents that are nowhere else; None if no registry may be asked.
    registry: Callable[[], RegistrySource] | None = None
    #: Names to add. If empty, the store gets exactly the images that ``selection`` wants.
    requested: Sequence[str] = ()
    selection: Selection = field(default_factory=Selection)
    #: The platform that images must run on.
    platform: Platform = field(default_factory=Platform.of_host)
    #: How images are laid out.
    policy: Policy = DEFAULT_POLICY
    #: Makes file lists of layers that have none, and finds markers by catalogues.
    maker: ListMaker | None = None
    #: Why the exact view, if it is asked for, can't be given here; "" if it can.
    not_exact: str = ""
    #: The repositories whose layers other images may use; None: those that ``policy`` tells.
    trusted: Collection[str] | None = None
    #: Whether the settings name the trusted repositories.
    names_trusted: bool = False
    #: The repositories whose files are a stranger's for the store's writer. Some are closed to him,
    #: so pulls find no layer of theirs: podman couldn't read it again, as a commit does.
    strangers: Collection[str] = ()
    #: Whether the images of a repository that can't be read leave the store until it can be read,
    #: so that podman pulls them.
    hide_outage: bool = False
    #: How many seconds the layers of an image stay after it has left the store.
    grace: int = GRACE
    #: Patterns of graphroots in which to look for users of layers.
    graphroots: Sequence[str] = ()

    def policy_of(self, repository: str) -> Policy:
        """How images of ``repository`` are laid out."""
        if repository in self.strangers:
            return replace(self.policy, reuse=Reuse.NONE)
        if self.trusted is None:
            return self.policy.of(repository)
        return replace(self.policy, reuse_from=tuple(self.trusted)).of(repository)
