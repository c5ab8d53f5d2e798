# SPDX-License-Identifier: Apache-2.0
"""Choose how an image's files are shown, and lay out its layers for that. Pure: no I/O.

There are three views. *flat* shows the image by the publisher's merged root. *layers* shows it by
the files of each of its layers. A layer with markers is mounted between two directories of the
store: the upper one hides the marker files, the lower one deletes what they name. *exact* shows
metadata of our own for each layer, made from its file list. Only the content of files is the
repository's.

In all views the image's top layer has an ID of its own, which no pull asks for. It mounts
everything that shows the image as *pieces* (see ``store.layout``). Topmost is the skeleton: local
directories in which containers make files when they start (see ``skeleton``). The exact view needs
no skeleton, because all its directories are local.

By the records, the base layer and stand-ins lie below the top layer. A stand-in is an empty layer
with an ID of its own, in the place of each other layer of the image. podman 5 needs them: it
refuses ``history`` for an image with fewer layers than its config names. Images on one base share
them.

In the exact view all layers may have tar-splits. Then each layer of the image has a record with its
genuine digests, and no stand-ins are needed: podman can push the image, and pulls get exactly what
they ask for.

Other layers are in the store for pulls only. Such a layer shows just its own files above its
parents. There are two reasons: containers/image may read it again and store the result under the
genuine digest without a check, and newer podman uses the real layer of the same ID instead once it
has it. Pulls find the base by its digests. They find other layers by their place in a chain, or by
the digests of their *twins*: the same layers without parents, which lose nothing when they are read
again.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from podman_cvmfs.errors import RepositoryError
from podman_cvmfs.plan.exact import exact_pieces, layers_with_tars
from podman_cvmfs.plan.shown_layer import (
    EMPTY,
    ROOT_MODE,
    Shown,
    compression_of,
    image_layer_id,
    stand_in,
)
from podman_cvmfs.repository.whiteouts import Markers, parents_of
from podman_cvmfs.resolve.image import Layer, ResolvedImage, can_be_pushed
from podman_cvmfs.resolve.skeleton import Skeleton
from podman_cvmfs.settings.policy import Overlay, Policy, Reuse, View
from podman_cvmfs.store.layout import link_name
from podman_cvmfs.store.records import (
    UNCOMPRESSED,
    LayerDirectory,
    Link,
    LocalPart,
    Node,
    Piece,
    StoredLayer,
)

#: The publisher's mark of a nested catalogue. No image has it by itself.
_CATALOGUE_MARK = ".cvmfscatalog"


@dataclass(frozen=True)
class ImageView:
    """How an image is shown. ``kind`` is flat, layers or exact. It has the image's layers, base
    first; the layers ``beside`` them in the store, for pulls; and the pieces that all these mount.
    """

    kind: View
    layers: tuple[Shown, ...]
    beside: tuple[Shown, ...] = ()
    pieces: tuple[Piece, ...] = ()


def view_of(image: ResolvedImage, policy: Policy) -> ImageView:
    """Lay out ``image``; RepositoryError if the repository can't show it correctly."""
    if not image.layers:
        return ImageView(View.LAYERS, ())
    return _Layout(image, policy).view()


class _Layout:
    """An image while it is laid out."""

    def __init__(self, image: ResolvedImage, policy: Policy) -> None:
        self._image = image
        self._policy = policy
        self._pieces: dict[str, Piece] = {}

    def view(self) -> ImageView:
        image = self._image
        kind = image.shown_by(self._policy)
        skeleton: Skeleton | None = image.skeleton
        if kind is View.EXACT:
            files, skeleton = exact_pieces(image.layers), None
        elif kind is View.FLAT:
            if image.flat is None:
                raise RepositoryError("the repository has no merged root for it")
            files = [_link_piece(image.flat.path)]
        else:
            self._check_complete()
            files = self._files(image.layers)
        if kind is View.EXACT and can_be_pushed(self._policy, image.layers):
            return self._pushable()
        genuine = self._genuine()
        layers = self._below(genuine[:1])
        lowers = self._lowers(skeleton, files)
        top = self._top(kind, lowers, layers[-1][0] if layers else None)
        if len(image.layers) == 1 and genuine and genuine[0][1].lowers == top[1].lowers:
            # The only layer is the whole image and looks the same, so it serves pulls as well.
            return self._made(kind, (genuine[0],), ())
        beside = genuine[:1] if len(image.layers) == 1 else genuine[1:]
        if beside:
            top = (replace(top[0], twin=genuine[-1][0].layer_id), top[1])
        return self._made(kind, (*layers, top), beside)

    def _pushable(self) -> ImageView:
        """The exact view with a record and a tar-split of each layer."""
        chain, top, pieces = layers_with_tars(self._image.layers, self._image.source_id.hex)
        self._pieces.update((piece.piece_id, piece) for piece in pieces)
        return self._made(View.EXACT, (*chain[:-1], top), chain[-1:])

    def _made(self, kind: View, layers: tuple[Shown, ...], beside: Sequence[Shown]) -> ImageView:
        used = {each for _, directory in (*layers, *beside) for each in directory.lowers}
        pieces = tuple(piece for key, piece in self._pieces.items() if key in used)
        return ImageView(kind, layers, tuple(beside), pieces)

    def _check_complete(self) -> None:
        missing = sum(layer.files is None for layer in self._image.layers)
        if missing:
            flat = "" if self._image.flat else "the repository has no merged root for it, and "
            count = len(self._image.layers)
            raise RepositoryError(f"{flat}{missing} of its {count} layers are missing")

    def _top(self, kind: View, lowers: tuple[str, ...], parent: StoredLayer | None) -> Shown:
        """The layer that shows the whole image by the pieces ``lowers``."""
        image = self._image
        parent_id = None if parent is None else parent.layer_id
        directory = LayerDirectory(image_layer_id(lowers, parent_id), EMPTY, lowers)
        size = sum(layer.diff_size for layer in image.layers)
        if kind is View.FLAT and image.flat is not None and image.flat.size is not None:
            size = image.flat.size
        if len(image.layers) > 1 and self._has_base:
            size = max(0, size - image.layers[0].diff_size)
        stored = StoredLayer(
            directory.layer_id,
            directory.entry,
            parent_id,
            size,
            shows=image.source_id.hex,
            merged=kind is View.FLAT,
            exact=kind is View.EXACT,
            lowers=lowers,
        )
        return stored, directory

    @property
    def _has_base(self) -> bool:
        return self._policy.reuse is not Reuse.NONE and self._image.layers[0].files is not None

    def _below(self, base: Sequence[Shown]) -> list[Shown]:
        """The records below the top layer, base first: the ``base``, if there is one, and layers
        that stand in for others."""
        shown: list[Shown] = []
        for _ in self._image.layers[:-1]:
            if not shown and base:
                shown.extend(base)
            else:
                shown.append(stand_in(shown[-1][0].layer_id if shown else None))
        return shown

    def _genuine(self) -> list[Shown]:
        """The layers that pulls may take: the base, if there is one, and all others that the policy
        asks for. Parents come first, and each layer's twin before it."""
        if not self._has_base:
            return []
        layers = self._image.layers
        found = [self._exact(layers[:1])]
        if self._policy.reuse is not Reuse.ALL:
            return found
        for count in range(2, len(layers) + 1):
            layer = layers[count - 1]
            if layer.files is None or layer.markers is None:
                break  # what stands on it couldn't be shown either
            stored, directory = self._exact(layers[:count])
            alone = replace(
                layer, layer_id=layer.diff_id.hex, skeleton=layer.own_skeleton, own_skeleton=None
            )
            twin = self._exact((alone,))
            # A layer that is twice in the image is already below.
            there = {each.layer_id for each, _ in found} | {stored.layer_id}
            if twin[0].diff_id is not None and twin[0].layer_id not in there:
                found.append(twin)
            if twin[0].diff_id is not None:
                stored = replace(stored, twin=twin[0].layer_id)
            found.append((stored, directory))
        return found

    def _exact(self, chain: Sequence[Layer]) -> Shown:
        """The last layer of ``chain``, base first, by its own files above those below it."""
        layer = chain[-1]
        lowers = self._lowers(layer.skeleton, self._files(chain))
        directory = LayerDirectory(layer.layer_id, EMPTY, lowers)
        is_base = len(chain) == 1
        # A base that has not been examined deletes nothing in its place. If the kernel reads it
        # again, it deletes nothing elsewhere either. But fuse-overlayfs would lose its deletions on
        # another parent.
        whole = self._policy.overlay is Overlay.KERNEL
        if layer.markers is not None:
            whole = layer.markers.is_complete
        advertised = is_base and whole
        stored = StoredLayer(
            layer_id=layer.layer_id,
            entry=directory.entry,
            parent=None if is_base else chain[-2].layer_id,
            diff_size=layer.diff_size,
            diff_id=layer.diff_id if advertised else None,
            blob=layer.blob.digest if advertised else None,
            blob_size=layer.blob.size if advertised else 0,
            compression=compression_of(layer.blob.media_type) if advertised else UNCOMPRESSED,
            lowers=lowers,
        )
        return stored, directory

    def _files(self, chain: Sequence[Layer]) -> list[Piece]:
        """The pieces that show the files of ``chain``, base first, nearest first.

        Kernel overlayfs refuses the same directory twice (ELOOP). Of equal layers only the topmost
        counts, because it shows everything that the lower one shows.
        """
        seen = set()
        found = []
        for layer in reversed(chain):
            if layer.blob.digest not in seen:
                seen.add(layer.blob.digest)
                found += self._files_of(layer)
        return found

    def _files_of(self, layer: Layer) -> list[Piece]:
        assert layer.files is not None
        files = _link_piece(layer.files)
        if layer.markers is None or layer.markers.is_plain or self._policy.overlay is Overlay.FUSE:
            return [files]
        mask = _mask(layer.markers, self._image.givable, self._policy.shared)
        return [mask, files, _meaning(layer.markers)]

    def _lowers(self, skeleton: Skeleton | None, files: Sequence[Piece]) -> tuple[str, ...]:
        above = [] if skeleton is None else _skeleton_pieces(skeleton)
        pieces = {piece.piece_id: piece for piece in (*above, *files)}
        self._pieces.update(pieces)
        return tuple(pieces)


def _link_piece(target: str) -> Piece:
    return Piece.of(Link(target))


@functools.lru_cache(maxsize=4096)
def _local_piece(nodes: tuple[Node, ...]) -> Piece:
    # Most images have one of few skeletons, and there may be 10,000 of them.
    return Piece.of(LocalPart(nodes))


def _skeleton_pieces(skeleton: Skeleton) -> list[Piece]:
    """The skeleton's directories and files, with whiteouts for the publisher's files, and whiteouts
    for the content of directories that are shown empty. Opaque attributes would not be enough:
    podman looks below an opaque directory when it commits, and fails if it can't read there."""
    root = skeleton.directories[0] if skeleton.directories else None
    nodes = [Node("", mode=ROOT_MODE) if root is None else root._replace(mode=ROOT_MODE)]
    nodes += [node for node in skeleton.directories if node.path]
    nodes += skeleton.files
    nodes += [Node(path, is_whiteout=True) for path in (_CATALOGUE_MARK, *skeleton.bundles)]
    found = [_local_piece(_in_order(nodes))]
    if skeleton.closed:
        above = {p for path in skeleton.closed for p in parents_of(path)}
        hidden = [Node(path) for path in above]
        hidden += [Node(path, is_whiteout=True) for path in skeleton.closed]
        found.append(_local_piece(_in_order(hidden)))
    return found


def _in_order(nodes: Iterable[Node]) -> tuple[Node, ...]:
    return tuple(sorted(nodes, key=lambda node: node.path.split("/") if node.path else []))


def _mask(markers: Markers, givable: frozenset[int] | None, shared: bool) -> Piece:
    """Directories with a whiteout over each marker file. They have the layer's attributes, as far
    as the writer may set these; in a ``shared`` store only the writer can write in them."""
    nodes = [Node(path, is_whiteout=True) for path in markers.files]
    for path in {above for each in markers.files for above in parents_of(each)}:
        facts = markers.directories[path]
        mode = facts.mode if path else ROOT_MODE
        nodes.append(
            Node(
                path,
                mode=mode & ~0o022 if shared else mode,
                owner=(facts.uid, facts.gid) if givable is None or facts.uid in givable else None,
                mtime_ns=facts.mtime_ns,
            )
        )
    return _local_piece(_in_order(nodes))


def _meaning(markers: Markers) -> Piece:
    """Directories with a whiteout for each deleted name; those that hide everything below are
    opaque. The layer's own directories lie above and decide the attributes."""
    whiteouts = [Node(path, is_whiteout=True) for path in markers.hidden]
    directories = {
        above for path in (*markers.hidden, *markers.opaque) for above in parents_of(path)
    }
    directories.update(markers.opaque)
    plain = [Node(path, opaque=path in markers.opaque) for path in {"", *directories}]
    return _local_piece(_in_order([*whiteouts, *plain]))


def mount_bytes(lowers: int, store: str) -> int:
    """The length, in bytes, of the lower directories in podman's mount options for a container. Its
    layer mounts so many pieces, and the store is at the path ``store``."""
    return (lowers + 1) * len(f"{store}/overlay/l/{link_name('0' * 64)}:")
