# SPDX-License-Identifier: Apache-2.0
"""Which repositories a sync trusts with the layers of other images. Pure: no I/O."""

from __future__ import annotations

from dataclasses import replace

from podman_cvmfs.settings.policy import Policy
from podman_cvmfs.store.records import StoreContent
from podman_cvmfs.sync.request import SyncRequest


def with_trust_of(current: StoreContent, request: SyncRequest) -> SyncRequest:
    """``request`` for a sync that only adds images to ``current``.

    Such a sync may name other repositories than the store was made of. Nobody has said that these
    are trusted, nor that the former ones are trusted no more. So the store keeps its trust, unless
    the settings name the trusted repositories.
    """
    former = Policy.parse(current.policy)
    if request.names_trusted or former is None:
        return request
    trusted = former.reuse_from
    if trusted is None:
        # The only repository was trusted. Layers that pulls may find are from it.
        trusted = tuple(
            {
                layer.repository: None
                for layer in current.layers.values()
                if layer.shows is None and layer.repository
            }
        )
    policy = replace(request.policy, reuse_from=former.reuse_from)
    return replace(request, policy=policy, trusted=trusted)
