# SPDX-License-Identifier: Apache-2.0
"""Which images of a repository we have published: only these are ever removed.

The record of an image lies in the repository, because several machines may publish there. DUCC
leaves it alone. An image that another publisher had before has no record.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

from podman_cvmfs.errors import InputError, RepositoryError
from podman_cvmfs.names.reference import parse_repository_path
from podman_cvmfs.oci.documents import Digest, parse_json
from podman_cvmfs.publish.open_repository import OpenRepository
from podman_cvmfs.repository import layout

_FORMAT = 1


@dataclass(frozen=True)
class PublishedRecord:
    """An image that we have published: the paths of its public links, and its layers' blobs.

    ``unused_since`` is when nothing was found to have a name for it, in seconds since 1970.
    """

    image: Digest
    names: tuple[str, ...]
    layers: tuple[Digest, ...]
    unused_since: int | None = None

    @property
    def path(self) -> str:
        """Where the record lies in the repository."""
        return layout.published_record(self.image.hex)

    def named(self, path: str) -> PublishedRecord:
        """The record with one name more. It is in use again."""
        names = (*self.names, path) if path not in self.names else self.names
        return replace(self, names=names, unused_since=None)

    def render(self) -> bytes:
        """The content of the file."""
        document: dict[str, object] = {
            "format": _FORMAT,
            "names": list(self.names),
            "layers": [str(layer) for layer in self.layers],
        }
        if self.unused_since is not None:
            document["unused_since"] = self.unused_since
        return json.dumps(document, indent=1).encode()


def read_record(repository: OpenRepository, image: Digest) -> PublishedRecord | None:
    """The record of the image with this ID; None if we haven't published it.

    Raises RepositoryError for one that makes no sense, or can't be read.
    """
    path = layout.published_record(image.hex)
    data = repository.read(path)
    if data is None:
        return None
    shown = repository.shown(path)
    try:
        document = parse_json(data, shown)
        if not isinstance(document, dict) or document.get("format") != _FORMAT:
            raise InputError(f"{shown} has an unknown format")
        names, layers = document.get("names"), document.get("layers")
        since = document.get("unused_since")
        if (
            not isinstance(names, list)
            or not all(isinstance(name, str) for name in names)
            or not isinstance(layers, list)
            or not (since is None or isinstance(since, int))
        ):
            raise InputError(f"{shown} is malformed")
        # Whoever can write to the repository can write a record: no path may lead elsewhere.
        for name in names:
            _check_name(name, shown)
        digests = tuple(Digest.parse(layer, f"a layer in {shown}") for layer in layers)
    except InputError as err:
        raise RepositoryError(err.message, err.hint) from None
    return PublishedRecord(image, tuple(names), digests, since)


def _check_name(name: str, shown: str) -> None:
    try:
        parse_repository_path(name)
    except InputError as err:
        raise InputError(f"{shown} is malformed: {err.message}", "remove it") from None


def records(repository: OpenRepository) -> Iterator[PublishedRecord]:
    """The records of all images that we have published. Raises RepositoryError, OSError."""
    for start in repository.names(layout.PUBLISHED):
        for name in repository.names(f"{layout.PUBLISHED}/{start}"):
            try:
                image = Digest.parse(f"sha256:{name}")
            except InputError:
                continue
            found = read_record(repository, image)
            if found is not None:
                yield found
