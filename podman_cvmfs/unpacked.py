# SPDX-License-Identifier: Apache-2.0
"""Read a repository of unpacked images: DUCC's tree, and nothing else knows it.

Layout (CernVM-FS 2.12, ``ducc/lib``), relative to the repository's root::

    <registry>/<repository>:<tag>                  link -> ../../.flat/<2>/<config hex>
    .flat/<2>/<config hex>/                        merged root file system
    .layers/<2>/<blob hex>/layerfs/                one layer, unpacked
    .layers/<2>/<blob hex>/.metadata/layers.json   its diff ID and size
    .metadata/<registry>/<repository>:<tag>/manifest.json
    podmanStore/overlay-images/<config hex>/=<base64 of "sha256:<config hex>">

A digest-only image is ``<repository>:sha256:<hex>``; its manifest lies at
``.metadata/<registry>/<repository>/manifest.json``.
"""

from __future__ import annotations

import os
import posixpath
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from podman_cvmfs.errors import InputError, PodmanCvmfsError, RepositoryError, printable
from podman_cvmfs.oci import MAX_DOCUMENT, Digest, Manifest, parse_json, parse_manifest
from podman_cvmfs.reference import ImageName, parse_repository_path
from podman_cvmfs.store.layout import big_data_file, manifest_digest_of
from podman_cvmfs.tree import Tree

_FLAT_TARGET = re.compile(r"\.flat/([0-9a-f]{2})/(\1[0-9a-f]{62})\Z")
#: No registry nests its repositories deeper; a tree that does is not DUCC's.
_MAX_DEPTH = 24


@dataclass(frozen=True)
class PublishedImage:
    """An image that the repository offers under ``name``.

    ``image_id`` is the digest of its config. ``linked`` says whether a public link leads to a
    merged root; without one DUCC has published the image's layers only.
    """

    name: ImageName
    image_id: Digest
    linked: bool


@dataclass(frozen=True)
class PublishedLayer:
    """One unpacked layer: the absolute path of its files, and what layers.json says of it."""

    files: str
    diff_id: Digest | None
    diff_size: int | None


@dataclass(frozen=True)
class Problem:
    """A thing in the repository, by its path, that can't be used, and why."""

    path: str
    error: PodmanCvmfsError


class Repository:
    """The repository whose root is the directory ``root``."""

    def __init__(self, root: str) -> None:
        """Raises RepositoryError where there is no directory or it can't be listed."""
        self.tree = Tree(root)
        self.root = self.tree.root
        try:
            os.listdir(self.root)
        except FileNotFoundError:
            raise RepositoryError(
                f"no such repository: {printable(self.root)}",
                "is it mounted? name another one with --repository DIR",
            ) from None
        except NotADirectoryError:
            raise RepositoryError(
                f"not a repository: {printable(self.root)} is not a directory",
                "name the repository's top directory with --repository DIR",
            ) from None
        except OSError as err:
            raise RepositoryError(
                f"can't read the repository {printable(self.root)}: {err.strerror}"
            ) from err

    def images(self, problems: list[Problem]) -> Iterator[PublishedImage]:
        """Yield all images in order of path; what can't be used is added to ``problems``.

        Public links are enough to know name and ID of most images; a manifest is read only of
        an image that has no public link.
        """
        linked = set()
        for path in self._public_links("", 0, problems):
            linked.add(path)
            image = self._linked_image(path, problems)
            if image is not None:
                yield image
        for path in self._described("", 0, problems):
            if path not in linked:
                image = self._layers_only_image(path, problems)
                if image is not None:
                    yield image

    def _public_links(self, directory: str, depth: int, problems: list[Problem]) -> Iterator[str]:
        for entry in self._listed(directory, problems):
            path = f"{directory}/{entry.name}" if directory else entry.name
            if entry.is_symlink():
                if depth > 0 and ":" in entry.name:
                    yield path
            elif depth == 0 and (entry.name.startswith(".") or entry.name == "podmanStore"):
                continue  # DUCC's own
            elif depth < _MAX_DEPTH and entry.is_dir(follow_symlinks=False):
                yield from self._public_links(path, depth + 1, problems)

    def _described(self, directory: str, depth: int, problems: list[Problem]) -> Iterator[str]:
        """Yield the paths below ``.metadata`` that end in the name of a tag."""
        for entry in self._listed(f".metadata/{directory}".rstrip("/"), problems):
            if entry.is_dir(follow_symlinks=False):
                path = f"{directory}/{entry.name}" if directory else entry.name
                if depth > 0 and ":" in entry.name:
                    yield path
                elif depth < _MAX_DEPTH:
                    yield from self._described(path, depth + 1, problems)

    def _listed(self, directory: str, problems: list[Problem]) -> Iterator[os.DirEntry[str]]:
        try:
            # A repository that is unmounted now must not look like one from which images left.
            yield from self.tree.entries(directory, required=directory != ".metadata")
        except RepositoryError as err:
            problems.append(Problem(directory, err))

    def _linked_image(self, path: str, problems: list[Problem]) -> PublishedImage | None:
        try:
            name = parse_repository_path(path)
            target = self.tree.readlink(path)
            if target is None:
                raise RepositoryError(f"the public link {printable(path)} vanished while listed")
            match = _FLAT_TARGET.match(self._inside(path, target))
            if match is None:
                raise RepositoryError(
                    f"the public link {printable(path)} leads to {printable(target)!r}, "
                    "not to a merged root below .flat"
                )
        except (InputError, RepositoryError) as err:
            problems.append(Problem(path, err))
            return None
        return PublishedImage(name, Digest(match.group(2)), linked=True)

    def _inside(self, path: str, target: str) -> str:
        """``target`` of the link at ``path``, relative to the repository's root."""
        if target.startswith(self.root + "/"):
            return posixpath.normpath(target[len(self.root) + 1 :])
        return posixpath.normpath(posixpath.join(posixpath.dirname(path), target))

    def _layers_only_image(self, path: str, problems: list[Problem]) -> PublishedImage | None:
        try:
            name = parse_repository_path(path)
            manifest = self._read_manifest(f".metadata/{path}/manifest.json")
            if manifest is None and self.tree.lstat(f".metadata/{path}") is None:
                raise RepositoryError(f".metadata/{printable(path)} vanished while listed")
        except (InputError, RepositoryError) as err:
            problems.append(Problem(path, err))
            return None
        if manifest is None:
            return None
        return PublishedImage(name, manifest.config.digest, linked=False)

    def _read_manifest(self, path: str) -> Manifest | None:
        data = self.tree.read(path, MAX_DOCUMENT)
        if data is None:
            return None
        try:
            return parse_manifest(data, printable(self.tree.path(path)))
        except InputError as err:
            raise RepositoryError(err.message, err.hint) from None

    def manifest(self, image: PublishedImage) -> Manifest:
        """The manifest of ``image`` as DUCC recorded it.

        Raises RepositoryError where there is none, or it describes another image: then DUCC is
        just publishing a new one under this name.
        """
        name = image.name
        place = f"{name.registry}/{name.repository}" if name.tag is None else name.repository_path
        path = f".metadata/{place}/manifest.json"
        manifest = self._read_manifest(path)
        if manifest is None:
            raise RepositoryError(f"{name} has no manifest: {path} is missing")
        if manifest.config.digest != image.image_id:
            raise RepositoryError(
                f"the manifest of {name} is of the image {manifest.config.digest.hex[:12]}, "
                f"but its public link leads to {image.image_id.hex[:12]}",
                "it is being published right now, or broken: sync again later",
            )
        return manifest

    def config_blob(self, digest: Digest) -> bytes | None:
        """The config that DUCC's own podman store holds under ``digest``; not yet checked."""
        name = big_data_file(str(digest))
        return self.tree.read(f"podmanStore/overlay-images/{digest.hex}/{name}", MAX_DOCUMENT)

    def manifest_blob(self, image_id: Digest) -> bytes | None:
        """The manifest kept beside the config blob under its own digest, byte for byte as it came
        from the registry; None if there is none. Our publisher keeps it, DUCC doesn't."""
        place = f"podmanStore/overlay-images/{image_id.hex}"
        for entry in self.tree.entries(place):
            digest = manifest_digest_of(entry.name)
            if digest is not None:
                data = self.tree.read(f"{place}/{entry.name}", MAX_DOCUMENT)
                if data is not None and str(Digest.of(data)) == digest:
                    return data
        return None

    def layer(self, digest: Digest) -> PublishedLayer | None:
        """The unpacked layer whose compressed blob has ``digest``; None if it isn't there."""
        place = f".layers/{digest.hex[:2]}/{digest.hex}"
        attributes = self.tree.lstat(f"{place}/layerfs")
        if attributes is None or not stat.S_ISDIR(attributes.st_mode):
            return None
        files = self.tree.path(f"{place}/layerfs")
        path = f"{place}/.metadata/layers.json"
        data = self.tree.read(path, MAX_DOCUMENT)
        if data is None:
            return PublishedLayer(files, None, None)
        try:
            return PublishedLayer(files, *_layer_facts(data, printable(self.tree.path(path))))
        except InputError as err:
            raise RepositoryError(err.message, err.hint) from None

    def flat_root(self, image_id: Digest) -> str | None:
        """The path of the image's merged root, relative to the repository; None if absent."""
        place = f".flat/{image_id.hex[:2]}/{image_id.hex}"
        attributes = self.tree.lstat(place)
        return place if attributes is not None and stat.S_ISDIR(attributes.st_mode) else None


def _layer_facts(data: bytes, what: str) -> tuple[Digest | None, int | None]:
    """Read diff ID and diff size from a layer's ``layers.json``, a list with one entry."""
    document = parse_json(data, what)
    entry = document[0] if isinstance(document, list) and document else None
    if not isinstance(entry, dict):
        raise InputError(f"{what} doesn't describe a layer")
    diff_id = entry.get("diff-digest")
    size = entry.get("diff-size")
    valid_size = isinstance(size, int) and not isinstance(size, bool) and size >= 0
    return (
        Digest.parse(diff_id, f"diff-digest in {what}") if diff_id else None,
        size if valid_size else None,
    )
