# SPDX-License-Identifier: Apache-2.0
"""The content of a store, as frozen dataclasses. Pure: no I/O."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Union

from podman_cvmfs.oci.big_data import big_data_file
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.store.layout import Form, entry_key, link_name, piece_entry, piece_of_entry

UNCOMPRESSED, GZIP, ZSTD = 0, 2, 4


# A sync may have 10,000 of each of these. As tuples they take half the memory.


class Link(NamedTuple):
    """A part of a layer that is a symbolic link to ``target``, an absolute path."""

    target: str


class Node(NamedTuple):
    """One file of a local part: a directory, an overlay whiteout (device 0:0) that hides what is
    below, or, with ``content``, a regular file.

    ``path`` is relative, "" is the part's root. ``mode`` holds the permission bits. ``owner`` (uid
    and gid) is set if the writer may set it; with None the writer owns it. With ``mtime_ns`` None
    the time of writing stays. An ``opaque`` directory shows nothing of the pieces and layers below.
    """

    path: str
    is_whiteout: bool = False
    mode: int = 0o755
    owner: tuple[int, int] | None = None
    mtime_ns: int | None = None
    opaque: bool = False
    content: bytes | None = None

    def __repr__(self) -> str:
        """What the IDs of pieces are made from. That of a directory hasn't changed since there are
        files."""
        content = "" if self.content is None else f", content={self.content!r}"
        return (
            f"Node(path={self.path!r}, is_whiteout={self.is_whiteout!r}, mode={self.mode!r}, "
            f"owner={self.owner!r}, mtime_ns={self.mtime_ns!r}, opaque={self.opaque!r}{content})"
        )


@dataclass(frozen=True)
class LocalPart:
    """A directory in the store that holds these nodes, parents first."""

    nodes: tuple[Node, ...]


class Metadata(NamedTuple):
    """A part that shows the files in the directory ``target`` of the repository ``root``, both
    absolute paths, with the names and attributes of the file list with this ``digest``."""

    target: str
    root: str
    digest: str


class Data(NamedTuple):
    """A part that shows nothing. Metadata parts above it find their files in the repository
    ``root``, an absolute path."""

    root: str


Part = Union[Link, LocalPart, Metadata, Data]


def files_of_part(part: Part) -> str | None:
    """Where the files that ``part`` shows lie in a repository; None if they lie in none."""
    return part.target if isinstance(part, (Link, Metadata)) else None


class Piece(NamedTuple):
    """A directory that layers mount below themselves, identified by its content.

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


class TarSplit(NamedTuple):
    """The tar-split of the layer with this diff ID, in hexadecimal, whose ``files`` are in a
    repository: an absolute path."""

    diff_id: str
    files: str


class LayerDirectory(NamedTuple):
    """The content of ``overlay/<layer id>``: ``part`` is its ``diff``; ``lowers`` are the IDs of
    the pieces mounted below it, nearest first."""

    layer_id: str
    part: Link | LocalPart
    lowers: tuple[str, ...] = ()
    tar_split: TarSplit | None = None

    @property
    def entry(self) -> str:
        """The name of this directory in the pool."""
        content = (self.part, self.lowers, *([] if self.tar_split is None else [self.tar_split]))
        return f"{self.layer_id}-{entry_key(repr(content).encode())}"

    @property
    def link(self) -> str:
        """Its name in ``overlay/l``."""
        return link_name(self.layer_id, Form.PIECES)


@dataclass(frozen=True)
class ImageFiles:
    """The content of ``overlay-images/<image id>``; ``index`` is the index that lists the
    manifest."""

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
    """A layer of the store. Sizes are in bytes."""

    layer_id: str
    #: Its directory in the pool.
    entry: str
    #: The ID of the layer below it.
    parent: str | None
    diff_size: int
    #: Its diff ID; None hides it from pulls, which then can't reuse it.
    diff_id: Digest | None = None
    #: The digest of its blob, if pulls may find it by that.
    blob: Digest | None = None
    blob_size: int = 0
    compression: int = UNCOMPRESSED
    #: The source ID of the image that it shows; None if it shows only its own files.
    shows: str | None = None
    #: Whether it shows a merged root.
    merged: bool = False
    #: Whether it shows the image by metadata of its own.
    exact: bool = False
    #: The diff ID, in hexadecimal, of the tar-split that it has.
    tar_split: str | None = None
    #: Layout 4: whether it mounts nothing from below its parent.
    alone: bool = False
    #: Whether the store's policy would lay it out differently.
    outdated: bool = False
    #: The repository of its files; "" if it has no files.
    repository: str = ""
    #: The ID of another layer that belongs to this one: pulls find it by its digests, or by its
    #: place in a chain.
    twin: str | None = None
    #: Since when (seconds since 1970) no image has needed it; None while one does.
    retired: int | None = None
    #: The IDs of the pieces that it mounts, nearest first; None in layout 4.
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
    """An image of the store. Sizes are in bytes."""

    image_id: str
    #: Its directory in the pool.
    entry: str
    #: The repository that it is from.
    repository: str
    #: Its ID there; it differs from ``image_id`` if the config is made up.
    source_id: str
    #: Its names there.
    published: tuple[str, ...]
    top_layer: str | None
    #: As in images.json.
    created: str
    manifest_digest: str
    manifest_size: int
    config_size: int
    #: How it is shown: flat, layers, or exact.
    view: str
    #: Where its config came from.
    config_origin: str
    #: Whether its manifest is genuine, rebuilt, or unanswered.
    manifest_origin: str
    #: The platform in the config (``arm64/v8``); "" without one.
    platform: str = ""
    #: The digest of the index that lists the manifest, if known.
    index_digest: str | None = None
    index_size: int = 0
    #: The source ID of each name in ``published``, if they are not all ``source_id``.
    sources: tuple[str, ...] = ()
    #: Whether it is laid out under an older policy, because it couldn't be resolved since then.
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
    """Everything in one generation."""

    #: The policy of everything that isn't outdated. If it changes, the store is laid out anew.
    policy: str = ""
    #: By image ID.
    images: Mapping[str, StoredImage] = field(default_factory=dict)
    #: By layer ID.
    layers: Mapping[str, StoredLayer] = field(default_factory=dict)
    #: podman's name -> image ID.
    names: Mapping[str, str] = field(default_factory=dict)
    #: Pool entry that containers may still use -> since when nothing in the store leads to it.
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
