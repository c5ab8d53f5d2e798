# SPDX-License-Identifier: Apache-2.0
"""Examine the targets of a store's layers: whether the repositories and the files are there.

The only part of the examination that reads repositories; it asks once for each piece.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping

from podman_cvmfs.errors import RepositoryError
from podman_cvmfs.podman.pause import RESTART, is_hidden, pause_root
from podman_cvmfs.repository.readers import Readers
from podman_cvmfs.repository.served import NoAnswerError, ServedTree, health_of, lies_on_fuse
from podman_cvmfs.repository.tree import LinkedError, Tree
from podman_cvmfs.settings.advice import on_store, repair_of
from podman_cvmfs.store import layout
from podman_cvmfs.store.records import Metadata, Piece, StoreContent, StoredLayer, files_of_part
from podman_cvmfs.verify.fault import Kind
from podman_cvmfs.verify.inspection import Inspection
from podman_cvmfs.verify.pieces import TARGET

_NOT_KNOWN = "doesn't answer"
_GONE = ("is gone", "is not a directory", "is reached over a symbolic link")


def check_targets(
    look: Inspection, content: StoreContent, pieces: Mapping[str, Piece]
) -> frozenset[str]:
    """Examine the links into repositories of the ``pieces`` that layers of ``content`` mount.

    A repository that can't be read at all is one warning: it may come back. Missing files of a
    layer that no image needs any more are a warning, too. Returns the IDs of layers whose files are
    gone or are in another repository.
    """
    known = {image.repository for image in content.images.values()}
    known |= {layer.repository for layer in content.layers.values() if layer.repository}
    down = {root: _why_down(root) for root in sorted(known)}
    trees: dict[str, Tree] = {}
    users: dict[str, list[StoredLayer]] = {}
    for layer in content.layers.values():
        for piece_id in layer.lowers or ():
            users.setdefault(piece_id, []).append(layer)
    links: list[tuple[str, str, Tree, str]] = []
    gone: set[str] = set()
    for piece_id, piece in pieces.items():
        target = files_of_part(piece.part)
        if target is None:
            continue
        name = layout.FILES if isinstance(piece.part, Metadata) else "diff"
        place = f"{layout.POOL_LAYERS}/{piece.entry}/{name}"
        match = TARGET.match(target)
        root = match["root"] if match else None
        if root not in known and any(layer.retired is None for layer in users.get(piece_id, ())):
            look.error(
                place,
                f"leads to {target!r}, which is in no repository of the images",
                kind=Kind.FILES_GONE,
            )
            gone.update(layer.layer_id for layer in users[piece_id])
        if root is None or os.path.normpath(target) != target:
            continue
        if root not in down:
            down[root] = _why_down(root)
        if down[root] is None:
            tree = trees.get(root) or trees.setdefault(root, _tree(root))
            links.append((piece_id, place, tree, target[len(root) + 1 :]))
    for root, why in sorted(down.items()):
        if why is not None:
            what = f"the repository {why}: its files aren't checked"
            look.warning(Kind.UNCHECKED, root, what, "mount it")
    unanswered: set[str] = set()
    readers = Readers(is_slow=any(health_of(tree) is not None for tree in trees.values()))
    answers = readers.map(_why_missing, [link[2:] for link in links])
    for (piece_id, place, tree, path), why in zip(links, answers):
        if why is None:
            continue
        if why == _NOT_KNOWN:
            unanswered.add(tree.root)
            continue
        layers = users.get(piece_id, [])
        if why in _GONE:
            gone.update(layer.layer_id for layer in layers)
        if all(layer.retired is not None for layer in layers):
            what = f"leads to {tree.path(path)}, which {why}; no image needs it"
            look.warning(Kind.FILES_GONE, place, what, "nothing: it leaves the store in time")
        else:
            what = f"leads to {tree.path(path)}, which {why}"
            look.error(place, what, _sync(look.store), Kind.FILES_GONE)
    for root in sorted(unanswered):
        what = "the repository doesn't answer: not all its files are checked"
        look.warning(Kind.UNCHECKED, root, what, "check network, proxy and server")
    _check_podmans_view(look, trees.values(), links)
    return frozenset(gone)


def _check_podmans_view(
    look: Inspection, trees: Iterable[Tree], links: Iterable[tuple[str, str, Tree, str]]
) -> None:
    """Note repositories that are mounted, and not where rootless podman mounts containers."""
    pause = pause_root()
    for tree in trees:
        paths = (tree.path(path) for _, _, each, path in links if each is tree)
        if pause is not None and is_hidden(next(paths, tree.root), pause):
            what = "podman's pause process started before the mount and doesn't see it"
            look.error(tree.root, what, RESTART, Kind.FILES_UNSEEN)


def _sync(store: str) -> str:
    return f"{on_store(store, 'sync')}; if that doesn't help, {repair_of(store)}"


def _why_down(root: str) -> str | None:
    """Why a repository can't be read; None if it can. An empty directory is an unmounted mount
    point."""
    try:
        return None if os.listdir(root) else "is empty"
    except OSError as err:
        return f"can't be read ({err.strerror})"


def _tree(root: str) -> Tree:
    return ServedTree(root) if lies_on_fuse(root) else Tree(root)


def _why_missing(place: tuple[Tree, str]) -> str | None:
    """Why there is no directory at a path in a repository; None if there is."""
    tree, path = place
    try:
        attributes = tree.lstat(path)
    except LinkedError:
        return _GONE[2]
    except NoAnswerError:
        return _NOT_KNOWN
    except RepositoryError as err:
        cause = err.__cause__
        why = cause.strerror if isinstance(cause, OSError) else err.message
        return f"can't be examined ({why})"
    if attributes is None:
        return _GONE[0]
    return None if stat.S_ISDIR(attributes.st_mode) else _GONE[1]
