# SPDX-License-Identifier: Apache-2.0
"""Make the skeletons of images, as far as the store's writer, its readers and the mount allow."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from podman_cvmfs.oci.documents import ImageConfig
from podman_cvmfs.repository.owners import is_a_strangers
from podman_cvmfs.repository.served import lies_on_fuse
from podman_cvmfs.repository.tree import Tree
from podman_cvmfs.resolve.shown import ShownRoot
from podman_cvmfs.resolve.skeleton import Skeleton, Terms, skeleton_of
from podman_cvmfs.settings.policy import Overlay, Policy


class Skeletons:
    """Makes the skeletons of images in the repository at ``tree``, for a store under ``policy``."""

    def __init__(self, tree: Tree, policy: Policy) -> None:
        self._policy = policy
        # A plain directory needs no server's answer.
        self._is_served = policy.shared and lies_on_fuse(tree.root)

    def of_merged(self, tree: Tree, lost_sticky: Sequence[str], config: ImageConfig) -> Skeleton:
        """The skeleton above the merged root at ``tree``, in which the directories ``lost_sticky``
        have lost their sticky bits."""
        # Merging changes the times of directories anyway. Without times, thousands of images share
        # a skeleton.
        roots = [ShownRoot(tree)]
        return self._made(roots, config, lost_sticky=lost_sticky, dated=False)

    def of_layers(self, roots: Sequence[ShownRoot], config: ImageConfig | None = None) -> Skeleton:
        """The skeleton above layers, topmost first; of an image, or of layers by themselves."""
        unread = {path for each in roots for path in each.markers.unread}
        return self._made(roots, config, unread=sorted(unread))

    def givable(self, tree: Tree) -> frozenset[int] | None:
        """The user IDs to which the local directories of an image shown by ``tree`` may be given;
        None for all. In a shared store that is only a user who can change the files anyway."""
        if os.geteuid() != 0:
            return frozenset()
        if not self._policy.shared:
            return None
        return frozenset() if self._is_served else frozenset(_user_of(tree))

    def _made(
        self, roots: Sequence[ShownRoot], config: ImageConfig | None, **more: Any
    ) -> Skeleton:
        if not roots:
            return Skeleton()
        tree = roots[0].tree
        terms = Terms(
            uid=os.geteuid(),
            shared=self._policy.shared,
            stranger=is_a_strangers(tree),
            mounts=self._policy.mounts,
        )
        if self._policy.overlay is Overlay.FUSE and not terms.stranger:
            # It copies up without that lock. So only the bits that the repository has lost are
            # restored.
            return skeleton_of(roots, replace(terms, mounts=()), wanted=(), **more)
        if terms.shared and not self._is_served and _user_of(tree):
            # Rootless podman starts on its user's own files, and not on directories of others.
            return Skeleton()
        return skeleton_of(roots, terms, config, **more)


def _user_of(tree: Tree) -> tuple[int, ...]:
    """The user to whom the root of ``tree`` belongs, if that is neither root nor the writer."""
    owner = tree.lstat("")
    is_theirs = owner is not None and owner.st_uid not in (0, os.geteuid())
    return (owner.st_uid,) if owner is not None and is_theirs else ()
