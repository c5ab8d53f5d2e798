# SPDX-License-Identifier: Apache-2.0
"""Finds the layers that must stay in a store because a container or an image of a user needs
them."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from podman_cvmfs.errors import printable
from podman_cvmfs.plan.retirement import GRACE, NEVER, Retention
from podman_cvmfs.store.records import StoreContent, chain_of

if TYPE_CHECKING:
    from podman_cvmfs.usage.layer_users import LayerUsers, User

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Needs:
    """The needed layers: layer ID -> its users, with all layers below.

    ``blocked_by`` are unreadable files and graphroots of the caller, or named by the caller:
    because of them everything stays. Other users' unreadable graphroots are only reported
    (``unreadable``). Otherwise one broken file of any user would keep a site's store growing.
    ``keeps_all``: everything stays because of the settings.
    """

    users: Mapping[str, tuple[User, ...]] = field(default_factory=dict)
    graphroots: tuple[str, ...] = ()
    blocked_by: tuple[str, ...] = ()
    unreadable: Mapping[str, str] = field(default_factory=dict)
    keeps_all: bool = False

    def layers(self, content: StoreContent) -> Collection[str]:
        """The IDs of the layers of ``content`` that must stay."""
        everything = self.keeps_all or self.blocked_by
        return content.layers.keys() if everything else self.users.keys()

    def obstacles(self) -> list[str]:
        """The messages about ``blocked_by``."""
        return [
            f"nothing is removed from the store while {printable(path)} can't be read: "
            f"{self.unreadable[path]}"
            for path in self.blocked_by
        ]


def find_needs(
    content: StoreContent,
    grace: int = GRACE,
    graphroots: Sequence[str] = (),
    patterns: Sequence[str] = (),
) -> Needs:
    """Look for users of the layers of ``content`` in all visible graphroots, in those that the
    settings' ``patterns`` mean, and in the named ones. Raises InputError if one of the named ones
    isn't there. If ``grace`` is NEVER, all layers are needed."""
    # Most syncs ask for no users, and the parser of storage.conf takes long to load.
    from podman_cvmfs.usage.graphroots import find_graphroots
    from podman_cvmfs.usage.layer_users import find_layer_users

    places = find_graphroots(graphroots, patterns=patterns)
    searched = (*places.own, *places.others)
    uses = find_layer_users(content, searched)
    return Needs(
        users=_down_to_bases(content, uses),
        graphroots=searched,
        blocked_by=tuple(sorted({*places.own_unseen, *(uses.unreadable.keys() & set(places.own))})),
        unreadable={**places.unseen, **uses.unreadable},
        keeps_all=grace == NEVER,
    )


def needed_layers(
    content: StoreContent, now: int, grace: int = GRACE, patterns: Sequence[str] = ()
) -> Collection[str]:
    """The layers of ``content`` that a sync at the time ``now`` must keep for their users, in all
    visible graphroots and in those that the settings' ``patterns`` mean.

    While everything retired is within ``grace`` (seconds), the answer is empty without a search.
    """
    retired = [layer.retired for layer in content.layers.values() if layer.retired is not None]
    retired.extend(content.retired_entries.values())
    retention = Retention(now, grace)
    if grace > 0 and all(map(retention.has_grace, retired)):
        return ()
    needs = find_needs(content, grace, patterns=patterns)
    for obstacle in needs.obstacles():
        log.warning("%s", obstacle)
    return needs.layers(content)


def _down_to_bases(content: StoreContent, uses: LayerUsers) -> dict[str, tuple[User, ...]]:
    found: dict[str, set[User]] = {}
    for layer_id, users in uses.layers.items():
        chain = [layer.layer_id for layer in chain_of(content, layer_id)]
        for each in {layer_id, *chain}:
            found.setdefault(each, set()).update(users)
    return {layer_id: tuple(sorted(users)) for layer_id, users in found.items()}
