# SPDX-License-Identifier: Apache-2.0
"""Every call of the library as a typed method, whatever carries it there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from podman_cvmfs.storage_native import envelope, records
from podman_cvmfs.storage_native.records import (
    CheckResult,
    Config,
    Image,
    Layer,
    Mounted,
    Version,
)

#: Takes a request, brings the answer: ``SharedLibrary.call`` or ``Child.call``.
Carrier = Callable[[bytes], bytes]


class Calls:
    """Asks through ``carry``.

    All methods raise CallError where the library says no, and ChildError, InputError for what
    can't be exchanged with it. ``store`` is the number that ``open`` gave.
    """

    def __init__(self, carry: Carrier) -> None:
        self._carry = carry

    def _ask(self, call: str, **arguments: Any) -> Any:
        return envelope.result(self._carry(envelope.request(call, arguments)), call)

    def version(self) -> Version:
        """What was loaded."""
        return records.read_version(self._ask("version"))

    def config(self) -> Config:
        """The configuration in force for this user; read once per process."""
        return records.read_config(self._ask("config"))

    def open(self, stores: Sequence[str], graph_root: str, run_root: str) -> int:
        """Open additional stores beside the two directories, which are written to; a number."""
        opened = self._ask("open", stores=list(stores), graph_root=graph_root, run_root=run_root)
        return records.typed(opened, int, "open")

    def close(self, store: int) -> None:
        """Close it, with all that is mounted."""
        self._ask("close", store=store)

    def close_all(self) -> int:
        """Close everything; how many there were."""
        return records.typed(self._ask("close_all"), int, "close_all")

    def images(self, store: int) -> tuple[Image, ...]:
        """All images."""
        return records.read_images(self._ask("images", store=store))

    def layers(self, store: int) -> tuple[Layer, ...]:
        """All layers."""
        return records.read_layers(self._ask("layers", store=store))

    def lookup(self, store: int, image: str) -> str:
        """The ID of the image with this name or ID, or one that begins with it."""
        return records.typed(self._ask("lookup", store=store, image=image), str, "lookup")

    def images_by_digest(self, store: int, digest: str) -> tuple[str, ...]:
        """The IDs of the images that have a manifest with this digest."""
        found = self._ask("images_by_digest", store=store, digest=digest)
        return records.texts(found, "images_by_digest")

    def big_data(self, store: int, image: str, key: str) -> bytes:
        """The content of a file that belongs to an image: its manifest or config."""
        return records.read_bytes(self._ask("big_data", store=store, image=image, key=key))

    def image_size(self, store: int, image: str) -> int:
        """The size of an image in bytes: layers as they are unpacked, manifest and config."""
        return records.typed(self._ask("image_size", store=store, image=image), int, "image_size")

    def mount(self, store: int, image: str) -> Mounted:
        """Mount an image under a new layer, in the mount namespace of the library's process."""
        return records.read_mounted(self._ask("mount", store=store, image=image))

    def unmount(self, store: int, layer: str) -> None:
        """Unmount and remove the layer that ``mount`` made."""
        self._ask("unmount", store=store, layer=layer)

    def check(self, store: int, *, digests: bool = False) -> CheckResult:
        """Have the library examine layers and images, with ``digests`` every layer's files too.

        CallError of kind "unsupported" where it can't (before containers/storage 1.57).
        """
        return records.read_check(self._ask("check", store=store, digests=digests))

    def panic(self) -> None:
        """Raise PanicError, by way of a panic in Go."""
        self._ask("panic")
