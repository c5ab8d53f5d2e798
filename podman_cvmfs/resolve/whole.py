# SPDX-License-Identifier: Apache-2.0
"""Tells whether DUCC's tree has the files that show an image.

DUCC publishes an image in several transactions, and deletes it in several. A publisher that was
killed, or a transaction that was lost, leaves parts of it: a link to a missing merged root, empty
directories, a manifest that names missing layers. A container of such an image would start without
files.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence

from podman_cvmfs.errors import RepositoryError, printable
from podman_cvmfs.oci.customary import STICKY
from podman_cvmfs.oci.documents import Descriptor
from podman_cvmfs.repository import layout
from podman_cvmfs.repository.ducc import MAX_EMPTY, Repository
from podman_cvmfs.repository.records import PublishedImage
from podman_cvmfs.repository.tree import Tree
from podman_cvmfs.resolve.image import FlatRoot, Layer

#: What to do about an image without files.
HINT = "sync again later: the image is being published or deleted right now, or it is broken"


def flat_root_at(tree: Tree, place: str) -> FlatRoot:
    """The merged root at ``place`` in the repository. Raises RepositoryError."""
    lost = []
    for name in STICKY:
        attributes = tree.lstat(f"{place}/{name}")
        if attributes is not None and attributes.st_mode & 0o177777 == 0o040777:
            lost.append(name)
    return FlatRoot(tree.path(place), tuple(lost), tree.size_of(place))


def find_merged_root(
    repository: Repository, image: PublishedImage, blobs: Sequence[Descriptor]
) -> tuple[FlatRoot | None, str]:
    """The merged root of ``image``, whose layers are ``blobs``, or the reason why there is none:
    "" if the repository doesn't promise one. Raises RepositoryError."""
    place = layout.flat_directory(image.image_id.hex)
    path = printable(repository.tree.path(place))
    if repository.flat_root(image.image_id) is None:
        state = _state_of(repository.tree, place)
        return None, f"its merged root {path} is {state}" if image.linked else ""
    if repository.tree.is_empty(place) and _has_files(repository, blobs):
        return None, f"its merged root {path} is empty"
    return flat_root_at(repository.tree, place), ""


def _has_files(repository: Repository, blobs: Sequence[Descriptor]) -> bool:
    """Whether an image of these layers has files, as far as is known."""
    for blob in blobs:
        layer = repository.layer(blob.digest)
        # A layer that isn't there may have had files.
        if layer is None or max(blob.size, layer.diff_size or 0) > MAX_EMPTY:
            return True
        if not repository.tree.is_empty(
            f"{layout.layer_directory(blob.digest.hex)}/{layout.LAYERFS}"
        ):
            return True
    return False


def _state_of(tree: Tree, place: str) -> str:
    """Why a directory with files isn't used."""
    attributes = tree.lstat(place)
    if attributes is not None and stat.S_ISLNK(attributes.st_mode):
        return "a symbolic link"
    return "empty" if attributes is not None and stat.S_ISDIR(attributes.st_mode) else "missing"


def require_layers(repository: Repository, layers: Sequence[Layer], what: str) -> None:
    """Raise RepositoryError, whose message begins with ``what``, if the files of one of the
    ``layers`` aren't there."""
    for number, layer in enumerate(layers, 1):
        if layer.files is None:
            place = f"{layout.layer_directory(layer.blob.digest.hex)}/{layout.LAYERFS}"
            state = _state_of(repository.tree, place)
            path = printable(repository.tree.path(place))
            raise RepositoryError(f"{what}layer {number} of {len(layers)} is {state}: {path}", HINT)
