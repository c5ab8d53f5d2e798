# SPDX-License-Identifier: Apache-2.0
"""The interface of a source of images, and the choice among an index's platforms."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.names.reference import ImageName, parse_name
from podman_cvmfs.oci import documents
from podman_cvmfs.oci.documents import Descriptor, Digest, ImageConfig, Manifest
from podman_cvmfs.oci.platform import Platform

CONTAINERD_NAME = "io.containerd.image.name"
#: ``maxDepth`` in containers/storage ``drivers/overlay/overlay.go``.
_MAX_LAYERS = 500

REF_NAME = "org.opencontainers.image.ref.name"


@dataclass(frozen=True)
class SourceImage:
    """An image that can be published: its name, its manifest and configuration, both checked.

    ``raw_manifest`` is the manifest byte for byte, None if the source has no manifest;
    ``raw_index`` is the index that lists it, if it was found by one. ``is_from_registry`` says
    whether a wrong blob is the registry's fault, or that of the given file.
    """

    name: ImageName
    manifest: Manifest
    config: ImageConfig
    raw_manifest: bytes | None = None
    raw_index: bytes | None = None
    is_from_registry: bool = False


class ImageSource(Protocol):
    """Where images come from. To be closed after use."""

    def images(self) -> Sequence[SourceImage]:
        """The images it holds, or those asked for. Raises InputError or RegistryError."""

    def layer(self, image: SourceImage, layer: Descriptor) -> Iterator[bytes]:
        """The blob of one of ``image``'s layers, in pieces and not yet checked."""

    def close(self) -> None:
        """Let go of files and connections."""


def checked_image(
    name: ImageName,
    manifest: Manifest,
    config: ImageConfig,
    raw_manifest: bytes | None = None,
    raw_index: bytes | None = None,
) -> SourceImage:
    """Join the parts of an image; InputError unless they fit together and can be unpacked.

    A digest in ``name`` must be that of the manifest or of the index.
    """
    digests = [Digest.of(data) for data in (raw_manifest, raw_index) if data is not None]
    if name.digest is not None and name.digest not in digests:
        theirs = " or ".join(map(str, digests))
        problem = f"the image's digest is {theirs}"
        if not theirs:
            problem = "such an archive doesn't record the digests of its images"
        raise InputError(f"{name}: {problem}", "name it by a tag: --name NAME:TAG")
    if len(manifest.layers) != len(config.diff_ids):
        raise InputError(
            f"{name}: the manifest has {len(manifest.layers)} layers, "
            f"the configuration {len(config.diff_ids)} diff IDs"
        )
    if len(manifest.layers) > _MAX_LAYERS:
        raise InputError(
            f"{name}: has {len(manifest.layers)} layers; podman takes at most {_MAX_LAYERS}"
        )
    if any(layer.is_foreign for layer in manifest.layers):
        raise InputError(f"{name}: has Windows base layers, which can't be unpacked here")
    return SourceImage(name, manifest, config, raw_manifest, raw_index)


def archive_name(texts: Sequence[str | None], given: ImageName | None, what: str) -> ImageName:
    """The name of an image in an archive: the ``given`` one, else the first usable of ``texts``.

    A text without "/" and ":" is a bare tag and names nothing. Raises InputError.
    """
    if given is not None:
        return given
    for text in texts:
        if text and ("/" in text or ":" in text):
            return parse_name(text)
    raise InputError(f"{what}: the image in it has no name", "give it one with --name")


def is_index(document: object) -> bool:
    """Whether a parsed manifest is an OCI index or a Docker manifest list."""
    return isinstance(document, dict) and (
        document.get("mediaType") in (documents.OCI_INDEX, documents.DOCKER_LIST)
        or ("manifests" in document and "config" not in document)
    )


def listed(index: dict[str, Any], what: str) -> Sequence[Any]:
    """The ``manifests`` of an index. Raises InputError, naming ``what``, if they are no list."""
    entries = index.get("manifests") or []
    if not isinstance(entries, list):
        raise InputError(f"{what} is an index without a list of manifests")
    return entries


def choose_platform(entries: Sequence[Any], platform: Platform, what: str) -> dict[str, Any]:
    """Choose the manifest for ``platform`` among the ``manifests`` of an index.

    The best match is used, of equal ones the earlier. As in podman, a manifest without a platform
    comes last. Raises InputError, which names the available platforms.
    """
    found = [entry for entry in entries if isinstance(entry, dict)]
    ranked: list[tuple[float, dict[str, Any]]] = []
    offered = set()
    for entry in found:
        stated = entry.get("platform")
        if stated is None:
            ranked.append((math.inf, entry))
        elif isinstance(stated, dict):
            system, architecture, variant = (
                str(stated.get(key) or "") for key in ("os", "architecture", "variant")
            )
            its = Platform(architecture, variant)
            offered.add(f"{system or '?'}/{its if its.architecture else '?'}")
            rank = platform.rank(its)
            if system == "linux" and rank is not None:
                ranked.append((rank, entry))
    if not ranked:
        there = printable(", ".join(sorted(offered)))[:300] or "nothing"
        raise InputError(f"{what}: no image for linux/{platform}; there is {there}")
    return min(ranked, key=lambda pair: pair[0])[1]
