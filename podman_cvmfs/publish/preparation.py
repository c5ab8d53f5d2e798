# SPDX-License-Identifier: Apache-2.0
"""An image's parts on their way into a repository: prepared aside, then moved into place."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator

from podman_cvmfs.errors import InputError, PodmanCvmfsError, RegistryError, RepositoryError
from podman_cvmfs.lists.layer_stream import LayerStream, WrongBlobError
from podman_cvmfs.names.reference import ImageName
from podman_cvmfs.oci.documents import Descriptor, Digest
from podman_cvmfs.publish import layout, singularity
from podman_cvmfs.publish.ownership import PublishedRecord, read_record
from podman_cvmfs.publish.present import check_layer, implied_directories, origins
from podman_cvmfs.publish.source.budget import Budget
from podman_cvmfs.publish.source.image import SourceImage
from podman_cvmfs.publish.unpack.layer import unpack
from podman_cvmfs.publish.unpack.merge import Layer, Merger
from podman_cvmfs.publish.workspace import Workspace, write_file
from podman_cvmfs.util.below import OPEN_DIRECTORY

OpenLayer = Callable[[Descriptor], Iterator[bytes]]


@contextlib.contextmanager
def told_apart() -> Iterator[None]:
    """Turn errors for names that no file system accepts into errors of the image, not of the
    repository."""
    try:
        yield
    except OSError as err:
        if err.errno not in (errno.ENAMETOOLONG, errno.ELOOP):
            raise
        raise InputError(f"the image holds an impossible name: {err.strerror}") from None


def _removed(name: ImageName, shown: str) -> RepositoryError:
    return RepositoryError(
        f"{name}: {shown} was removed while the image was prepared", "publish it again"
    )


class Preparation:
    """An image's parts on their way into the repository; ``stack`` closes what it opens."""

    def __init__(
        self,
        space: Workspace,
        image: SourceImage,
        stack: contextlib.ExitStack,
        max_size: int | None,
    ) -> None:
        self._budget = Budget(max_size, space.fd)
        self._space = space
        self._repository = space.repository
        self._image = image
        self._stack = stack
        self._diff_ids = {
            layer.digest: diff_id
            for layer, diff_id in zip(image.manifest.layers, image.config.diff_ids)
        }
        #: Blob digest -> the name that the layer has in the workspace.
        self._new_layers: dict[Digest, str] = {}
        self._implied: dict[Digest, frozenset[bytes]] = {}
        self._flat: str | None = None

    @property
    def made(self) -> bool:
        """Whether anything was written that has to reach the disk."""
        return bool(self._new_layers or self._flat)

    def layer(self, layer: Descriptor, open_layer: OpenLayer) -> bool:
        """Unpack ``layer``; False if the repository has it already."""
        diff_id = self._diff_ids[layer.digest]
        present = layout.layer_path(layer.digest)
        if self._repository.has_directory(present):
            check_layer(self._repository, present, layer.digest, diff_id)
            return False
        place = self._space.fresh()
        for directory in (place, f"{place}/{layout.LAYERFS}", f"{place}/{layout.METADATA}"):
            self._make(directory, 0o755)
        stream = LayerStream(open_layer(layer), layer, diff_id, self._budget)
        root = self._open(f"{place}/{layout.LAYERFS}")
        try:
            implied = self._unpack(layer, stream, root)
        finally:
            os.close(root)
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
            write_file(f"{place}/{name}", self._space.fd, data)
        self._new_layers[layer.digest] = place
        self._implied[layer.digest] = implied
        return True

    def _make(self, path: str, mode: int) -> None:
        """Make a directory in the workspace, with this mode whatever the umask is."""
        os.mkdir(path, mode, dir_fd=self._space.fd)
        os.chmod(path, mode, dir_fd=self._space.fd)

    def _open(self, path: str) -> int:
        """A descriptor of a directory that we have made in the workspace."""
        return os.open(path, OPEN_DIRECTORY, dir_fd=self._space.fd)

    def _unpack(self, layer: Descriptor, stream: LayerStream, root: int) -> frozenset[bytes]:
        """Unpack a layer, and name it if that fails."""
        what = f"{self._image.name}: layer {layer.digest}: "
        try:
            try:
                with told_apart():
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
        """Merge the layers, unless the repository has this image's flat root."""
        config = self._image.config
        if self._repository.has_directory(layout.flat_path(config.digest)):
            return
        place = self._space.fresh()
        self._make(place, 0o700)
        root = self._open(place)
        self._stack.callback(os.close, root)
        merger = Merger(root)
        layers: dict[Digest, Layer] = {}
        for each in self._image.manifest.layers:
            if each.digest not in layers:
                layers[each.digest] = self._unpacked(each.digest)
                merger.add(layers[each.digest])
            else:
                # A manifest may name one layer as often as it likes.
                merger.add(layers[each.digest], self._budget.spend)
        singularity.add_files(root, config)
        merger.finish()
        self._flat = place

    def _unpacked(self, digest: Digest) -> Layer:
        """A layer that is in the workspace or in the repository."""
        place = self._new_layers.get(digest)
        if place is not None:
            root = self._open(f"{place}/{layout.LAYERFS}")
            self._stack.callback(os.close, root)
            return Layer(root, self._implied[digest])
        path = layout.layer_path(digest)
        root = self._repository.open_directory(f"{path}/{layout.LAYERFS}")
        self._stack.callback(os.close, root)
        return Layer(root, implied_directories(self._repository, path))

    def commit(self) -> bool:
        """Move everything into place, under the lock; False if nothing had to be changed.

        Raises OSError, RepositoryError.
        """
        space, config, name = self._space, self._image.config, self._image.name
        changed = is_new = False
        flat = layout.flat_path(config.digest)
        record = read_record(self._repository, config.digest)
        if record is None and self._flat is not None and not self._repository.has_directory(flat):
            # Whoever makes the merged root decides when it goes. If we are killed, unpublish finds
            # by the record what we have left.
            record = PublishedRecord(config.digest, (), tuple(self._diff_ids))
            changed |= space.put_file(record.path, record.render())
        for digest in self._diff_ids:
            path = layout.layer_path(digest)
            if digest in self._new_layers:
                is_new |= space.put_directory(self._new_layers[digest], path)
            elif not self._repository.has_directory(f"{path}/{layout.LAYERFS}"):
                raise _removed(name, self._repository.shown(path))
            origin = origins(self._repository, path)
            if str(config.digest) not in origin:
                origin_json = f"{path}/{layout.ORIGIN_JSON}"
                changed |= space.put_file(
                    origin_json, layout.render_origin([*origin, str(config.digest)])
                )
        if self._flat is not None:
            is_new |= space.put_directory(self._flat, flat)
        elif not self._repository.has_directory(flat):
            raise _removed(name, self._repository.shown(flat))
        for path, data in layout.blob_paths(self._image).items():
            changed |= space.put_file(path, data)
        changed |= space.put_file(
            layout.manifest_path(name), layout.manifest_document(self._image.manifest)
        )
        target = layout.link_target(name, config.digest)
        if record is not None and self._repository.link_target(name.repository_path) != target:
            changed |= space.put_file(record.path, record.named(name.repository_path).render())
        changed |= space.put_link(name.repository_path, target)
        return changed or is_new
