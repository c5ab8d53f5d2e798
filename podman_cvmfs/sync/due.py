# SPDX-License-Identifier: Apache-2.0
"""When the next sync has something to do although nothing has changed. Pure: no I/O."""

from __future__ import annotations

from podman_cvmfs.plan.layers import refused_layers
from podman_cvmfs.plan.retirement import NEVER
from podman_cvmfs.store.records import StoreContent
from podman_cvmfs.sync.request import SyncRequest

#: After so many seconds layers in use beyond their grace are looked at again.
_LOOK_AGAIN = 24 * 3600


def next_due(content: StoreContent, request: SyncRequest, now: int) -> int | None:
    """The time when the first retired layer is past its grace; for layers still in use, the time to
    look again. Each sync looks at layers that pulls may not use."""
    if request.grace != NEVER and refused_layers(content, request.policy_of):
        return now
    times = [layer.retired for layer in content.layers.values() if layer.retired is not None]
    times.extend(content.retired_entries.values())
    dues = [since + request.grace for since in times]
    return min(due if due > now else now + _LOOK_AGAIN for due in dues) if dues else None
