# SPDX-License-Identifier: Apache-2.0
"""Publishes one image into a repository: all of it, or nothing that anybody would find.

Everything is prepared aside and moved into place by renames, what is referred to before what
refers to it: layers, flat root, configuration, manifest, and last the public link. Cut off
anywhere, the repository holds at most complete layers that no image uses yet.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from podman_cvmfs.errors import (
    InputError,
    PodmanCvmfsError,
    RegistryError,
    RepositoryError,
    printable,
)
from podman_cvmfs.names.reference import ImageName
from podman_cvmfs.oci.documents import Descriptor, Digest, parse_config
from podman_cvmfs.oci.platform import Platform
from podman_cvmfs.publish import layout, singularity
from podman_cvmfs.publish.source.image import SourceImage
from podman_cvmfs.publish.source.layer_stream import LayerStream, WrongBlobError
from podman_cvmfs.publish.unpack.layer import unpack
from podman_cvmfs.publish.unpack.merge import Layer, Merger
from podman_cvmfs.publish.workspace import Workspace, read_if_there, write_file
from podman_cvmfs.util.progress import bytes_done

OpenLayer = Callable[[Descriptor], Iterator[bytes]]


@dataclass(frozen=True)
class Published:
    """What became of an image: how many different layers it has, how many of them were new."""

    layers: int
    new_layers: int
    changed: bool


def check_directory(directory: str) -> None:
    """Raise RepositoryError unless ``directory`` is one into which can be published, or can be
    made."""
    shown = printable(directory)
    for part in (layout.LAYERS, layout.FLAT):
        if os.path.islink(os.path.join(directory, part)):
            raise RepositoryError(
                f"{shown}/{part} is a symbolic link, and no sync follows one there",
                "make the whole repository a link, or mount something there",
            )
    if os.path.isdir(directory):
        return
    if os.path.lexists(directory):
        raise RepositoryError(f"the repository {shown} is not a directory")
    if not os.path.isdir(os.path.dirname(os.path.abspath(directory))):
        raise RepositoryError(f"the directory above the repository {shown} doesn't exist")


def present_platform(directory: str, name: ImageName) -> Platform | None:
    """What the image is for that ``name`` leads to in the repository; None if nothing tells."""
    try:
        target = os.readlink(os.path.join(directory, name.repository_path))
        config = Digest.parse(f"sha256:{os.path.basename(target)}")
        data = read_if_there(os.path.join(directory, layout.config_path(config)))
        return None if data is None else parse_config(data).platform
    except (OSError, InputError):
        return None


def publish(directory: str, image: SourceImage, open_layer: OpenLayer) -> Published:
    """Publish ``image`` in the repository ``directory``, which is made if it is missing.

    ``open_layer`` gives a layer's blob. Raises InputError for an image that is damaged or
    malicious, RepositoryError if the repository can't be written, RegistryError from
    ``open_layer`` or if a registry gave a wrong blob; the repository then has no new image and
    keeps those it had.
    """
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory)
        with _told_apart():
            return _publish(directory, image, open_layer)
    except OSError as err:
        reason = err.strerror or str(err)
        full = err.errno in (errno.ENOSPC, errno.EDQUOT)
        raise RepositoryError(
            f"{image.name}: can't publish into {printable(directory)}: {reason}",
            "nothing was changed; make room and publish again" if full else None,
        ) from None


@contextlib.contextmanager
def _told_apart() -> Iterator[None]:
    """Names that no file system takes are the image's fault, not the repository's."""
    try:
        yield
    except OSError as err:
        if err.errno not in (errno.ENAMETOOLONG, errno.ELOOP):
            raise
        raise InputError(f"the image holds an impossible name: {err.strerror}") from None


def _publish(directory: str, image: SourceImage, open_layer: OpenLayer) -> Published:
    layers = {layer.digest: layer for layer in image.manifest.layers}
    if _is_complete(directory, image):
        return Published(len(layers), 0, False)
    with Workspace(directory) as space, contextlib.ExitStack() as stack:
        preparation = _Preparation(space, image, stack)
        new = 0
        total = sum(layer.size for layer in layers.values())
        with bytes_done(total, f"Unpacking {image.name}") as done:
            for layer in layers.values():
                if preparation.layer(layer, lambda each: _counted(open_layer(each), done)):
                    new += 1
                else:
                    done(layer.size)
        preparation.flat()
        if preparation.made:
            space.flush()
        with space.locked():
            changed = preparation.commit()
        return Published(len(layers), new, changed)


def _counted(pieces: Iterator[bytes], done: Callable[[int], None]) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        done(len(piece))


def _is_complete(directory: str, image: SourceImage) -> bool:
    """Whether the repository has the image already, with everything that belongs to it."""
    config, name = image.config, image.name
    link = os.path.join(directory, name.repository_path)
    if not os.path.islink(link) or os.readlink(link) != layout.link_target(name, config.digest):
        return False
    files = {
        layout.manifest_path(name): layout.manifest_document(image.manifest),
        **layout.blob_paths(image),
    }
    if any(read_if_there(os.path.join(directory, path)) != data for path, data in files.items()):
        return False
    if not os.path.isdir(os.path.join(directory, layout.flat_path(config.digest))):
        return False
    for layer, diff_id in zip(image.manifest.layers, config.diff_ids):
        path = os.path.join(directory, layout.layer_path(layer.digest))
        if not os.path.isdir(path) or str(config.digest) not in _origin(path):
            return False
        _check_diff_id(path, layer.digest, diff_id)
    return True


def _origin(path: str) -> list[str]:
    where = os.path.join(path, layout.ORIGIN_JSON)
    data = read_if_there(where)
    if data is None:
        return []
    with _repository_fault():
        return layout.parse_origin(data, printable(where))


def _check_diff_id(path: str, blob: Digest, diff_id: Digest) -> None:
    """RepositoryError unless the layer at ``path`` is whole and is what the image expects."""
    where = os.path.join(path, layout.LAYERS_JSON)
    data = read_if_there(where)
    if data is None or not os.path.isdir(os.path.join(path, layout.LAYERFS)):
        raise RepositoryError(
            f"the layer {printable(path)} is incomplete", "remove it and publish again"
        )
    with _repository_fault():
        present = layout.parse_layers_json(data, printable(where))
    if present != diff_id:
        raise InputError(
            f"layer {blob} holds {present}, not {diff_id} as the image's configuration says"
        )


@contextlib.contextmanager
def _repository_fault() -> Iterator[None]:
    """A broken document in the repository is the repository's fault, not the input's."""
    try:
        yield
    except InputError as err:
        raise RepositoryError(err.message, err.hint) from None


class _Preparation:
    """An image's parts on their way into the repository; ``stack`` closes what it opens."""

    def __init__(self, space: Workspace, image: SourceImage, stack: contextlib.ExitStack) -> None:
        self._space = space
        self._image = image
        self._stack = stack
        self._diff_ids = {
            layer.digest: diff_id
            for layer, diff_id in zip(image.manifest.layers, image.config.diff_ids)
        }
        #: Blob digest -> where the layer is now, prepared or in the repository.
        self._places: dict[Digest, str] = {}
        self._new_layers: dict[Digest, str] = {}
        self._flat: str | None = None

    @property
    def made(self) -> bool:
        """Whether anything was written that has to reach the disk."""
        return bool(self._new_layers or self._flat)

    def layer(self, layer: Descriptor, open_layer: OpenLayer) -> bool:
        """Have ``layer`` unpacked; False if the repository has it already."""
        diff_id = self._diff_ids[layer.digest]
        present = os.path.join(self._space.directory, layout.layer_path(layer.digest))
        if os.path.isdir(present):
            _check_diff_id(present, layer.digest, diff_id)
            self._places[layer.digest] = present
            return False
        place = self._space.fresh()
        for directory in (place, f"{place}/{layout.LAYERFS}", f"{place}/{layout.METADATA}"):
            os.mkdir(directory)
            os.chmod(directory, 0o755)
        stream = LayerStream(open_layer(layer), layer, diff_id)
        implied = self._unpack(layer, stream, self._open(f"{place}/{layout.LAYERFS}"))
        config = self._image.config
        documents = {
            layout.LAYERS_JSON: layout.render_layers_json(
                layer.digest, diff_id, stream.size, config
            ),
            layout.ORIGIN_JSON: layout.render_origin([str(config.digest)]),
        }
        if implied:
            documents[layout.IMPLIED_JSON] = layout.render_implied(implied)
        for name, data in documents.items():
            write_file(os.path.join(place, name), data)
        self._places[layer.digest] = self._new_layers[layer.digest] = place
        return True

    def _unpack(self, layer: Descriptor, stream: LayerStream, root: int) -> frozenset[bytes]:
        """Unpack a layer, and name it if that fails."""
        what = f"{self._image.name}: layer {layer.digest}: "
        try:
            try:
                with _told_apart():
                    return unpack(stream, root)
            except InputError:
                # If it isn't the layer at all, that is what is to be said.
                stream.check_blob()
                raise
        except WrongBlobError as err:
            if self._image.is_from_registry:
                raise RegistryError(f"{what}the registry sent wrong data: {err.message}") from None
            raise InputError(f"{what}the blob is damaged: {err.message}") from None
        except PodmanCvmfsError as err:
            message = err.message.removeprefix(f"{self._image.name}: ")
            raise type(err)(what + message, err.hint) from None

    def flat(self) -> None:
        """Have the layers merged, unless the repository has this image's flat root."""
        config = self._image.config
        if os.path.isdir(os.path.join(self._space.directory, layout.flat_path(config.digest))):
            return
        place = self._space.fresh()
        os.mkdir(place)
        merger = Merger(self._open(place))
        for layer in self._image.manifest.layers:
            where = self._places[layer.digest]
            implied_json = os.path.join(where, layout.IMPLIED_JSON)
            data = read_if_there(implied_json)
            with _repository_fault():
                implied = layout.parse_implied(data or b"[]", printable(implied_json))
            merger.add(Layer(self._open(os.path.join(where, layout.LAYERFS)), implied))
        singularity.add_files(merger.root, config)
        merger.finish()
        self._flat = place

    def _open(self, path: str) -> int:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._stack.callback(os.close, fd)
        return fd

    def commit(self) -> bool:
        """Move everything into place, under the lock; False if nothing had to be changed."""
        space, config, name = self._space, self._image.config, self._image.name
        changed = False
        for digest in self._places:
            path = layout.layer_path(digest)
            if digest in self._new_layers:
                changed |= space.put_directory(self._new_layers[digest], path)
            origin = _origin(os.path.join(space.directory, path))
            if str(config.digest) not in origin:
                origin_json = f"{path}/{layout.ORIGIN_JSON}"
                changed |= space.put_file(
                    origin_json, layout.render_origin([*origin, str(config.digest)])
                )
        if self._flat is not None:
            changed |= space.put_directory(self._flat, layout.flat_path(config.digest))
        for path, data in layout.blob_paths(self._image).items():
            changed |= space.put_file(path, data)
        changed |= space.put_file(
            layout.manifest_path(name), layout.manifest_document(self._image.manifest)
        )
        changed |= space.put_link(name.repository_path, layout.link_target(name, config.digest))
        return changed
