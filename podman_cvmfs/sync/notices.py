# SPDX-License-Identifier: Apache-2.0
"""What users are told of repositories, and of who uses what, besides what was done."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from podman_cvmfs.errors import printable
from podman_cvmfs.plan.retirement import is_retired
from podman_cvmfs.podman.composefs import NAIVE_DIFF_OFF
from podman_cvmfs.repository.owners import ids_of
from podman_cvmfs.repository.protocol import AnyRepository
from podman_cvmfs.settings.policy import Overlay, Reuse, View
from podman_cvmfs.store.records import StoreContent
from podman_cvmfs.store.strangers import Stranger
from podman_cvmfs.sync.request import SyncRequest
from podman_cvmfs.usage.layer_users import User
from podman_cvmfs.usage.needs import Needs

#: So many users, or files, are named.
_SHOWN = 5


def planted(strangers: Sequence[Stranger]) -> Iterator[str]:
    """What was removed of what others had put into the store."""
    for each in strangers[:_SHOWN]:
        yield (
            f"removed {printable(each.path)}, a file of user {each.uid}: containers showed it, and "
            "no sync had put it there"
        )
    if len(strangers) > _SHOWN:
        yield f"removed {len(strangers) - _SHOWN} more files that no sync had put into the store"


def kept(content: StoreContent, needs: Needs, hidden: Sequence[str]) -> Iterator[str]:
    """Who keeps layers of ``hidden`` repositories in the store, and what that means: podman finds a
    layer by its ID, though no image has it, and asks no registry for it."""
    for root in hidden:
        layers = [layer for layer in content.layers.values() if layer.repository == root]
        found = {user for layer in layers for user in needs.users.get(layer.layer_id, ())}
        if not found:
            continue
        yield (
            f"layers of {printable(root)} stay in the store, and pulls of images with these layers "
            f"fail until it is back, because {_some(found)} stand on them (remove these containers "
            "and images, and sync again)"
        )


def still_found(content: StoreContent, needs: Needs, refused: set[str]) -> Iterator[str]:
    """Who keeps layers in the store that pulls may not use, by their IDs: ``refused``. podman looks
    for a layer by its ID, and a store can't have one for some users alone."""
    held = refused & content.layers.keys()
    users = {user for layer in held for user in needs.users.get(layer, ())}
    if users:
        yield (
            "pulls and builds still find layers of the store that they may not use, because "
            f"{_some(users)} stand on them (remove these containers and images, and sync again)"
        )


def _some(users: Iterable[User]) -> str:
    texts = [str(user) for user in sorted(users)]
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return f"{', '.join(texts[:_SHOWN])}{more}"


def owner_notices(repository: AnyRepository, request: SyncRequest) -> Iterator[str]:
    """What it means for containers that all files belong to one other user, or to one group that
    the user's namespace doesn't map."""
    ids = ids_of(repository.tree)
    if ids is None or (ids[0] == os.geteuid() and repository.root not in request.strangers):
        return
    owner = f"user {ids[0]}" if ids[0] != os.geteuid() else f"group {ids[1]}"
    owner = f"the files in {printable(repository.root)} belong to {owner}"
    if os.geteuid() == 0:
        yield (
            f"{owner}, also in containers; ordinary users need a store of their own "
            "(podman-cvmfs setup --user) or fuse-overlayfs"
        )
        return
    if request.policy.overlay is Overlay.KERNEL:
        yield (
            f"{owner}: containers can make and remove files in some directories only "
            "(to change all files: podman-cvmfs setup --user --overlay fuse-overlayfs)"
        )
    yield (
        f"{owner}, and you may not read all of them: before you build on an image, or commit a "
        "container of it, pull the image (podman pull IMAGE)"
    )


def place_notices(repository: AnyRepository) -> Iterator[str]:
    """Which directories of the repository aren't used, because no architecture has their name."""
    for place in repository.odd_places():
        where = printable(f"{repository.root}/{place}")
        yield f"{where} is not used: its name is not that of an architecture"


def exact_notices(content: StoreContent, request: SyncRequest) -> Iterator[str]:
    """Why images aren't shown exactly, although the settings ask for that."""
    if request.policy.view is not View.EXACT:
        return
    if request.not_exact:
        cure = "; run 'podman-cvmfs setup --exact'" if request.not_exact == NAIVE_DIFF_OFF else ""
        yield f"no image gets the exact view: {request.not_exact}{cure}"
        return
    shown = [image for image in content.images.values() if not is_retired(image)]
    others = sum(image.view != View.EXACT.value for image in shown)
    if others:
        yield (
            f"{others} of {len(shown)} images don't get the exact view: layers lack a file list "
            "(sync makes lists for images of wish lists, and for images that it is given by name)"
        )


def trust_notices(request: SyncRequest) -> Iterator[str]:
    """Whether pulls can use layers at all."""
    policy = request.policy
    if len(request.repositories) > 1 and policy.reuse_from == () and policy.reuse is not Reuse.NONE:
        yield (
            "pulls and builds use no layer of the store, since there are several repositories and "
            "the setting reuse_from names none (name those that you trust)"
        )
