# SPDX-License-Identifier: Apache-2.0
"""Publishes one image into a repository, either completely or not at all.

Everything is prepared aside and moved into place by renames. The order is: layers, flat root,
configuration, manifest, and last the public link. If the process is killed, the repository has at
most complete layers that no image uses yet.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from podman_cvmfs.errors import (
    RepositoryError,
    printable,
)
from podman_cvmfs.publish import layout
from podman_cvmfs.publish.exposure import check_exposure, make_directory
from podman_cvmfs.publish.open_repository import OpenRepository
from podman_cvmfs.publish.preparation import OpenLayer, Preparation, told_apart
from podman_cvmfs.publish.present import is_complete
from podman_cvmfs.publish.source.image import SourceImage
from podman_cvmfs.publish.workspace import Workspace
from podman_cvmfs.util.progress import bytes_done


@dataclass(frozen=True)
class Published:
    """The result for an image: how many different layers it has, and how many of them were new."""

    layers: int
    new_layers: int
    changed: bool


def check_directory(directory: str, assume_nosuid: bool = False) -> None:
    """Raise an error unless images can be published into ``directory``, or it can be made.

    Nothing is changed. ``assume_nosuid`` and the errors are those of ``check_exposure``.
    """
    shown = printable(directory)
    for part in (layout.LAYERS, layout.FLAT):
        if os.path.islink(os.path.join(directory, part)):
            raise RepositoryError(
                f"{shown}/{part} is a symbolic link, and no sync follows one there",
                "make the whole repository a link",
            )
    if os.path.isdir(directory):
        check_exposure(directory, assume_nosuid)
        return
    if os.path.lexists(directory):
        raise RepositoryError(f"the repository {shown} is not a directory")
    if not os.path.isdir(os.path.dirname(os.path.abspath(directory))):
        raise RepositoryError(f"the directory above the repository {shown} doesn't exist")
    check_exposure(directory, assume_nosuid)


def publish(
    directory: str,
    image: SourceImage,
    open_layer: OpenLayer,
    assume_nosuid: bool = False,
    max_size: int | None = None,
    below: str | None = None,
    profile: bytes | None = None,
) -> Published:
    """Publish ``image`` in the repository ``directory``, which is made if it is missing.

    ``open_layer`` gives a layer's blob. With ``assume_nosuid`` the caller vouches that users reach
    the repository only where it is mounted with nosuid and nodev. ``max_size`` is how many bytes
    the image may take unpacked; if not given, ``Budget`` says it. What the repository ``below``
    has isn't published again. ``profile`` is the image's start-up profile.

    Raises InputError for an image that is damaged or malicious, RepositoryError if the repository
    can't be written, RegistryError from ``open_layer`` or if a registry gave a wrong blob; the
    repository then has no new image and keeps its old ones.
    """
    try:
        make_directory(directory, assume_nosuid)
        with told_apart(), OpenRepository(directory, below) as repository:
            return _publish(repository, image, open_layer, max_size, profile)
    except OSError as err:
        reason = err.strerror or str(err)
        full = err.errno in (errno.ENOSPC, errno.EDQUOT)
        raise RepositoryError(
            f"{image.name}: can't publish into {printable(directory)}: {reason}",
            "nothing was changed; make room and publish again" if full else None,
        ) from None


def _publish(
    repository: OpenRepository,
    image: SourceImage,
    open_layer: OpenLayer,
    max_size: int | None,
    profile: bytes | None,
) -> Published:
    layers = {layer.digest: layer for layer in image.manifest.layers}
    told = layout.profile_path(image.config.digest)
    if is_complete(repository, image) and profile in (None, repository.read(told)):
        return Published(len(layers), 0, False)
    with Workspace(repository) as space, contextlib.ExitStack() as stack:
        preparation = Preparation(space, image, stack, max_size)
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
            if profile is not None:
                changed |= space.put_file(told, profile)
        return Published(len(layers), new, changed)


def _counted(pieces: Iterator[bytes], done: Callable[[int], None]) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        done(len(piece))
