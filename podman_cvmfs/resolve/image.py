# SPDX-License-Identifier: Apache-2.0
"""A complete image, with everything that a store needs. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from podman_cvmfs.oci.documents import Descriptor, Digest, ImageConfig
from podman_cvmfs.repository.whiteouts import Markers
from podman_cvmfs.resolve.manifest import REBUILT
from podman_cvmfs.resolve.skeleton import Skeleton
from podman_cvmfs.settings.policy import Policy, Reuse, View


class FileList(NamedTuple):
    """The list of a layer's files."""

    #: Of the list's content, in hexadecimal.
    digest: str
    #: The repository that holds the layer's files: an absolute path.
    root: str
    #: The bytes of the layer's tar, if its tar-split is known.
    tar_size: int | None = None


@dataclass(frozen=True)
class Layer:
    """A layer of a complete image: its ID in the chain, its digests, and its unpacked files.

    ``files`` is the absolute path of them, None if the repository hasn't got them or nobody needs
    them. ``diff_size``
    is in bytes, uncompressed. ``markers`` is None where nobody has looked. ``skeleton`` is of the
    layer on its parents, ``own_skeleton`` of the layer alone, where pulls may find it so.
    """

    layer_id: str
    diff_id: Digest
    blob: Descriptor
    files: str | None
    diff_size: int
    markers: Markers | None = None
    skeleton: Skeleton | None = None
    own_skeleton: Skeleton | None = None
    #: None where nobody has a list, or the list isn't needed.
    listed: FileList | None = None


@dataclass(frozen=True)
class FlatRoot:
    """A merged root."""

    #: Absolute.
    path: str
    #: Directories that lost their sticky bit.
    lost_sticky: tuple[str, ...] = ()
    #: Bytes in all its files, if that is known.
    size: int | None = None
    #: Whether the image's only layer has lost the owners of its files.
    is_better: bool = False


@dataclass(frozen=True)
class ResolvedImage:
    """An image with everything that a store needs.

    ``source_id`` is the ID the repository gives it. ``manifest`` is the registry's, byte for byte,
    or rebuilt, as ``manifest_origin`` says; ``index`` is the one that lists it, if known.
    ``skeleton`` are the local directories above its files. ``givable`` are the IDs of the users who
    may own local directories of it, None for all users.
    """

    source_id: Digest
    config: ImageConfig
    config_origin: str
    manifest: bytes
    layers: tuple[Layer, ...]
    flat: FlatRoot | None
    manifest_origin: str = REBUILT
    index: bytes | None = None
    skeleton: Skeleton = field(default_factory=Skeleton)
    givable: frozenset[int] | None = None
    #: What the user is to be told of it.
    notices: tuple[str, ...] = ()

    def shown_by(self, policy: Policy) -> View:
        """How the image is shown under ``policy``: flat, layers or exact."""
        return view_shown(policy, self.layers, self.flat)


def can_be_pushed(policy: Policy, layers: Sequence[Layer]) -> bool:
    """Whether podman can make the tars of ``layers`` again, which are shown exactly, and pulls may
    use them."""
    return policy.reuse is not Reuse.NONE and all(
        layer.listed is not None and layer.listed.tar_size is not None for layer in layers
    )


def view_shown(policy: Policy, layers: Sequence[Layer], flat: FlatRoot | None) -> View:
    """How an image is shown. Its layers are shown exactly if all of them have file lists. Else a
    single layer is the whole image, and right unless it has lost the owners. Then setuid programs
    run as a wrong user, and even root's ``su`` fails. A merged root has lost such bits, and may
    have the owners."""
    is_listed = all(layer.listed is not None and layer.files is not None for layer in layers)
    if policy.exact and layers and is_listed:
        return View.EXACT
    if policy.view is View.LAYERS or (policy.view is not View.FLAT and flat is None):
        return View.LAYERS
    is_whole = len(layers) == 1 and layers[0].files is not None
    return View.LAYERS if is_whole and not (flat and flat.is_better) else View.FLAT
