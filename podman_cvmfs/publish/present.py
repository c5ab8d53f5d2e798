# SPDX-License-Identifier: Apache-2.0
"""Finds the parts of an image that a repository already has, and checks whether they are
complete."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from podman_cvmfs.errors import InputError, RepositoryError
from podman_cvmfs.names.reference import ImageName
from podman_cvmfs.oci.documents import Digest, parse_config
from podman_cvmfs.oci.platform import Platform
from podman_cvmfs.publish import layout
from podman_cvmfs.publish.open_repository import OpenRepository
from podman_cvmfs.publish.source.image import SourceImage


def present_platform(directory: str, below: str | None, name: ImageName) -> Platform | None:
    """The platform of the repository's image with the name ``name``; None if unknown."""
    try:
        with OpenRepository(directory, below) as repository:
            target = repository.link_target(name.repository_path)
            config = Digest.parse(f"sha256:{os.path.basename(target or '')}")
            data = repository.read(layout.config_path(config))
        return None if data is None else parse_config(data).platform
    except (OSError, InputError, RepositoryError):
        return None


def held_document(
    directory: str, below: str | None, name: ImageName, digest: Digest
) -> bytes | None:
    """The config or the manifest with this digest that the repository has for the image ``name``.

    The content is checked. None if it isn't there, or can't be read.
    """
    try:
        with OpenRepository(directory, below) as repository:
            paths = [layout.config_path(digest)]
            image_id = os.path.basename(repository.link_target(name.repository_path) or "")
            with contextlib.suppress(InputError):
                image = Digest.parse(f"sha256:{image_id}")
                paths.append(layout.manifest_blob_path(image, digest))
            for path in paths:
                data = repository.read(path)
                if data is not None and Digest.of(data) == digest:
                    return data
    except (OSError, RepositoryError):
        pass
    return None


def is_complete(repository: OpenRepository, image: SourceImage) -> bool:
    """Whether the repository has the image already, with everything that belongs to it."""
    config, name = image.config, image.name
    target = repository.link_target(name.repository_path)
    if target != layout.link_target(name, config.digest):
        return False
    files = {
        layout.manifest_path(name): layout.manifest_document(image.manifest),
        **layout.blob_paths(image),
    }
    if any(repository.read(path) != data for path, data in files.items()):
        return False
    if not repository.has_directory(layout.flat_path(config.digest)):
        return False
    for layer, diff_id in zip(image.manifest.layers, config.diff_ids):
        path = layout.layer_path(layer.digest)
        if not repository.has_directory(path):
            return False
        if str(config.digest) not in origins(repository, path):
            return False
        check_layer(repository, path, layer.digest, diff_id)
    return True


def origins(repository: OpenRepository, path: str) -> list[str]:
    """The images that the layer at ``path`` belongs to. Raises OSError or RepositoryError."""
    where = f"{path}/{layout.ORIGIN_JSON}"
    data = repository.read(where)
    if data is None:
        return []
    with repository_fault():
        return layout.parse_origin(data, repository.shown(where))


def check_layer(repository: OpenRepository, path: str, blob: Digest, diff_id: Digest) -> None:
    """Raise RepositoryError unless the layer at ``path`` is complete and is the one that the image
    needs."""
    where = f"{path}/{layout.LAYERS_JSON}"
    data = repository.read(where)
    if data is None or not repository.has_directory(f"{path}/{layout.LAYERFS}"):
        raise RepositoryError(
            f"the layer {repository.shown(path)} is incomplete", "remove it and publish again"
        )
    with repository_fault():
        present = layout.parse_layers_json(data, repository.shown(where))
    if present != diff_id:
        raise InputError(
            f"layer {blob} holds {present}, not {diff_id} as the image's configuration says"
        )


@contextlib.contextmanager
def repository_fault() -> Iterator[None]:
    """A broken document in the repository is the repository's fault, not the input's."""
    try:
        yield
    except InputError as err:
        raise RepositoryError(err.message, err.hint) from None


def implied_directories(repository: OpenRepository, path: str) -> frozenset[bytes]:
    """The directories that the layer at ``path`` doesn't mention. Raises as ``origins`` does."""
    where = f"{path}/{layout.IMPLIED_JSON}"
    data = repository.read(where)
    with repository_fault():
        return layout.parse_implied(data or b"[]", repository.shown(where))
