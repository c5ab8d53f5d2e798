# SPDX-License-Identifier: Apache-2.0
"""Repair a store: keep correct parts, write wrong ones anew, and sync lost ones.

A sync writes the store into the next generation as usual. Before that, wrong entries of the pool
are replaced under their names, each by one exchange. So a reader of the store finds either the
wrong entry or the right one.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.lists.known import KnownLists
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.resolve.manifest import GENUINE
from podman_cvmfs.settings.policy import Policy
from podman_cvmfs.store import layout
from podman_cvmfs.store.entries import (
    remove_entry,
    write_image_entry,
    write_layer_entry,
    write_piece_entry,
)
from podman_cvmfs.store.records import ImageFiles, LayerDirectory, Piece, StoreContent
from podman_cvmfs.store.store import Store
from podman_cvmfs.store.strangers import clean_pool
from podman_cvmfs.sync.report import SyncReport
from podman_cvmfs.sync.request import SyncRequest
from podman_cvmfs.sync.run import sync
from podman_cvmfs.verify.salvage import Salvage, good_configs, salvage
from podman_cvmfs.verify.store import Verdict

_AT_FDCWD = -100
#: Linux ``linux/fs.h``.
_RENAME_EXCHANGE = 2


def repair(verdict: Verdict, request: SyncRequest) -> SyncReport:
    """Repair the store of ``request``, whose faults are in ``verdict``; return the sync's report.

    Lost parts come from the repositories of ``request``, under the store's policy. Without a record
    of its content, the store gets the images that ``request`` selects. A lost image that no
    repository has leaves the store. Raises RepositoryError if something is lost and no repository
    can be read, StoreError.
    """
    request.store.require_own()
    path = request.store.path
    saved = salvage(path, verdict)
    _keep_documents(path, verdict, saved, request.cache)
    store = _MendedStore(path, saved, request.store.lists)
    if saved.lost == ():
        with store.opened() as content:
            store.replace(content, (), ())
        return SyncReport(images=len(content.images), changed=True)
    return sync(
        replace(
            request,
            store=store,
            requested=saved.lost or (),
            policy=_policy(saved, request),
            hide_outage=False,
        )
    )


def _policy(saved: Salvage, request: SyncRequest) -> Policy:
    """The policy for lost parts: the store's, as far as it is known."""
    former = saved.policy
    if former is None:
        return request.policy
    if former.is_written:
        return former
    # In earlier versions every store was open to all users. That was not the user's decision.
    return replace(request.policy, view=former.view, reuse=former.reuse, overlay=former.overlay)


def _keep_documents(store: str, verdict: Verdict, saved: Salvage, cache: BlobCache) -> None:
    """Keep configs and manifests of lost images for their return: the registry may be down."""
    for config in good_configs(store, verdict.documents, saved.content):
        cache.put(config)
    for image_id, files in verdict.images.items():
        image = verdict.documents.content.images[image_id]
        if image_id not in saved.content.images and image.manifest_origin == GENUINE:
            cache.keep_manifests(Digest(image_id), files.manifest, files.index)


class _MendedStore(Store):
    """The store at ``path``, with the content ``saved`` instead of its own."""

    def __init__(self, path: str, saved: Salvage, lists: KnownLists) -> None:
        super().__init__(path, lambda path: self._saved_content, lists)
        self._saved = saved
        self._saved_content = saved.content

    @contextlib.contextmanager
    def opened(self) -> Iterator[StoreContent]:
        """Lock the store and yield its saved content. Raises StoreError, InputError."""
        self.require_own()
        try:
            if os.path.isdir(self.path):
                _mend_locks(self.path)
        except OSError as err:
            raise self.write_error(err) from err
        with super().opened() as content:
            # Only under the lock against other syncs.
            _mend_top(self.path, self._saved.policy)
            clean_pool(f"{self.path}/{layout.POOL_LAYERS}", seize=False)
            yield content

    def replace(
        self,
        content: StoreContent,
        layers: Iterable[LayerDirectory],
        images: Iterable[ImageFiles],
        pieces: Iterable[Piece] = (),
        *,
        anew: bool = True,
    ) -> bool:
        """Make ``content`` what the store holds, as the next generation."""
        known_layers = {**self._saved.layers, **{layer.entry: layer for layer in layers}}
        known_pieces = {**self._saved.pieces, **{piece.entry: piece for piece in pieces}}
        known_images = {**self._saved.images, **{image.entry: image for image in images}}
        kept = {each for each in content.retired_entries if layout.piece_of_entry(each)}
        wrong = (content.entries() | kept) - self._saved.sound
        try:
            for entry in sorted(wrong & known_pieces.keys()):
                write = functools.partial(
                    write_piece_entry, piece=known_pieces[entry], lists=self.lists.entries
                )
                _put(f"{self.path}/{layout.POOL_LAYERS}/{entry}", write)
            for entry in sorted(wrong & known_layers.keys()):
                write = functools.partial(
                    write_layer_entry,
                    layer=known_layers[entry],
                    tar_splits=self.lists.tar_split,
                )
                _put(f"{self.path}/{layout.POOL_LAYERS}/{entry}", write)
            for entry in sorted(wrong & known_images.keys()):
                write = functools.partial(write_image_entry, image=known_images[entry])
                _put(f"{self.path}/{layout.POOL_IMAGES}/{entry}", write)
        except OSError as err:
            raise self.write_error(err) from err
        # New entries must not be removed before the new generation uses them.
        retired = {**self._saved.content.retired_entries, **dict.fromkeys(wrong, 0)}
        self._saved_content = replace(self._saved.content, retired_entries=retired)
        return super().replace(content, (), (), anew=anew)


def _put(place: str, write: Callable[[str], None]) -> None:
    """Put the output of ``write`` at ``place``, whatever is there. Raises OSError."""
    new = f"{place}.new"
    _remove(new)
    try:
        write(new)
        _exchange(new, place)
    finally:
        # The wrong entry, or an unfinished one.
        _remove(new)


def _exchange(new: str, place: str) -> None:
    if not os.path.lexists(place):
        os.rename(new, place)
        return
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        one, other = os.fsencode(new), os.fsencode(place)
        if libc.renameat2(_AT_FDCWD, one, _AT_FDCWD, other, _RENAME_EXCHANGE) == 0:
            return
    except AttributeError:  # a C library without it
        pass
    # This file system can't exchange. For a moment there is no entry, which is no worse than a
    # wrong one.
    _remove(place)
    os.rename(new, place)


def _remove(path: str) -> None:
    """Remove whatever is at ``path``, if anything. Raises OSError."""
    if os.path.lexists(path):
        remove_entry(path)


def _mend_locks(store: str) -> None:
    """Remove other things in the places of directories and lock files. Raises OSError."""
    owner = os.lstat(store).st_uid
    for name in layout.DIRECTORIES:
        path = f"{store}/{name}"
        if not os.path.lexists(path):
            continue
        if os.path.islink(path) or not os.path.isdir(path):
            os.unlink(path)
        else:
            # From then on nobody else can exchange what is in it.
            _set_right(path, 0o755, owner)
    for name in (*layout.LOCK_FILES, layout.SYNC_LOCK):
        path = f"{store}/{layout.LOCKS}/{name}"
        if os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
            _remove(path)


def _mend_top(store: str, policy: Policy | None) -> None:
    """Set links, modes and owners right outside of generations and entries. A store stays open to
    all users if its ``policy`` is unknown or of an earlier version. Raises OSError."""
    attributes = os.lstat(store)
    owner = attributes.st_uid
    is_open = stat.S_IMODE(attributes.st_mode) & ~stat.S_ISGID == layout.OPEN
    is_shared = policy.shared if policy is not None and policy.is_written else is_open
    _set_right(store, layout.OPEN if is_shared else layout.CLOSED, owner)
    for name in os.listdir(f"{store}/{layout.LOCKS}"):
        if name in {*layout.LOCK_FILES, layout.SYNC_LOCK}:
            mode = layout.SYNC_LOCK_MODE if name == layout.SYNC_LOCK else 0o644
            _set_right(f"{store}/{layout.LOCKS}/{name}", mode, owner)
    # In the way of what sweeps these directories.
    for name in (layout.GENERATIONS, layout.POOL_LAYERS, layout.POOL_IMAGES):
        for entry in os.listdir(f"{store}/{name}"):
            if name == layout.GENERATIONS and not entry.isdecimal():
                continue
            if not stat.S_ISDIR(os.lstat(f"{store}/{name}/{entry}").st_mode):
                os.unlink(f"{store}/{name}/{entry}")
    for name in layout.PUBLIC:
        path, target = f"{store}/{name}", f"{layout.CURRENT}/{name}"
        is_wrong_link = os.path.islink(path) and os.readlink(path) != target
        if is_wrong_link or (os.path.lexists(path) and not os.path.isdir(path)):
            new = f"{store}/{layout.CURRENT}.new"
            _remove(new)
            os.symlink(target, new)
            os.rename(new, path)
    current = f"{store}/{layout.CURRENT}"
    with contextlib.suppress(FileNotFoundError):
        if not os.path.islink(current) or not os.readlink(current).startswith(layout.GENERATIONS):
            _remove(current)


def _set_right(path: str, mode: int, owner: int) -> None:
    attributes = os.lstat(path)
    if attributes.st_uid != owner:
        os.chown(path, owner, -1, follow_symlinks=False)
    if stat.S_IMODE(attributes.st_mode) & ~stat.S_ISGID != mode:
        os.chmod(path, mode)
