# SPDX-License-Identifier: Apache-2.0
"""Choose how an image's files are shown, and lay out its layers for that. Pure: no I/O.

*flat*: the top layer shows the publisher's merged root and has nothing below it. The layers
between base and top can't be shown exactly without knowing their whiteouts, and whatever is listed
under a layer's ID may become the parent of a layer that somebody pulls. So empty layers with IDs
that nobody else has stand in for them: podman 5 refuses ``history`` for an image with fewer layers
than its config tells of. Images on one base share them, which keeps the store small. Where the
markers are known, the layers stand for themselves.

*layers*: every layer is shown by its own files. Those of a layer with markers lie between two
directories of the store, in containers/storage's own stacking of ``diff``, ``diff1`` and ``diff2``:
the upper one hides the marker files, the lower one holds what they mean.

A layer is advertised, that is, found by its digests when somebody pulls, only where ``diff`` is
the layer: containers/image may re-read it and store the result under the genuine digest unchecked.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from podman_cvmfs.errors import RepositoryError
from podman_cvmfs.markers import Markers, parents_of
from podman_cvmfs.policy import Overlay, Policy, Reuse, View
from podman_cvmfs.resolve import FlatRoot, Layer, ResolvedImage
from podman_cvmfs.store.layout import link_name
from podman_cvmfs.store.records import (
    GZIP,
    UNCOMPRESSED,
    ZSTD,
    LayerDirectory,
    Link,
    LocalPart,
    Node,
    Part,
    StoredLayer,
)

#: What podman gives the root directory of every layer it unpacks, whatever the layer says
#: (containers/storage ``drivers/overlay/overlay.go``, ``defaultPerms``).
ROOT_MODE = 0o555
#: The publisher's mark of a nested catalogue, which no image has of itself.
_CATALOGUE_MARK = ".cvmfscatalog"

Shown = tuple[StoredLayer, LayerDirectory]

#: An empty layer that lies right below layers shown by more than their own ``diff``. Whoever builds
#: on such a layer or commits it has podman write it out again, and where the nearest lower is the
#: parent, or there is neither, podman takes ``diff`` for all of it (containers/storage 1.43 to 1.64
#: ``drivers/overlay/overlay.go``, ``isParent`` and ``Diff``): then what lies in ``diff1`` would be
#: lost. With the spacer between, podman compares the two mounted. A merged root that has a parent
#: but no lower needs none: a directory that a user can't read would then be hidden from that user,
#: since the kernel must look whether it is opaque where something lies below.
SPACER_DIRECTORY = LayerDirectory(
    hashlib.sha256(b"podman-cvmfs spacer").hexdigest(), (LocalPart((Node(""),)),)
)
SPACER = StoredLayer(SPACER_DIRECTORY.layer_id, SPACER_DIRECTORY.entry, None, diff_size=0)


@dataclass(frozen=True)
class ImageView:
    """How an image is shown: ``kind`` is flat or layers; its layers that go into the store, base
    first; and the twin of the top layer, if that has one."""

    kind: View
    layers: tuple[Shown, ...]
    twin: Shown | None = None


def view_of(image: ResolvedImage, policy: Policy) -> ImageView:
    """Lay out ``image``; RepositoryError if the repository can't show it right."""
    if not image.layers:
        return ImageView(View.LAYERS, ())
    complete = all(layer.files is not None for layer in image.layers)
    # The only layer is all of the image, and exact: laid out by itself it serves pulls as well. But
    # it can't carry a skeleton.
    alone = len(image.layers) == 1 and complete and not image.skeleton
    by_layers = policy.view is View.LAYERS or (policy.view is View.AUTO and not image.flat)
    if alone or by_layers:
        if not complete:
            missing = sum(layer.files is None for layer in image.layers)
            flat = "" if image.flat else "the repository has no merged root for it, and "
            raise RepositoryError(f"{flat}{missing} of its {len(image.layers)} layers are missing")
        return _with_twin(ImageView(View.LAYERS, _by_layers(image, policy)), image, policy)
    if image.flat is None:
        raise RepositoryError("the repository has no merged root for it")
    view = ImageView(View.FLAT, _flat(image, image.flat, policy))
    return _with_twin(view, image, policy)


def _by_layers(image: ResolvedImage, policy: Policy) -> tuple[Shown, ...]:
    shown: list[Shown] = []
    for layer in image.layers[:-1]:
        shown.append(_exact(layer, shown, image.layers, policy))
    top = _exact(image.layers[-1], shown, image.layers, policy)
    if image.skeleton:
        top = _with_skeleton(top, image)
    return (*shown, top)


def _flat(image: ResolvedImage, flat: FlatRoot, policy: Policy) -> tuple[Shown, ...]:
    below: list[Shown] = []
    genuine = policy.reuse is not Reuse.NONE
    for layer in image.layers[:-1]:
        genuine = genuine and layer.files is not None
        # Shown by its own files, a layer that is another image's top would lose its skeleton.
        genuine = genuine and (not below or (layer.markers is not None and not image.skeleton))
        if genuine:
            below.append(_exact(layer, below, image.layers, policy))
        else:
            below.append(_stand_in(below[-1][0].layer_id if below else None))
    top_id = _stored_id(image.layers[-1], policy)
    parts = (LocalPart(_flat_nodes(image, flat)), Link(flat.path))
    alone = bool(below)
    directory = LayerDirectory(top_id, parts, () if alone else (SPACER.layer_id,), alone)
    # What isn't shown by itself counts with the top.
    size = sum(layer.diff_size for layer in image.layers) - sum(s.diff_size for s, _ in below)
    parent = below[-1][0].layer_id if below else None
    stored = StoredLayer(
        top_id, directory.entry, parent, size, shows=image.source_id.hex, merged=True, alone=alone
    )
    return (*below, (stored, directory))


def _exact(layer: Layer, below: Sequence[Shown], chain: Sequence[Layer], policy: Policy) -> Shown:
    """``layer`` by its own files, on the layers ``below``."""
    assert layer.files is not None
    markers = layer.markers or Markers()
    parts: tuple[Part, ...] = (Link(layer.files),)
    translated = not markers.is_plain and policy.overlay is Overlay.KERNEL
    if translated:
        parts = (_mask(markers), Link(layer.files), _meaning(markers))
    layer_id = _stored_id(layer, policy)
    lowers = _lowers(layer, below, {_stored_id(each, policy): each for each in chain})
    directory = LayerDirectory(layer_id, parts, _spaced(lowers) if translated else lowers)
    is_base = not below
    # A base that nobody has looked at deletes nothing where it lies, nor, read again by the
    # kernel, elsewhere; fuse-overlayfs would lose what it deletes on another parent.
    whole = is_base and policy.overlay is Overlay.KERNEL
    if layer.markers is not None:
        whole = markers.is_complete
    advertised = whole and (policy.reuse is Reuse.ALL or (policy.reuse is Reuse.BASE and is_base))
    stored = StoredLayer(
        layer_id=layer_id,
        entry=directory.entry,
        parent=below[-1][0].layer_id if below else None,
        diff_size=layer.diff_size,
        diff_id=layer.diff_id if advertised else None,
        blob=layer.blob.digest if advertised else None,
        blob_size=layer.blob.size if advertised else 0,
        compression=_compression(layer.blob.media_type) if advertised else UNCOMPRESSED,
    )
    return stored, directory


def _with_twin(view: ImageView, image: ResolvedImage, policy: Policy) -> ImageView:
    """``view``, with a twin for a top layer that shows more than its own files: that layer as the
    base of an image would be. A pull that has found the twin by its digests asks for the ID that
    the layer gets in its own chain, and so finds the top layer itself."""
    top, directory = view.layers[-1]
    layer = image.layers[-1]
    if policy.reuse is not Reuse.ALL or top.diff_id is not None:
        return view
    if layer.files is None or layer.markers is None:
        return view
    base = replace(layer, layer_id=layer.diff_id.hex)
    twin = _exact(base, (), (base,), policy)
    # A layer that is twice in the image is found below.
    there = {stored.layer_id for stored, _ in view.layers}
    if twin[0].diff_id is None or twin[0].layer_id in there:
        return view
    top = replace(top, twin=twin[0].layer_id)
    return ImageView(view.kind, (*view.layers[:-1], (top, directory)), twin)


def _spaced(lowers: tuple[str, ...]) -> tuple[str, ...]:
    """``lowers`` with the spacer above them, once."""
    return lowers if SPACER.layer_id in lowers else (SPACER.layer_id, *lowers)


def _lowers(layer: Layer, below: Sequence[Shown], chain: Mapping[str, Layer]) -> tuple[str, ...]:
    """The IDs of the layers to mount below ``layer``, nearest first.

    Kernel overlayfs refuses the same directory twice (ELOOP). Of equal layers only the topmost
    counts, since it shows again all that the lower one shows.
    """
    seen = {layer.blob.digest}
    lowers = []
    for stored, _ in reversed(below):
        blob = chain[stored.layer_id].blob.digest
        if blob not in seen:
            seen.add(blob)
            lowers.append(stored.layer_id)
    return tuple(lowers)


def _mask(markers: Markers) -> LocalPart:
    """Directories with a whiteout over each marker file."""
    whiteouts = [Node(path, is_whiteout=True) for path in markers.files]
    return LocalPart(
        _tree(markers, {p for path in markers.files for p in parents_of(path)}, (), whiteouts)
    )


def _meaning(markers: Markers) -> LocalPart:
    """Directories with a whiteout for each deleted name; those that hide all below are opaque."""
    whiteouts = [Node(path, is_whiteout=True) for path in markers.hidden]
    directories = {
        above for path in (*markers.hidden, *markers.opaque) for above in parents_of(path)
    }
    directories.update(markers.opaque)
    return LocalPart(_tree(markers, directories, markers.opaque, whiteouts))


def _tree(
    markers: Markers,
    directories: Iterable[str],
    opaque: Collection[str],
    whiteouts: Iterable[Node],
) -> tuple[Node, ...]:
    """The nodes of a local part: directories look as they do in the layer."""
    nodes = list(whiteouts)
    for path in {"", *directories}:
        facts = markers.directories[path]
        nodes.append(
            Node(
                path,
                mode=facts.mode if path else ROOT_MODE,
                owner=(facts.uid, facts.gid),
                mtime_ns=facts.mtime_ns,
                opaque=path in opaque,
            )
        )
    return tuple(sorted(nodes, key=lambda node: node.path.split("/") if node.path else []))


def _stored_id(layer: Layer, policy: Policy) -> str:
    """The ID under which the store lists ``layer``: podman's own, or one that no pull looks for."""
    if policy.reuse is not Reuse.NONE:
        return layer.layer_id
    return hashlib.sha256(f"podman-cvmfs private {layer.layer_id}".encode()).hexdigest()


@functools.lru_cache(maxsize=65536)
def _stand_in(parent: str | None) -> Shown:
    """An empty layer on ``parent``, in the place of one that isn't shown.

    Kept, since thousands of images share the few there are.
    """
    layer_id = hashlib.sha256(f"podman-cvmfs stand-in on {parent}".encode()).hexdigest()
    directory = LayerDirectory(layer_id, (LocalPart((Node(""),)),))
    return StoredLayer(layer_id, directory.entry, parent, diff_size=0), directory


def _flat_nodes(image: ResolvedImage, flat: FlatRoot) -> tuple[Node, ...]:
    """What lies above a merged root: the skeleton, and the sticky bits it lost."""
    nodes = {"": Node("", mode=ROOT_MODE)}
    nodes.update({node.path: node for node in _skeleton_nodes(image)})
    for path in flat.lost_sticky:
        # The parents' attributes come from here too; 0755 is what they have in every image.
        for above in parents_of(path):
            nodes.setdefault(above, Node(above))
        nodes[path] = Node(path, mode=0o1777)
    nodes[_CATALOGUE_MARK] = Node(_CATALOGUE_MARK, is_whiteout=True)
    return tuple(sorted(nodes.values(), key=lambda node: node.path.split("/") if node.path else []))


def _skeleton_nodes(image: ResolvedImage) -> tuple[Node, ...]:
    return tuple(
        Node(each.path, mode=each.mode if each.path else ROOT_MODE, opaque=not each.readable)
        for each in image.skeleton
    )


def _with_skeleton(top: Shown, image: ResolvedImage) -> Shown:
    """The top layer of an image shown by its layers, with the skeleton above it."""
    stored, directory = top
    parts: tuple[Part, ...] = (LocalPart(_skeleton_nodes(image)), *directory.parts)
    laid_out = LayerDirectory(directory.layer_id, parts, _spaced(directory.lowers))
    hidden = StoredLayer(
        stored.layer_id,
        laid_out.entry,
        stored.parent,
        stored.diff_size,
        shows=image.source_id.hex,
    )
    return hidden, laid_out


def mount_bytes(view: ImageView, store: str) -> int:
    """The length, in bytes, of the lower directories in the mount options podman makes for a
    container of the image, with the store at the path ``store``."""
    directories = {stored.layer_id: directory for stored, directory in view.layers}
    if not view.layers:
        return 0
    top = view.layers[-1][1]
    directories[SPACER.layer_id] = SPACER_DIRECTORY
    parts = [len(directories[each].parts) for each in (top.layer_id, *top.lowers)]
    return bytes_of_parts(parts, store, top.layer_id)


def bytes_of_parts(parts: Sequence[int], store: str, layer_id: str) -> int:
    """The same for layers with so many ``parts`` each; ``layer_id`` is any of them."""
    link = len(f"{store}/overlay/l/{link_name(layer_id)}:")
    # The first part is the link itself, the others lie beside what it leads to.
    return sum(parts) * link + (sum(parts) - len(parts)) * len("/../diff1")


def _compression(media_type: str) -> int:
    if media_type.endswith("zstd"):
        return ZSTD
    return GZIP if media_type.endswith("gzip") or not media_type else UNCOMPRESSED
