# SPDX-License-Identifier: Apache-2.0
"""Tells whether a manifest that a registry serves is that of an image in /cvmfs. No I/O.

The image in /cvmfs is mostly known by its config's digest, its image ID. The registry has its
manifest byte for byte, if the tag hasn't moved since. Sources: OCI image-spec v1.1 ``manifest.md``,
``image-index.md``; Docker's image manifest v2 schema 2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Union

from podman_cvmfs.errors import InputError, RegistryError
from podman_cvmfs.oci import documents
from podman_cvmfs.oci.documents import Digest, Manifest
from podman_cvmfs.oci.platform import Platform

_INDEX_TYPES = (documents.OCI_INDEX, documents.DOCKER_LIST)
#: An index is asked for this many of its manifests at most.
_MOST_ASKED = 4
_MOST_ENTRIES = 10_000


@dataclass(frozen=True)
class Child:
    """One manifest of an index, and what it is for."""

    digest: Digest
    os: str = ""
    architecture: str = ""
    variant: str = ""


@dataclass(frozen=True)
class Genuine:
    """The image's own manifest. ``index`` is the index it was found by, byte for byte, if any."""

    raw: bytes
    manifest: Manifest
    index: bytes | None = None

    @property
    def digest(self) -> Digest:
        """The manifest's digest: the one in ``name@sha256:..``."""
        return Digest.of(self.raw)

    @property
    def index_digest(self) -> Digest | None:
        """The digest under which the registry serves the image for all architectures."""
        return None if self.index is None else Digest.of(self.index)


@dataclass(frozen=True)
class Moved:
    """The manifest of another image, whose config is this one: the tag has moved."""

    config: Digest


@dataclass(frozen=True)
class Index:
    """A list of manifests, one of which may be the image's."""

    raw: bytes
    children: tuple[Child, ...]

    def suitable(self, architecture: str, variant: str = "") -> tuple[Child, ...]:
        """The manifests for Linux on ``architecture`` (as OCI names it), the best first: those of
        this ``variant``, then those of none, then of others; last those that don't say."""
        wanted = Platform.stated(architecture, variant)
        ranked = []
        for child in self.children:
            its = Platform.stated(child.architecture, child.variant, child.os)
            if not child.os and not child.architecture:
                ranked.append((3, child))
            elif (its.os, its.architecture) == (wanted.os, wanted.architecture):
                rank = 0 if its.variant == wanted.variant else 1 if not its.variant else 2
                ranked.append((rank, child))
        return tuple(child for _, child in sorted(ranked, key=lambda pair: pair[0]))


Judgement = Union[Genuine, Moved, Index]
#: Whether a manifest is the image's.
Test = Callable[[Manifest], bool]


def has_config(config: Digest) -> Test:
    """Whether a manifest is that of the image with the digest ``config``."""
    return lambda manifest: manifest.config.digest == config


def judge(data: bytes, is_it: Test, what: str) -> Judgement:
    """Say what the bytes are to an image, by a test of its manifest.

    Raises RegistryError, which names ``what``, for bytes that are neither manifest nor index, or
    pretend to be both.
    """
    try:
        document = documents.parse_json(data, what)
        if not isinstance(document, dict):
            raise InputError(f"{what} is not a manifest")
        has_children = "manifests" in document
        if has_children and ("config" in document or "layers" in document):
            # Two readers could see two images in it (CVE-2021-41190).
            raise InputError(f"{what} is both a manifest and an index")
        if has_children or document.get("mediaType") in _INDEX_TYPES:
            return Index(data, _children(document, what))
        manifest = documents.parse_manifest(data, what, as_it_is=True)
    except InputError as err:
        raise RegistryError(err.message) from None
    if is_it(manifest):
        return Genuine(data, manifest)
    return Moved(manifest.config.digest)


def find_genuine(
    fetch: Callable[[str], bytes],
    reference: str,
    is_it: Test,
    architecture: str,
    variant: str = "",
    what: str = "the manifest",
) -> Genuine | Moved | None:
    """The genuine manifest of an image, by a test of it.

    ``fetch`` gets the bytes at a tag or digest from the registry, checked against a digest;
    ``reference`` is where to begin. One request is enough, except for an index: then its manifests
    for ``architecture`` are fetched. None if the index has no manifest for it. Raises
    RegistryError, and whatever ``fetch`` raises.
    """
    first = judge(fetch(reference), is_it, what)
    if not isinstance(first, Index):
        return first
    other: Moved | None = None
    for child in first.suitable(architecture, variant)[:_MOST_ASKED]:
        found = judge(fetch(str(child.digest)), is_it, what)
        if isinstance(found, Genuine):
            return Genuine(found.raw, found.manifest, first.raw)
        if isinstance(found, Moved):
            other = other or found
    return other


def _children(document: dict[str, Any], what: str) -> tuple[Child, ...]:
    entries = document.get("manifests")
    if not isinstance(entries, list) or len(entries) > _MOST_ENTRIES:
        raise InputError(f"{what} is an index without a list of manifests")
    children = []
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise InputError(f"entry {number} in {what} is not a descriptor")
        digest = Digest.parse(entry.get("digest"), f"the digest of entry {number} in {what}")
        platform = entry.get("platform")
        stated = platform if isinstance(platform, dict) else {}
        texts = [stated.get(key) or "" for key in ("os", "architecture", "variant")]
        if not all(isinstance(text, str) for text in texts):
            raise InputError(f"the platform of {digest} in {what} is malformed")
        children.append(Child(digest, *texts))
    return tuple(children)
