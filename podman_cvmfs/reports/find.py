# SPDX-License-Identifier: Apache-2.0
"""Finds the image that podman would take for a name.

podman first tries an ID or the beginning of one, then a full name, then the meanings of a short
name (containers/common ``libimage/runtime.go``, ``LookupImage``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.names.reference import ImageName, parse_name
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.registry.meanings import meanings
from podman_cvmfs.settings.advice import on_store
from podman_cvmfs.store.records import StoreContent, StoredImage

_ID = re.compile(r"(?:sha256:)?([0-9a-f]{3,64})\Z")


def by_id(content: StoreContent, text: str) -> StoredImage | None:
    """The image whose ID is ``text``, or the only one whose ID begins with it."""
    match = _ID.match(text)
    if match is None:
        return None
    exact = content.images.get(match.group(1))
    if exact is not None:
        return exact
    found = [image for key, image in content.images.items() if key.startswith(match.group(1))]
    return found[0] if len(found) == 1 else None


def by_name(
    content: StoreContent, names: Sequence[ImageName]
) -> tuple[ImageName, StoredImage] | None:
    """The first of ``names`` that the store has, with its image. A digest is the manifest's, or
    that of the index that lists it, and then the tag doesn't count."""
    for name in names:
        if name.digest is None:
            image_id = content.names.get(str(name))
            if image_id is not None:
                return name, content.images[image_id]
            continue
        for key, image_id in content.names.items():
            image = content.images[image_id]
            if image.published and _is_digest_of(image, name.digest):
                other = parse_name(key)
                if (other.registry, other.repository) == (name.registry, name.repository):
                    return name, image
    return None


def find(content: StoreContent, text: str) -> StoredImage | None:
    """The image that podman takes for ``text``. Raises InputError for a malformed name."""
    image = by_id(content, text)
    if image is not None:
        return image
    found = by_name(content, meanings(text))
    return None if found is None else found[1]


def names_of(content: StoreContent, image: StoredImage) -> list[str]:
    """The names under which podman finds ``image``, in order."""
    return sorted(name for name, image_id in content.names.items() if image_id == image.image_id)


def _is_digest_of(image: StoredImage, digest: Digest) -> bool:
    return str(digest) in (image.manifest_digest, image.index_digest)


def required(content: StoreContent, store: str, text: str) -> StoredImage:
    """The image that ``find`` finds. Raises InputError if there is none in the store in the
    directory ``store``, which holds ``content``."""
    image = find(content, text)
    if image is None:
        why = on_store(store, "why", text)
        raise InputError(f"not in the store: {printable(text)}", f"'{why}' tells why")
    return image
