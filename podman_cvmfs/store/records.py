# SPDX-License-Identifier: Apache-2.0
"""What a store holds, as frozen dataclasses. Pure: no I/O."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Union

from podman_cvmfs.oci.big_data import big_data_file
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.store.layout import Form, entry_key, link_name, piece_entry, piece_of_entry

UNCOMPRESSED, GZIP, ZSTD = 0, 2, 4


# There may be 10,000 of each of these while a sync plans: as tuples they take half the memory.


class Link(NamedTuple):
    """A part of a layer that is a symbolic link to ``target``, an absolute path."""

    target: str


class Node(NamedTuple):
    """One file of a local part: a directory, or an overlay whiteout (device 0:0) that hides one.

    ``path`` is relative, "" is the part's root. ``mode`` holds the permission bits. ``owner`` (uid
    and gid) is set where the writer may, None leaves it the writer's; ``mtime_ns`` None leaves the
    time of writing. An ``opaque`` directory shows nothing of the pieces and layers below.
    """

    path: str
    is_whiteout: bool = False
    mode: int = 0o755
    owner: tuple[int, int] | None = None
    mtime_ns: int | None = None
    opaque: bool = False


@dataclass(frozen=True)
class LocalPart:
    """A directory in the store that holds these nodes, parents first."""

    nodes: tuple[Node, ...]


Part = Union[Link, LocalPart]


class Piece(NamedTuple):
    """A directory that layers mount below themselves, known by what it shows.

    It has a place in ``overlay`` and a name in ``overlay/l`` as layers do, but no record in
    ``layers.json``: podman only ever meets it in the ``lower`` of a layer. ``piece_id`` is a hash
    of ``part``, so what a piece shows never changes.
    """

    piece_id: str
    part: Part

    @classmethod
    def of(cls, part: Part) -> Piece:
        """The piece that shows ``part``."""
        return cls(hashlib.sha256(f"podman-cvmfs piece {part!r}".encode()).hexdigest(), part)

    @property
    def entry(self) -> str:
        """The name of its directory in the pool."""
        return piece_entry(self.piece_id)

    @property
    def link(self) -> str:
        """Its name in ``overlay/l``."""
        return link_name(self.piece_id)


class LayerDirectory(NamedTuple):
    """What ``overlay/<layer id>`` holds: ``part`` is its ``diff``; ``lowers`` are the IDs of the
    pieces mounted below it, nearest first."""

    layer_id: str
    part: Part
    lowers: tuple[str, ...] = ()

    @property
    def entry(self) -> str:
        """The name of this directory in the pool."""
        return f"{self.layer_id}-{entry_key(repr((self.part, self.lowers)).encode())}"

    @property
    def link(self) -> str:
        """Its name in ``overlay/l``."""
        return link_name(self.layer_id, Form.PIECES)


@dataclass(frozen=True)
class ImageFiles:
    """What ``overlay-images/<image id>`` holds; ``index`` is the one that lists the manifest."""

    image_id: str
    manifest: bytes
    config: bytes
    index: bytes | None = None

    @property
    def manifest_digest(self) -> Digest:
        """The digest of the manifest's bytes."""
        return Digest.of(self.manifest)

    @property
    def entry(self) -> str:
        """The name of this directory in the pool."""
        content = b" ".join([self.manifest, self.config, self.index or b""])
        return f"{self.image_id}-{entry_key(content)}"

    def files(self) -> dict[str, bytes]:
        """File name -> content."""
        files = {
            "manifest": self.manifest,
            big_data_file(f"sha256:{self.image_id}"): self.config,
        }
        if self.index is not None:
            files[big_data_file(f"manifest-{Digest.of(self.index)}")] = self.index
        return files


@dataclass(frozen=True)
class StoredLayer:
    """A layer of the store.

    ``diff_id``, ``blob`` (its digest) and ``blob_size`` are set only where the layer may be found
    by its digests and so be reused by a pull. Sizes are in bytes.
    ``lowers`` are the IDs of the pieces that it mounts, nearest first; None for a layer of layout
    4, which mounts what lies below its parent, if it isn't ``alone``.
    ``shows`` is the source ID of the image for which the layer is laid out, None where the layer is
    just itself. ``merged`` says that it shows a merged root. ``outdated`` says that it is laid out
    otherwise than the store's policy says. ``repository`` is the directory that its files are in,
    "" where it has none. ``twin`` is the ID of a layer that is in the store for the sake of this
    one: pulls find that one by its digests, or by its place in a chain. ``retired`` is the time
    (seconds since 1970) since which no image has needed the layer, None while one does.
    """

    layer_id: str
    entry: str
    parent: str | None
    diff_size: int
    diff_id: Digest | None = None
    blob: Digest | None = None
    blob_size: int = 0
    compression: int = UNCOMPRESSED
    shows: str | None = None
    merged: bool = False
    alone: bool = False
    outdated: bool = False
    repository: str = ""
    twin: str | None = None
    retired: int | None = None
    lowers: tuple[str, ...] | None = ()

    @property
    def form(self) -> Form:
        """How its name in ``overlay/l`` is made."""
        if self.lowers is not None:
            return Form.PIECES
        return Form.ALONE if self.alone else Form.PLAIN

    @property
    def link(self) -> str:
        """Its name in ``overlay/l``."""
        return link_name(self.layer_id, self.form)


@dataclass(frozen=True)
class StoredImage:
    """An image of the store.

    ``repository`` is the directory it is from, ``published`` are its names as they are written
    there, ``source_id`` the ID given to it there (another one than ``image_id`` where the config is
    made up), ``view`` flat or layers, ``config_origin`` the step of the ladder its config came
    from, ``manifest_origin`` genuine, rebuilt or unanswered. ``platform`` is what the config says
    it is for (``arm64/v8``), "" if it doesn't. ``index_digest`` and ``index_size`` are of the index
    that lists the manifest, if that is known. ``sources`` are the source IDs of the names in
    ``published``, one each, where those are not all ``source_id``. ``outdated`` says that it is
    laid out under another policy than the store's: it couldn't be had since that changed.
    """

    image_id: str
    entry: str
    repository: str
    source_id: str
    published: tuple[str, ...]
    top_layer: str | None
    created: str
    manifest_digest: str
    manifest_size: int
    config_size: int
    view: str
    config_origin: str
    manifest_origin: str
    platform: str = ""
    index_digest: str | None = None
    index_size: int = 0
    sources: tuple[str, ...] = ()
    outdated: bool = False

    @property
    def source_of(self) -> Mapping[str, str]:
        """The source ID of each name in ``published``."""
        sources = self.sources or (self.source_id,) * len(self.published)
        return dict(zip(self.published, sources))

    @property
    def all_sources(self) -> frozenset[str]:
        """All source IDs by which repositories know the image."""
        return frozenset(self.sources) | {self.source_id}


@dataclass(frozen=True)
class StoreContent:
    """Everything in one generation.

    ``policy`` is what was chosen for all of it but the images that are outdated: a store under
    another one is laid out anew.
    ``names`` maps each podman name to an image ID. ``retired_entries`` are pool entries that
    containers may still use, with the time since which nothing in the store leads to them.
    """

    policy: str = ""
    images: Mapping[str, StoredImage] = field(default_factory=dict)
    layers: Mapping[str, StoredLayer] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    retired_entries: Mapping[str, int] = field(default_factory=dict)

    def pieces(self) -> set[str]:
        """The IDs of the pieces that layers mount, and of those that are retired."""
        found = {each for layer in self.layers.values() for each in layer.lowers or ()}
        found.update(filter(None, map(piece_of_entry, self.retired_entries)))
        return found

    def entries(self) -> set[str]:
        """The pool entries that images and layers lead to, those of pieces among them."""
        found = {image.entry for image in self.images.values()}
        for layer in self.layers.values():
            found.add(layer.entry)
            found.update(map(piece_entry, layer.lowers or ()))
        return found


def chain_of(content: StoreContent, top: str | None) -> list[StoredLayer]:
    """The stored layers from ``top`` down to the base."""
    chain = []
    while top is not None and top in content.layers:
        layer = content.layers[top]
        chain.append(layer)
        top = layer.parent
    return chain


def layers_of(content: StoreContent, image: StoredImage) -> list[StoredLayer]:
    """All layers that the store has for ``image``: its chain, and the twins of layers in it with
    theirs."""
    found: dict[str, StoredLayer] = {}
    pending = [image.top_layer]
    while pending:
        layer_id = pending.pop()
        if layer_id is not None and layer_id not in found and layer_id in content.layers:
            layer = content.layers[layer_id]
            found[layer_id] = layer
            pending += [layer.twin, layer.parent]
    return list(found.values())
