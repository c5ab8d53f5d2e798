# SPDX-License-Identifier: Apache-2.0
"""Finds the list of a layer's files: the best source first, and keeps what it has found."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator

from podman_cvmfs.errors import InputError, PodmanCvmfsError, RegistryError, RepositoryError
from podman_cvmfs.lists import catalogue, from_walk
from podman_cvmfs.lists.catalogue_address import CatalogueAddress, CatalogueClient
from podman_cvmfs.lists.catalogue_rows import Catalogue
from podman_cvmfs.lists.catalogues import Catalogues
from podman_cvmfs.lists.entry import Entry
from podman_cvmfs.lists.from_tar import Unpacked, list_of
from podman_cvmfs.lists.inodes import InodeTree
from podman_cvmfs.lists.kept import KeptLists, Source, read_compressed
from podman_cvmfs.lists.layer_stream import LayerStream
from podman_cvmfs.lists.layer_tree import apply_markers, has_lost_owners, markers_in, take_owners
from podman_cvmfs.oci.documents import Descriptor, Digest
from podman_cvmfs.repository.layout import FILES_DUMP, LAYERFS, layer_directory
from podman_cvmfs.repository.served import health_of
from podman_cvmfs.repository.tree import Tree
from podman_cvmfs.repository.whiteouts import Markers

log = logging.getLogger(__name__)

#: The largest published list, in bytes, as it is stored.
_MAX_PUBLISHED = 64 << 20
#: So many merged roots are kept in memory: the layers of an image are looked at one by one.
_MERGED_KEPT = 2
#: Lists from these are kept only until a better source is at hand.
_POOR = (Source.WALK, Source.SHOWN)
#: The client has a directory's catalogue once it lists the directory. To list so few directories
#: takes less time than to fetch the catalogue again.
_FEW_DIRECTORIES = 100


class ListSource:
    """The lists of the layers in the repository at ``tree``; safe to use from several threads.

    ``kept`` keeps them. ``catalogues`` gets catalogues; None: they aren't used.
    """

    def __init__(self, tree: Tree, kept: KeptLists, catalogues: Catalogues | None) -> None:
        self._tree = tree
        self._kept = kept
        self._catalogues = catalogues
        self._is_served = health_of(tree) is not None
        self._client = CatalogueClient(tree.root)
        self._lock = threading.Lock()
        self._merged: OrderedDict[str, InodeTree | None] = OrderedDict()

    def find(self, layer: Digest, merged: str | None = None) -> tuple[Source, str] | None:
        """Where the list of the layer with this blob is from, and the list's digest; None if it
        can't be had.

        ``merged`` is the merged root of an image that has the layer, a path in the repository: it
        knows owners that the layer has lost. Raises StoreError if the cache can't be written.
        """
        known = self._kept.note(self._tree.root, layer)
        if known is not None and known[0] not in _POOR:
            return known
        for source, make in (
            (Source.PUBLISHED, self._published),
            (Source.CATALOGUE, functools.partial(self._by_catalogue, merged=merged)),
            (Source.WALK, self._by_walk),
        ):
            if known is not None and source is Source.WALK:
                return known
            try:
                tree = make(layer)
                if tree is None:
                    continue
                entries = tree if isinstance(tree, list) else [*tree.entries()]
            except (InputError, RepositoryError, RegistryError, OSError) as err:
                reason = err.message if isinstance(err, PodmanCvmfsError) else str(err)
                log.info("no list of layer %s by %s: %s", layer.hex[:12], source.value, reason)
                continue
            if source is Source.WALK and (self._is_served or _are_lost(entries)):
                source = Source.SHOWN
            return source, self._kept.keep(self._tree.root, layer, entries, source)
        return None

    def markers(self, layer: Digest) -> Markers | None:
        """The markers of a layer by its catalogue, as ``whiteouts.scan`` finds them; None if there
        is no catalogue, and if listing its few directories is quicker."""
        files = f"{layer_directory(layer.hex)}/{LAYERFS}"
        try:
            tree = self._catalogue_tree(files, _FEW_DIRECTORIES)
            if tree is None:
                return None
            root = self._tree.lstat(files)
            # A client that shows one user for all files shows that user for the root, too.
            is_own = root is None or (root.st_uid, root.st_gid) == (tree.root.uid, tree.root.gid)
            shown = None if root is None or is_own else (root.st_uid, root.st_gid)
            return markers_in(tree, self._tree.path(files), shown)
        except (InputError, RepositoryError, RegistryError, OSError) as err:
            log.info("the catalogue of layer %s isn't used: %s", layer.hex[:12], err)
            return None

    def files_below(self, directory: str) -> InodeTree | None:
        """The files below a directory of the repository as they are: by its catalogues, or asked
        one by one; None if it isn't there. Raises RepositoryError, InputError."""
        try:
            tree = self._catalogue_tree(directory)
            if tree is not None:
                return tree
        except (InputError, RegistryError, OSError) as err:
            log.info("the catalogue of %s isn't used: %s", directory, err)
        files = self._tree.at(directory)
        return None if files.lstat("") is None else from_walk.tree_of(files, self._is_served)

    def _published(self, layer: Digest) -> list[Entry] | None:
        place = f"{layer_directory(layer.hex)}/{FILES_DUMP}"
        data = self._tree.read(place, _MAX_PUBLISHED)
        return None if data is None else [*read_compressed(data, self._tree.path(place))]

    def _by_catalogue(self, layer: Digest, merged: str | None) -> InodeTree | None:
        files = f"{layer_directory(layer.hex)}/{LAYERFS}"
        tree = self._catalogue_tree(files)
        if tree is None:
            return None
        if has_lost_owners(tree):
            whole = None if merged is None else self._merged_root(merged)
            if whole is None:
                return None
            take_owners(tree, whole)
        apply_markers(tree, markers_in(tree, self._tree.path(files)))
        return tree

    def _merged_root(self, merged: str) -> InodeTree | None:
        with self._lock:
            if merged not in self._merged:
                self._merged[merged] = self._catalogue_tree(merged)
                if len(self._merged) > _MERGED_KEPT:
                    self._merged.popitem(last=False)
            return self._merged[merged]

    def _catalogue_tree(self, directory: str, least: int = 0) -> InodeTree | None:
        """The files below a directory of the repository by its catalogues; None if there is no
        catalogue, or one of less than ``least`` directories. Raises InputError, RegistryError,
        OSError."""
        if self._catalogues is None or not self._is_served:
            return None
        address = self._client.address_of(directory)
        if address is None:
            return None
        if address.directories is not None and address.directories < least:
            return None
        opening = functools.partial(_opened, self._catalogues, address)
        return catalogue.tree_of(opening, address.hash, address.begins, directory)

    def _by_walk(self, layer: Digest) -> InodeTree | None:
        files = self._tree.at(f"{layer_directory(layer.hex)}/{LAYERFS}")
        if files.lstat("") is None:
            return None
        tree = from_walk.tree_of(files, self._is_served)
        apply_markers(tree, markers_in(tree, files.root))
        return tree


@contextlib.contextmanager
def _opened(
    catalogues: Catalogues, address: CatalogueAddress, hash_: str, begins: str
) -> Iterator[Catalogue]:
    with catalogues.opened(address.of_nested(hash_, begins)) as found:
        yield found


def _are_lost(entries: list[Entry]) -> bool:
    """Whether the owners of the image's files are lost: all files belong to one user, not root."""
    owners = {(each.uid, each.gid) for each in entries if not each.is_whiteout}
    return len(owners) == 1 and owners != {(0, 0)}


def from_registry(
    kept: KeptLists,
    layer: Descriptor,
    diff_id: Digest,
    stream: Callable[[Digest], Iterator[bytes]],
) -> str:
    """Make the list and the tar-split of a layer from its blob, which ``stream`` yields; keep both,
    and return the list's digest.

    Nothing is fetched if both are there. Raises RegistryError, StoreError, InputError for a layer
    that can't be read.
    """
    known = kept.note("", layer.digest)
    if known is not None and kept.has_tar_split(diff_id):
        return known[1]
    split = io.BytesIO()
    made = list_of(LayerStream(stream(layer.digest), layer, diff_id, Unpacked()), split)
    kept.keep_tar_split(diff_id, split.getvalue() if made.is_split else b"")
    return kept.keep("", layer.digest, made.entries, Source.REGISTRY)
