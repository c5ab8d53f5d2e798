# SPDX-License-Identifier: Apache-2.0
"""What the library tells, as frozen dataclasses, and their reading from its answers. Pure.

Sources: containers/storage ``images.go`` (``Image``), ``layers.go`` (``Layer``), ``check.go``
(``CheckReport``), ``types/options.go`` (``StoreOptions``).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from podman_cvmfs.storage_native.envelope import nonsense

_T = TypeVar("_T")


@dataclass(frozen=True)
class Version:
    """What was loaded: our ABI, the versions of containers/storage and of Go, the process ID."""

    abi: int
    storage: str
    go: str
    pid: int


@dataclass(frozen=True)
class Config:
    """The configuration in force, as the library reads it. ``driver`` is "" where it may choose;
    ``options`` are the storage driver's, each "name=value"."""

    graph_root: str
    run_root: str
    driver: str
    options: tuple[str, ...]

    @property
    def additional_stores(self) -> tuple[str, ...]:
        """The additional image stores, in the order in which they are searched."""
        found = []
        for option in self.options:
            name, _, value = option.partition("=")
            if name.lower().rpartition(".")[2] in ("imagestore", "additionalimagestore"):
                found.extend(value.split(","))
        return tuple(found)


@dataclass(frozen=True)
class BigData:
    """A file that belongs to an image: its key, size in bytes, and digest ("" if not known)."""

    key: str
    size: int
    digest: str


@dataclass(frozen=True)
class Image:
    """An image. ``digest`` is its manifest's; ``layer`` the ID of its top layer, "" if it has none;
    ``created`` RFC 3339 in UTC; ``read_only`` whether it lies in an additional store."""

    image_id: str
    digest: str
    names: tuple[str, ...]
    layer: str
    created: str
    big_data: tuple[BigData, ...]
    read_only: bool


@dataclass(frozen=True)
class Layer:
    """A layer. ``parent`` and the digests are "" where there is none; sizes are in bytes;
    ``compression`` is ``pkg/archive``'s number."""

    layer_id: str
    parent: str
    diff_digest: str
    diff_size: int
    compressed_digest: str
    compressed_size: int
    compression: int
    read_only: bool


@dataclass(frozen=True)
class Mounted:
    """A mounted image: the ID of the throwaway layer over it, and the directory."""

    layer: str
    path: str


@dataclass(frozen=True)
class CheckResult:
    """What the library finds damaged: layer or image ID -> what is wrong with it."""

    layers: Mapping[str, tuple[str, ...]]
    images: Mapping[str, tuple[str, ...]]


def typed(value: object, kind: type[_T], what: str) -> _T:
    """``value`` if it is just of the type ``kind`` (a bool is no int), else ChildError."""
    if type(value) is not kind:
        raise nonsense(what)
    return value


class _Fields:
    """Typed access to a JSON object of the answer to the call ``what``."""

    def __init__(self, value: object, what: str) -> None:
        self._fields: dict[str, Any] = typed(value, dict, what)
        self._what = what

    def text(self, name: str) -> str:
        return typed(self._fields.get(name), str, self._what)

    def number(self, name: str) -> int:
        return typed(self._fields.get(name), int, self._what)

    def flag(self, name: str) -> bool:
        return typed(self._fields.get(name), bool, self._what)

    def array(self, name: str) -> list[Any]:
        return typed(self._fields.get(name), list, self._what)

    def texts(self, name: str) -> tuple[str, ...]:
        return texts(self._fields.get(name), self._what)

    def problems(self, name: str) -> dict[str, tuple[str, ...]]:
        found: dict[str, Any] = typed(self._fields.get(name), dict, self._what)
        return {key: texts(value, self._what) for key, value in found.items()}


def texts(value: object, what: str) -> tuple[str, ...]:
    """A JSON array of strings."""
    return tuple(typed(item, str, what) for item in typed(value, list, what))


def read_version(value: object) -> Version:
    """The result of ``version``; like all below raises ChildError for anything else."""
    fields = _Fields(value, "version")
    return Version(
        abi=fields.number("abi"),
        storage=fields.text("storage"),
        go=fields.text("go"),
        pid=fields.number("pid"),
    )


def read_config(value: object) -> Config:
    """The result of ``config``."""
    fields = _Fields(value, "config")
    return Config(
        graph_root=fields.text("graph_root"),
        run_root=fields.text("run_root"),
        driver=fields.text("driver"),
        options=fields.texts("options"),
    )


def read_images(value: object) -> tuple[Image, ...]:
    """The result of ``images``."""
    return tuple(_image(_Fields(each, "images")) for each in typed(value, list, "images"))


def _image(fields: _Fields) -> Image:
    items = [_Fields(each, "images") for each in fields.array("big_data")]
    return Image(
        image_id=fields.text("id"),
        digest=fields.text("digest"),
        names=fields.texts("names"),
        layer=fields.text("layer"),
        created=fields.text("created"),
        big_data=tuple(
            BigData(item.text("key"), item.number("size"), item.text("digest")) for item in items
        ),
        read_only=fields.flag("read_only"),
    )


def read_layers(value: object) -> tuple[Layer, ...]:
    """The result of ``layers``."""
    return tuple(_layer(_Fields(each, "layers")) for each in typed(value, list, "layers"))


def _layer(fields: _Fields) -> Layer:
    return Layer(
        layer_id=fields.text("id"),
        parent=fields.text("parent"),
        diff_digest=fields.text("diff_digest"),
        diff_size=fields.number("diff_size"),
        compressed_digest=fields.text("compressed_digest"),
        compressed_size=fields.number("compressed_size"),
        compression=fields.number("compression"),
        read_only=fields.flag("read_only"),
    )


def read_bytes(value: object) -> bytes:
    """The result of ``big_data``."""
    try:
        return base64.b64decode(typed(value, str, "big_data"), validate=True)
    except (binascii.Error, ValueError):
        raise nonsense("big_data") from None


def read_mounted(value: object) -> Mounted:
    """The result of ``mount``."""
    fields = _Fields(value, "mount")
    return Mounted(fields.text("layer"), fields.text("path"))


def read_check(value: object) -> CheckResult:
    """The result of ``check``."""
    fields = _Fields(value, "check")
    return CheckResult(layers=fields.problems("layers"), images=fields.problems("images"))
