# SPDX-License-Identifier: Apache-2.0
"""Parses and checks answers of registries. Pure: no I/O."""

from __future__ import annotations

from podman_cvmfs.errors import InputError, RegistryError
from podman_cvmfs.names.reference import ImageName, is_tag
from podman_cvmfs.oci import documents
from podman_cvmfs.oci.documents import Digest


def check(name: ImageName, digest: Digest, data: bytes) -> None:
    """Raise RegistryError unless ``data`` has the digest ``digest``."""
    if Digest.of(data) != digest:
        raise RegistryError(f"{name}: the registry sent wrong data for {digest}")


def stated_type(data: bytes) -> str:
    """The media type that a manifest or index states, or ""."""
    try:
        document = documents.parse_json(data, "manifest")
    except InputError:
        return ""
    stated = document.get("mediaType") if isinstance(document, dict) else None
    return stated if isinstance(stated, str) else ""


def tags_of(data: bytes, name: ImageName) -> list[str]:
    """The tags in one page of the list for ``name``; what can't be a tag is left out.

    Raises RegistryError.
    """
    try:
        document = documents.parse_json(data, f"the tag list of {name}")
    except InputError as err:
        raise RegistryError(err.message) from None
    tags = document.get("tags") if isinstance(document, dict) else None
    if tags is not None and not isinstance(tags, list):
        raise RegistryError(f"{name}: the registry's answer is not a tag list")
    return [tag for tag in tags or [] if isinstance(tag, str) and is_tag(tag)]
