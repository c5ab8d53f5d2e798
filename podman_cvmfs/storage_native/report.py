# SPDX-License-Identifier: Apache-2.0
"""The real library's verdict on a store: what it finds there, and what it finds wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from podman_cvmfs.storage_native.artefact import Artefact
from podman_cvmfs.storage_native.errors import CallError
from podman_cvmfs.storage_native.records import Image, Layer
from podman_cvmfs.storage_native.session import OpenStore


@dataclass(frozen=True)
class StoreReport:
    """A store as containers/storage of the version ``storage`` sees it.

    ``images`` and ``layers`` by ID; ``names`` name -> image ID, each looked up; ``sizes`` image
    ID -> bytes as the library sums them up. ``errors`` are sentences, the library's own where it
    has some: none in a good store. ``checked`` tells whether the library has a Check at all (1.57
    and later).
    """

    storage: str
    images: Mapping[str, Image]
    layers: Mapping[str, Layer]
    names: Mapping[str, str]
    sizes: Mapping[str, int]
    errors: tuple[str, ...]
    checked: bool

    def as_data(self) -> dict[str, Any]:
        """The report as what JSON can hold."""
        return {
            "storage": self.storage,
            "images": {key: asdict(image) for key, image in self.images.items()},
            "layers": {key: asdict(layer) for key, layer in self.layers.items()},
            "names": dict(self.names),
            "sizes": dict(self.sizes),
            "errors": list(self.errors),
            "checked": self.checked,
        }


def judge(store: str, *, digests: bool = False, artefact: Artefact | None = None) -> StoreReport:
    """Load the store in the directory ``store`` with the real library and examine it.

    Every image is looked up by its ID, its names and its digests, every file that belongs to it
    is read and compared with its recorded size and digest; then the library's Check follows.
    ``digests`` makes Check read all layers' files, which it finds wrong wherever a layer isn't
    kept as it was pulled.

    What is wrong with the store is in the report, not raised; only a store that doesn't load at
    all raises CallError. Raises Unavailable, ChildError too.
    """
    with OpenStore(store, artefact=artefact) as opened:
        images = {image.image_id: image for image in opened.images() if image.read_only}
        layers = {layer.layer_id: layer for layer in opened.layers() if layer.read_only}
        examined = _Examination(opened)
        for image in images.values():
            examined.image(image)
        checked = examined.check(digests)
        return StoreReport(
            storage=opened.version.storage,
            images=images,
            layers=layers,
            names=examined.names,
            sizes=examined.sizes,
            errors=tuple(examined.errors),
            checked=checked,
        )


class _Examination:
    """Asks one thing after the other and notes what goes wrong."""

    def __init__(self, opened: OpenStore) -> None:
        self._opened = opened
        self.names: dict[str, str] = {}
        self.sizes: dict[str, int] = {}
        self.errors: list[str] = []

    def image(self, image: Image) -> None:
        """Look it up in every way and read its files."""
        image_id = image.image_id
        for name in (image_id, *image.names):
            self._try(self._look_up, name, image_id)
        # Besides the manifest there may be the index that lists it.
        manifests = {item.digest for item in image.big_data if item.key.startswith("manifest")}
        for digest in sorted({image.digest, *manifests} - {""}):
            self._try(self._find_by_digest, digest, image_id)
        self._try(self._measure, image_id)
        for item in image.big_data:
            self._try(self._read, image_id, item.key, item.size, item.digest)

    def _try(self, ask: Any, *arguments: Any) -> None:
        try:
            ask(*arguments)
        except CallError as err:
            self.errors.append(err.message)

    def _look_up(self, name: str, image_id: str) -> None:
        found = self._opened.lookup(name)
        if name != image_id:
            self.names[name] = found
        if found != image_id:
            self.errors.append(f"{name} leads to the image {found}, not {image_id}")

    def _find_by_digest(self, digest: str, image_id: str) -> None:
        if image_id not in self._opened.images_by_digest(digest):
            self.errors.append(f"{digest} doesn't lead to the image {image_id}")

    def _measure(self, image_id: str) -> None:
        self.sizes[image_id] = self._opened.image_size(image_id)

    def _read(self, image_id: str, key: str, size: int, digest: str) -> None:
        content = self._opened.big_data(image_id, key)
        if len(content) != size:
            self.errors.append(
                f"{key} of the image {image_id} has {len(content)} bytes, not {size}"
            )
        if digest and digest != f"sha256:{hashlib.sha256(content).hexdigest()}":
            self.errors.append(f"{key} of the image {image_id} has not the digest {digest}")

    def check(self, digests: bool) -> bool:
        """Have the library check; False if it can't."""
        try:
            found = self._opened.check(digests=digests)
        except CallError as err:
            if err.kind == "unsupported":
                return False
            self.errors.append(err.message)
            return True
        for problems in (found.layers, found.images):
            for identifier in sorted(problems):
                self.errors.extend(f"containers/storage: {text}" for text in problems[identifier])
        return True
