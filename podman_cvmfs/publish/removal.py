# SPDX-License-Identifier: Apache-2.0
"""Removes images from a repository: first their names, and what nobody needs after a grace.

Only what we have published is removed, and of that only what no public link leads to, whoever made
the link. A layer stays as long as any image is noted in its ``origin.json``, where DUCC notes its
images as well.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from podman_cvmfs.errors import InputError
from podman_cvmfs.names.reference import ImageName
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.publish import layout
from podman_cvmfs.publish.open_repository import OpenRepository
from podman_cvmfs.publish.ownership import PublishedRecord, read_record, records
from podman_cvmfs.publish.present import origins
from podman_cvmfs.publish.unpack.safe_tree import remove
from podman_cvmfs.publish.workspace import Workspace
from podman_cvmfs.repository.layout import MULTIARCH, holds_no_names, image_directory, profile_file

#: No name that a registry takes has more parts.
_MAX_DEPTH = 128


@dataclass
class Removal:
    """What was removed, or would be: public names, image IDs, and blob digests of layers.

    ``waiting`` are the images that nobody names, and whose grace isn't over.
    """

    names: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    layers: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)


def our_names(repository: OpenRepository) -> dict[str, Digest]:
    """The public links that we have made, by their paths, and the images that they lead to.

    Raises RepositoryError, OSError.
    """
    owned = {}
    for record in records(repository):
        for name in record.names:
            if _image_at(repository, name) == record.image:
                owned[name] = record.image
    return owned


def remove_images(
    repository: OpenRepository,
    chosen: Callable[[str], bool],
    grace: int,
    now: int,
    dry_run: bool = False,
) -> Removal:
    """Remove those of our names that are ``chosen`` (by the link's path), and collect.

    An image leaves the repository ``grace`` seconds after a removal has found no name for it.
    ``now`` is in seconds since 1970. Raises RepositoryError, OSError.
    """
    if dry_run:
        return _removed(repository, None, chosen, grace, now)
    with Workspace(repository) as space, space.locked():
        return _removed(repository, space, chosen, grace, now)


def _removed(
    repository: OpenRepository,
    space: Workspace | None,
    chosen: Callable[[str], bool],
    grace: int,
    now: int,
) -> Removal:
    """The same with ``space``; without one nothing is changed."""
    done = Removal()
    for name, image in sorted(our_names(repository).items()):
        if chosen(name):
            done.names.append(name)
            if space is not None:
                _remove_name(space, name, image)
    gone = set(done.names)
    used = {image for name, image in links(repository) if name not in gone}
    for record in list(records(repository)):
        changed = record
        if record.image in used:
            changed = replace(record, unused_since=None)
        elif record.unused_since is None or record.unused_since > now:
            changed = replace(record, unused_since=now)
        if changed.unused_since is not None and changed.unused_since <= now - grace:
            done.images.append(record.image.hex)
            done.layers += _remove_image(repository, space, record)
            continue
        if changed.unused_since is not None:
            done.waiting.append(record.image.hex)
        if changed != record and space is not None:
            space.put_file(record.path, changed.render())
    return done


def chosen_names(repository: OpenRepository, names: Sequence[ImageName]) -> list[str]:
    """The paths of the links of ``names``. Raises InputError for an image that isn't ours."""
    ours = our_names(repository)
    for name in names:
        if name.repository_path not in ours:
            raise InputError(
                f"{name} was not published into {repository.shown('')} by podman-cvmfs",
                "only images that podman-cvmfs has published can be removed",
            )
    return [name.repository_path for name in names]


def _image_at(repository: OpenRepository, link: str) -> Digest | None:
    target = repository.link_target(link)
    try:
        return Digest.parse(f"sha256:{os.path.basename(target or '')}")
    except InputError:
        return None


def links(repository: OpenRepository) -> Iterator[tuple[str, Digest]]:
    """All public links, whoever made them, with the images that they lead to."""
    pending = [(name, 1) for name in repository.names("") if not holds_no_names(name)]
    pending += [(f"{MULTIARCH}/{name}", 0) for name in repository.names(MULTIARCH)]
    while pending:
        path, depth = pending.pop()
        image = _image_at(repository, path)
        if image is not None:
            yield path, image
        elif depth <= _MAX_DEPTH and repository.link_target(path) is None:
            pending += [(f"{path}/{name}", depth + 1) for name in repository.names(path)]


def _remove_name(space: Workspace, name: str, image: Digest) -> None:
    repository = space.repository
    _discard(space, name)
    with contextlib.suppress(FileNotFoundError):
        _discard(space, os.path.dirname(layout.manifest_path_at(name)))
    record = read_record(repository, image)
    if record is not None:
        names = tuple(each for each in record.names if each != name)
        space.put_file(record.path, replace(record, names=names).render())
    _remove_empty(repository, os.path.dirname(name))


def _remove_image(
    repository: OpenRepository, space: Workspace | None, record: PublishedRecord
) -> list[str]:
    """Remove an image and its layers that no other image has; the digests of these."""
    image = str(record.image)
    going = []
    for layer in dict.fromkeys(record.layers):
        path = layout.layer_path(layer)
        if not repository.has_directory(path):
            continue
        noted = origins(repository, path)
        if image not in noted:
            # Somebody else is just making it.
            continue
        others = [each for each in noted if each != image]
        if not others:
            going.append(str(layer))
        if space is None:
            continue
        if others:
            space.put_file(f"{path}/{layout.ORIGIN_JSON}", layout.render_origin(others))
        else:
            _discard(space, path)
    if space is not None:
        # The record last: who is killed before goes on with it the next time.
        for path in (
            layout.flat_path(record.image),
            image_directory(record.image.hex),
            profile_file(record.image.hex),
            record.path,
        ):
            with contextlib.suppress(FileNotFoundError):
                _discard(space, path)
    return going


def _discard(space: Workspace, path: str) -> None:
    """Remove a file or a tree: at once for who looks, by a rename into the workspace."""
    with space.repository.above(path) as above:
        name = os.path.basename(path)
        try:
            os.rename(name, space.fresh(), src_dir_fd=above, dst_dir_fd=space.fd)
        except OSError as err:
            # In a transaction of CernVM-FS, directories of the published state don't move.
            if err.errno != errno.EXDEV:
                raise
            remove(os.fsencode(name), above)


def _remove_empty(repository: OpenRepository, directory: str) -> None:
    """Remove a directory of names, and those above it, as long as they are empty."""
    while directory:
        try:
            with repository.above(directory) as above:
                os.rmdir(os.path.basename(directory), dir_fd=above)
        except OSError:
            return
        directory = os.path.dirname(directory)
