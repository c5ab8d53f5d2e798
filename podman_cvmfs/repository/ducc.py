# SPDX-License-Identifier: Apache-2.0
"""Reads a repository of unpacked images in DUCC's layout; ``layout`` describes it."""

from __future__ import annotations

import os
import posixpath
import re
import stat
from collections.abc import Iterator, Sequence

from podman_cvmfs.errors import InputError, RepositoryError, printable
from podman_cvmfs.names.reference import ImageName, parse_repository_path
from podman_cvmfs.oci.big_data import big_data_file, manifest_digest_of
from podman_cvmfs.oci.documents import (
    MAX_DOCUMENT,
    MAX_LAYER,
    Digest,
    Manifest,
    parse_json,
    parse_manifest,
)
from podman_cvmfs.oci.platform import Platform
from podman_cvmfs.repository import layout
from podman_cvmfs.repository.architectures import architectures, fitting, newest
from podman_cvmfs.repository.records import OtherPlatforms, Problem, PublishedImage, PublishedLayer
from podman_cvmfs.repository.served import open_tree

_FLAT_TARGET = re.compile(layout.FLAT_PATTERN + r"\Z")
#: No registry nests its repositories deeper; a tree that does is not DUCC's.
_MAX_DEPTH = 24
#: A larger tar has an entry: tar pads an empty one to this size at most, in bytes.
MAX_EMPTY = 20 * 512
#: How many manifests and indexes of one image are read.
_MOST_MANIFESTS = 32


class Repository:
    """The repository whose root is the directory ``root``."""

    def __init__(self, root: str, platform: Platform | None = None) -> None:
        """Its images for ``platform``, None for this machine's.

        Raises RepositoryError where there is no directory or it can't be listed.
        """
        self.tree = open_tree(root)
        self.root = self.tree.root
        self._platform = platform or Platform.of_host()

    def images(
        self, problems: list[Problem], others: list[OtherPlatforms] | None = None
    ) -> Iterator[PublishedImage]:
        """Yield all images in order of path, but those marked for the platform first.

        Unusable things are added to ``problems``, images for other platforms only to ``others``. A
        public link tells name and ID of an image. Only for images without public link is a manifest
        read. Raises RepositoryError if the repository vanishes meanwhile.
        """
        # Place -> all places for the same platform.
        groups = fitting(self._architectures(layout.MULTIARCH, problems), self._platform)
        twins = {place: same for same in (*groups, [""]) for place in same}
        places = list(twins)
        known: set[str] = set()
        # Links to all architectures at once, without a match so far.
        pending: dict[str, None] = {}
        for place in places:
            for path in self._public_links(place, 0, problems):
                name = path[len(place) + 1 :] if place else path
                if name in known:
                    continue
                image = None
                try:
                    at = self._newest(twins[place], name)
                    path = f"{at}/{name}" if at else name
                    target = self._target(path)
                    if not place and layout.is_of_architectures(target):
                        pending[name] = None
                        continue
                    image = self._linked_image(path, name, at, target)
                except (InputError, RepositoryError) as err:
                    problems.append(Problem(path, err))
                known.add(name)
                if image is not None:
                    yield image
        for place in places:
            for name in self._described(place, "", 0, problems):
                if name not in known:
                    image = self._layers_only_image(twins[place], name, problems)
                    if image is not None:
                        known.add(name)
                        yield image
        for path in pending:
            if path not in known:
                self._add_other(path, problems, [] if others is None else others)
        # A repository that has just been unmounted looks as if its images were lost.
        next(self.tree.entries("", required=True), None)

    def _architectures(
        self, directory: str, problems: list[Problem]
    ) -> Iterator[tuple[str, Platform]]:
        return architectures(self._listed(directory, problems))

    def odd_places(self) -> list[str]:
        """The directories for architectures that nobody knows."""
        return [
            layout.architecture_directory(name)
            for name, platform in self._architectures(layout.MULTIARCH, [])
            if not platform.tells_architecture
        ]

    def _newest(self, places: Sequence[str], name: str) -> str:
        """The one of these places, which mean the same, with the newest link ``name``; of equally
        old ones that to which the link for all architectures leads."""
        target = self.tree.readlink(name) if len(places) > 1 else None
        favourite = "" if target is None else self._inside(name, target)
        return newest(self.tree, places, lambda place: f"{place}/{name}", favourite)

    def _add_other(self, path: str, problems: list[Problem], others: list[OtherPlatforms]) -> None:
        try:
            name = parse_repository_path(path)
            platforms = self.platforms_of(name)
            if not platforms:
                raise RepositoryError(
                    f"the public link {printable(path)} leads to no image of any architecture"
                )
        except (InputError, RepositoryError) as err:
            problems.append(Problem(path, err))
        else:
            others.append(OtherPlatforms(name, platforms))

    def platforms_of(self, name: ImageName) -> tuple[Platform, ...]:
        """The platforms for which the repository says it has ``name``. Raises RepositoryError."""
        problems: list[Problem] = []
        found = tuple(
            platform
            for directory, platform in self._architectures(layout.MULTIARCH, problems)
            if self.tree.lstat(f"{layout.architecture_directory(directory)}/{name.repository_path}")
            is not None
        )
        if problems and not found:
            raise problems[0].error
        return found

    def _public_links(self, directory: str, depth: int, problems: list[Problem]) -> Iterator[str]:
        for entry in self._listed(directory, problems):
            path = f"{directory}/{entry.name}" if directory else entry.name
            if entry.is_symlink():
                if depth > 0 and ":" in entry.name:
                    yield path
            elif depth == 0 and layout.holds_no_names(entry.name):
                continue  # DUCC's own
            elif depth < _MAX_DEPTH and entry.is_dir(follow_symlinks=False):
                yield from self._public_links(path, depth + 1, problems)

    def _described(
        self, place: str, directory: str, depth: int, problems: list[Problem]
    ) -> Iterator[str]:
        """Yield the paths below ``.metadata/<place>`` that end in the name of a tag."""
        for entry in self._listed(layout.described_at(place, directory), problems):
            if entry.is_dir(follow_symlinks=False):
                path = f"{directory}/{entry.name}" if directory else entry.name
                if depth > 0 and ":" in entry.name:
                    yield path
                elif depth < _MAX_DEPTH and (depth > 0 or not entry.name.startswith(".")):
                    yield from self._described(place, path, depth + 1, problems)

    def _listed(self, directory: str, problems: list[Problem]) -> Iterator[os.DirEntry[str]]:
        try:
            # A repository that has just been unmounted must not look as if its images were removed.
            required = not layout.may_lack(directory)
            yield from self.tree.entries(directory, required=required)
        except RepositoryError as err:
            problems.append(Problem(directory, err))

    def _linked_image(self, path: str, published: str, place: str, target: str) -> PublishedImage:
        name = parse_repository_path(published)
        match = _FLAT_TARGET.match(target)
        if match is None:
            raise RepositoryError(
                f"the public link {printable(path)} leads to {printable(target)!r}, "
                f"not to a merged root below {layout.FLAT}"
            )
        return PublishedImage(name, Digest(match.group("source")), linked=True, place=place)

    def _target(self, path: str) -> str:
        """Where the link at ``path`` leads, relative to the repository's root."""
        target = self.tree.readlink(path)
        if target is None:
            raise RepositoryError(f"the public link {printable(path)} vanished while listed")
        return self._inside(path, target)

    def _inside(self, path: str, target: str) -> str:
        """``target`` of the link at ``path``, relative to the repository's root."""
        if target.startswith(self.root + "/"):
            return posixpath.normpath(target[len(self.root) + 1 :])
        return posixpath.normpath(posixpath.join(posixpath.dirname(path), target))

    def _layers_only_image(
        self, places: Sequence[str], path: str, problems: list[Problem]
    ) -> PublishedImage | None:
        try:
            place = newest(self.tree, places, lambda each: layout.manifest_file(each, path), "")
            directory = layout.described_at(place, path)
            name = parse_repository_path(path)
            manifest = self._read_manifest(layout.manifest_file(place, path))
            if manifest is None and self.tree.lstat(directory) is None:
                raise RepositoryError(f"{printable(directory)} vanished while listed")
        except (InputError, RepositoryError) as err:
            problems.append(Problem(path, err))
            return None
        if manifest is None:
            return None
        return PublishedImage(name, manifest.config.digest, linked=False, place=place)

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

        Raises RepositoryError if it is missing, or if it describes another image: then DUCC is just
        publishing a new one with this name.
        """
        name = image.name
        path = f"{name.registry}/{name.repository}" if name.tag is None else name.repository_path
        other: Manifest | None = None
        for place in self._described_places(image.place):
            manifest = self._read_manifest(layout.manifest_file(place, path))
            if manifest is not None and manifest.config.digest == image.image_id:
                return manifest
            other = other or manifest
        if other is None:
            first = printable(self.tree.path(layout.manifest_file(image.place, path)))
            raise RepositoryError(f"{name} has no manifest: {first} is missing")
        raise RepositoryError(
            f"the manifest of {name} is of the image {other.config.digest.hex[:12]}, "
            f"but its public link leads to {image.image_id.hex[:12]}",
            "sync again later: the image is being published right now, or it is broken",
        )

    def _described_places(self, place: str) -> Iterator[str]:
        """The possible places of a manifest: the usual one and, for an image of an index, the
        places by architecture. DUCC uses these even if it links only one architecture."""
        yield place
        if place:
            yield ""
        problems: list[Problem] = []
        for name, _ in self._architectures(layout.MULTIARCH_METADATA, problems):
            if layout.architecture_directory(name) != place:
                yield layout.architecture_directory(name)

    def config_blob(self, digest: Digest) -> bytes | None:
        """The config that DUCC's own podman store holds under ``digest``; not yet checked."""
        name = big_data_file(str(digest))
        return self.tree.read(f"{layout.image_directory(digest.hex)}/{name}", MAX_DOCUMENT)

    def manifest_blobs(self, image_id: Digest) -> list[bytes]:
        """The manifests and indexes kept beside the config blob under their own digests, byte for
        byte as they came from the registry, the newest first. Our publisher keeps them. The last
        one is the manifest that DUCC has kept there since cvmfs 2.14 (``ducc/lib/podman_store.go``)
        without its digest. Earlier versions had a link to their own description there."""
        place = layout.image_directory(image_id.hex)
        dated = []
        unnamed: str | None = None
        for entry in self.tree.entries(place):
            if entry.name == layout.GENUINE_MANIFEST and entry.is_file(follow_symlinks=False):
                unnamed = f"{place}/{entry.name}"
            digest = manifest_digest_of(entry.name)
            attributes = self.tree.lstat(f"{place}/{entry.name}") if digest else None
            if digest is not None and attributes is not None:
                dated.append((-attributes.st_mtime_ns, entry.name, digest))
        found = []
        dated.sort()
        # An index changes with each of its architectures, so many indexes may be newer than the
        # manifest.
        half = _MOST_MANIFESTS // 2
        for _, name, digest in (*dated[:half], *dated[half:][-half:]):
            data = self.tree.read(f"{place}/{name}", MAX_DOCUMENT)
            if data is not None and str(Digest.of(data)) == digest:
                found.append(data)
        last = None if unnamed is None else self.tree.read(unnamed, MAX_DOCUMENT)
        return found if last is None else [*found, last]

    def layer(self, digest: Digest) -> PublishedLayer | None:
        """The unpacked layer whose compressed blob has ``digest``; None if it isn't there, or if
        its directory is empty although its tar was not."""
        place = layout.layer_directory(digest.hex)
        attributes = self.tree.lstat(f"{place}/{layout.LAYERFS}")
        if attributes is None or not stat.S_ISDIR(attributes.st_mode):
            return None
        files = self.tree.path(f"{place}/{layout.LAYERFS}")
        path = f"{place}/{layout.LAYERS_JSON}"
        data = self.tree.read(path, MAX_DOCUMENT)
        if data is None:
            return PublishedLayer(files, None, None)
        try:
            diff_id, size = _layer_facts(data, printable(self.tree.path(path)))
        except InputError as err:
            raise RepositoryError(err.message, err.hint) from None
        if (size or 0) > MAX_EMPTY and self.tree.is_empty(f"{place}/{layout.LAYERFS}"):
            return None
        return PublishedLayer(files, diff_id, size)

    def flat_root(self, image_id: Digest) -> str | None:
        """The path of the image's merged root, relative to the repository; None if absent."""
        place = layout.flat_directory(image_id.hex)
        attributes = self.tree.lstat(place)
        return place if attributes is not None and stat.S_ISDIR(attributes.st_mode) else None

    def has_merged_root(self, image: PublishedImage) -> bool:
        """Whether DUCC has published the merged root of ``image``, and the link, which comes last.
        An empty root doesn't count. Raises RepositoryError."""
        root = self.flat_root(image.image_id) if image.linked else None
        return root is not None and not self.tree.is_empty(root)

    def has_base(self, image: PublishedImage) -> bool:
        """Whether the lowest layer of ``image`` is there. Raises RepositoryError."""
        blobs = self.manifest(image).layers
        base = next((blob.digest for blob in blobs if not blob.is_foreign), None)
        return base is not None and self.layer(base) is not None


def _layer_facts(data: bytes, what: str) -> tuple[Digest | None, int | None]:
    """Read diff ID and diff size from a layer's ``layers.json``, a list with one entry."""
    document = parse_json(data, what)
    entry = document[0] if isinstance(document, list) and document else None
    if not isinstance(entry, dict):
        raise InputError(f"{what} doesn't describe a layer")
    diff_id = entry.get("diff-digest")
    size = entry.get("diff-size")
    if type(size) is not int or size < 0:
        size = None
    elif size > MAX_LAYER:
        raise InputError(f"diff-size in {what} can't be {size} bytes")
    return Digest.parse(diff_id, f"diff-digest in {what}") if diff_id else None, size
