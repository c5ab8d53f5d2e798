# SPDX-License-Identifier: Apache-2.0
"""An OCI image layout (image-spec v1.1 ``image-layout.md``) as a source of images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.names.reference import ImageName
from podman_cvmfs.oci import documents
from podman_cvmfs.oci.documents import Descriptor, Digest
from podman_cvmfs.oci.platform import Platform
from podman_cvmfs.publish.source.files import Files, read
from podman_cvmfs.publish.source.image import (
    CONTAINERD_NAME,
    REF_NAME,
    SourceImage,
    archive_name,
    checked_image,
    choose_platform,
    is_index,
    listed,
)

#: An index may name indexes; nobody nests them deeply.
_MAX_NESTING = 4


class OciLayout:
    """The images of the layout in ``files``, or only that with the reference name ``tag``.

    ``what`` is its name in messages; ``name`` replaces the names in its annotations. Of images for
    several platforms the one for ``platform`` is used.
    """

    def __init__(
        self, files: Files, what: str, tag: str | None, name: ImageName | None, platform: Platform
    ) -> None:
        self._files = files
        self._what = what
        self._tag = tag
        self._name = name
        self._platform = platform

    def images(self) -> Sequence[SourceImage]:
        groups = self._groups()
        if not groups:
            tag = f" called {printable(self._tag)!r}" if self._tag else ""
            raise InputError(f"{self._what}: there is no image{tag} in it")
        if self._name is not None and len(groups) > 1:
            raise InputError(
                f"{self._what}: there are {len(groups)} images in it, but --name is for one image",
                "choose one as oci:PATH:TAG or oci-archive:PATH:TAG",
            )
        for group in groups.values():
            if len(group) > 1 and not any("platform" in entry for entry in group):
                # Nothing says that they are one image for several platforms.
                raise InputError(
                    f"{self._what}: there are {len(group)} images in it without different names",
                    "give each its own name when you write them, as oci:PATH:TAG",
                )
        return [self._image(names, group) for names, group in groups.items()]

    def _groups(self) -> dict[tuple[str | None, ...], list[dict[str, Any]]]:
        """The wanted entries by their names: entries with one name are one image for several
        platforms."""
        what = f"{self._what}/index.json"
        index = documents.parse_json(read(self._files, "index.json"), what)
        entries = index.get("manifests") if isinstance(index, dict) else None
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise InputError(f"{what} is not an OCI index")
        groups: dict[tuple[str | None, ...], list[dict[str, Any]]] = {}
        for entry in entries:
            names = _names(entry)
            if self._tag is None or self._tag in names:
                groups.setdefault(names, []).append(entry)
        return groups

    def has_several_platforms(self) -> bool:
        """Whether an image is in it for several platforms, not merely listed for them.

        Raises InputError for a damaged layout.
        """
        for entries in self._groups().values():
            platforms = set()
            for entry in self._flat(self._present(entries)):
                stated = entry.get("platform")
                # Attestations are listed as for "unknown".
                if isinstance(stated, dict) and stated.get("os") == "linux":
                    platforms.add((str(stated.get("architecture")), str(stated.get("variant"))))
            if len(platforms) > 1:
                return True
        return False

    def _present(self, entries: Sequence[Any]) -> list[dict[str, Any]]:
        """Those of an index's entries whose blobs are here."""
        return [
            entry
            for entry in entries
            if isinstance(entry, dict) and self._files.has(_file_of(self._digest(entry)))
        ]

    def _flat(self, entries: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """These entries; of indexes among them, the entries."""
        for entry in entries:
            if "platform" in entry:
                yield entry
                continue
            what = f"the manifest {self._digest(entry)}"
            document = documents.parse_json(self._blob(self._digest(entry)), what)
            if is_index(document):
                yield from self._present(listed(document, what))

    def _digest(self, entry: dict[str, Any]) -> Digest:
        return Digest.parse(entry.get("digest"), f"the manifest's digest in {self._what}")

    def _image(
        self, names: tuple[str | None, ...], entries: Sequence[dict[str, Any]]
    ) -> SourceImage:
        name = archive_name(names, self._name, self._what)
        index = None
        for _ in range(_MAX_NESTING):
            entry = entries[0]
            if len(entries) > 1:
                entry = choose_platform(entries, self._platform, str(name))
            data = self._blob(self._digest(entry))
            document = documents.parse_json(data, f"the manifest of {name}")
            if not is_index(document):
                break
            index = data
            entries = listed(document, f"the manifest of {name}")
            entries = [choose_platform(entries, self._platform, str(name))]
        manifest = documents.parse_manifest(data, f"the manifest of {name}")
        raw = self._blob(manifest.config.digest)
        config = documents.parse_config(raw, f"the configuration of {name}")
        return checked_image(name, manifest, config, data, index)

    def _blob(self, digest: Digest) -> bytes:
        data = read(self._files, _file_of(digest))
        if Digest.of(data) != digest:
            raise InputError(f"{self._what}: the blob {digest} is damaged")
        return data

    def layer(self, image: SourceImage, layer: Descriptor) -> Iterator[bytes]:
        return self._files.stream(_file_of(layer.digest))

    def close(self) -> None:
        self._files.close()


def _names(entry: dict[str, Any]) -> tuple[str | None, ...]:
    """The names an index entry is annotated with, the fullest first."""
    annotations = entry.get("annotations")
    annotations = annotations if isinstance(annotations, dict) else {}
    found = (annotations.get(CONTAINERD_NAME), annotations.get(REF_NAME))
    return tuple(name if isinstance(name, str) else None for name in found)


def _file_of(blob: Digest) -> str:
    return f"blobs/sha256/{blob.hex}"
