# SPDX-License-Identifier: Apache-2.0
"""The test images: what real images do to a file system, each thing at least once.

They are made of hand-written layers around Debian's static busybox and go into a registry or an
OCI layout byte for byte as built, so every digest is known beforehand.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.support.layers import (
    CAPABILITY,
    Blob,
    Entry,
    directory,
    fifo,
    file,
    hardlink,
    opaque,
    pack,
    sha256,
    symlink,
    whiteout,
)
from tests.support.podman import BUSYBOX
from tests.support.registry import Registry

_OCI = "application/vnd.oci.image"
_DOCKER = "application/vnd.docker"

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_CREATED = "2020-09-13T12:26:40Z"

_APPLETS = (
    "cat cp echo env false find head id ls mkdir mv pwd readlink "
    "rm sh sleep stat test touch true wc"
)


@dataclass(frozen=True)
class Image:
    """What to build. ``layers`` name rows of ``LAYERS``, as ``name`` or ``name:compression``."""

    name: str
    layers: Sequence[str]
    config: Mapping[str, Any] = field(default_factory=dict)
    family: str = _OCI
    #: What ``podman run IMAGE`` prints, with the image's own command.
    prints: str = ""


@dataclass(frozen=True)
class Built:
    """An image's exact documents and blobs; ``image_id`` is podman's (the config's digest)."""

    image: Image
    media_type: str
    manifest: bytes
    config: bytes
    blobs: tuple[Blob, ...]

    @property
    def digest(self) -> str:
        """The manifest's digest."""
        return sha256(self.manifest)

    @property
    def image_id(self) -> str:
        """64 hexadecimal digits, as podman shows them."""
        return sha256(self.config)[len("sha256:") :]

    @property
    def repository(self) -> str:
        """The path in the registry, without the tag."""
        return self.image.name.partition(":")[0]

    @property
    def tag(self) -> str:
        """The tag."""
        return self.image.name.partition(":")[2]


def _base() -> list[Entry]:
    links = [symlink(f"bin/{name}", "busybox") for name in _APPLETS.split()]
    return [
        directory("bin"),
        file("bin/busybox", BUSYBOX.read_bytes(), 0o755),
        *links,
        *(directory(name) for name in ("dev", "etc", "home", "opt", "proc", "sys", "usr", "var")),
        directory("tmp", 0o1777),
        directory("root", 0o700),
        file("root/.profile", "# root's own\n", 0o600),
        file("etc/passwd", "root:x:0:0::/root:/bin/sh\napp:x:1234:1234::/home/app:/bin/sh\n"),
        file("etc/group", "root:x:0:\napp:x:1234:\n"),
        file("etc/shadow", "root:*:1::::::\n", 0o600),
        directory("home/app", 0o700, 1234),
        file("home/app/.profile", "# app's\n", 0o600, 1234),
        directory("var/lib"),
        directory("var/lib/data"),
        *(file(f"var/lib/data/{name}", f"base {name}\n") for name in "abc"),
        directory("var/lib/old"),
        file("var/lib/old/deep", "old\n"),
        directory("usr/share"),
        file("usr/share/kind", "a file\n"),
        directory("usr/share/thing"),
        file("usr/share/thing/inside", "in a directory\n"),
    ]


#: Layer name -> its entries.
LAYERS: dict[str, list[Entry]] = {
    "base": _base(),
    "empty": [],
    "app": [
        directory("opt/app", 0o755, 1234),
        file("opt/app/run", "#!/bin/sh\necho app runs\n", 0o755, 1234),
        file("opt/app/private", "for app only\n", 0o600, 1234),
    ],
    "odd-names": [
        directory("opt/odd"),
        file("opt/odd/with space", "space\n"),
        file("opt/odd/new\nline", "newline\n"),
        file(b"opt/odd/latin-\xe9\xff", "not UTF-8\n"),
        file("opt/odd/\u00fcml\u00e4ut", "UTF-8\n"),
        file("opt/odd/" + "long" * 40, "a name of 160 bytes\n"),
        file("opt/odd/-dash", "dash\n"),
        file("opt/odd/back\\slash", "backslash\n"),
        directory(b"opt/odd/d\xefr"),
        file(b"opt/odd/d\xefr/x", "below\n"),
    ],
    "links": [
        directory("opt/links"),
        file("opt/links/one", "linked\n"),
        hardlink("opt/links/two", "opt/links/one"),
        hardlink("opt/three", "opt/links/one"),
        symlink("opt/links/relative", "../links/one"),
        symlink("opt/links/absolute", "/opt/links/one"),
        symlink("opt/links/dangling", "/nowhere/at/all"),
        symlink(b"opt/links/latin", b"\xe9"),
        symlink("opt/links/dir", "/var/lib"),
    ],
    "modes": [
        directory("opt/modes"),
        file("opt/modes/suid", "suid\n", 0o4755),
        file("opt/modes/sgid", "sgid\n", 0o2755, 1234),
        directory("opt/modes/shared", 0o2775, 1234),
        file("opt/modes/none", "none\n", 0o000),
        file("opt/modes/other", "other\n", 0o640, 1234),
        file("opt/modes/big-owner", "big\n", 0o644, 4_000_000),
        directory("opt/modes/closed", 0o700, 1234),
        file("opt/modes/closed/in", "closed\n", 0o600, 1234),
        file("opt/modes/cap", "cap\n", 0o755, 0, {"security.capability": CAPABILITY}),
        file("opt/modes/xattr", "xattr\n", 0o644, 0, {"user.demo": b"v\xe9\x00l"}),
        fifo("opt/modes/fifo"),
    ],
    "delete": [
        whiteout("var/lib/data/a"),
        whiteout("var/lib/old"),
        file("var/lib/data/b", "changed\n"),
    ],
    "opaque": [
        directory("var/lib/data"),
        opaque("var/lib/data"),
        file("var/lib/data/d", "only this\n"),
    ],
    # A file becomes a directory, a directory a file; the next layer turns them back.
    "turn": [
        directory("usr/share/kind"),
        file("usr/share/kind/inside", "now a directory\n"),
        file("usr/share/thing", "a file now\n"),
    ],
    "turn-back": [
        file("usr/share/kind", "a file\n"),
        directory("usr/share/thing"),
        file("usr/share/thing/new", "a directory again\n"),
    ],
    "again": [
        directory("var/lib/old"),
        file("var/lib/old/young", "new\n"),
    ],
    "other": [
        directory("opt/other"),
        file("opt/other/file", "other\n"),
    ],
}

_PATH = "PATH=/usr/bin:/bin"
_SHELL = {"Env": [_PATH], "Cmd": ["sh", "-c", "echo $0 works"], "Labels": {"made-by": "tests"}}
_APP = {
    "User": "app",
    "Env": [_PATH, 'MODE=a "quoted" $value', "EMPTY="],
    "Entrypoint": ["/bin/sh", "-c"],
    "Cmd": ['id -un; pwd; echo "$MODE"; cat private'],
    "WorkingDir": "/opt/app",
    "Labels": {"org.example.title": "The app", 'odd "label"': "with\nnewline"},
    "Volumes": {"/data": {}},
    "ExposedPorts": {"8080/tcp": {}},
    "StopSignal": "SIGINT",
}
_APP_PRINTS = 'app\n/opt/app\na "quoted" $value\nfor app only\n'


def _cat(*paths: str) -> dict[str, Any]:
    return {"Env": [_PATH], "Cmd": ["cat", *paths]}


IMAGES = [
    Image("t/single:1", ["base"], _SHELL, _DOCKER, "sh works\n"),
    Image("t/app:1", ["base", "app", "odd-names", "links", "modes"], _APP, _DOCKER, _APP_PRINTS),
    Image(
        "t/twin:1", ["base", "app", "odd-names", "links", "modes"], _SHELL, _DOCKER, "sh works\n"
    ),
    Image("t/app:2", ["base", "app:zstd", "links:plain", "modes:zstd"], _APP, _OCI, _APP_PRINTS),
    Image("t/delete:1", ["base", "delete"], _cat("var/lib/data/b"), _DOCKER, "changed\n"),
    Image("t/opaque:1", ["base", "opaque"], _cat("var/lib/data/d"), _OCI, "only this\n"),
    Image("t/remade:1", ["base", "delete", "again"], _cat("var/lib/old/young"), _OCI, "new\n"),
    Image("t/turned:1", ["base", "turn"], _cat("usr/share/thing"), _DOCKER, "a file now\n"),
    Image("t/turned:2", ["base", "turn", "turn-back"], _cat("usr/share/kind"), _OCI, "a file\n"),
    Image("t/twice:1", ["base", "empty", "app", "delete", "empty", "app"], _APP, _OCI, _APP_PRINTS),
    Image("t/plain:1", ["base:plain", "other:plain"], _cat("opt/other/file"), _OCI, "other\n"),
    Image("t/zstd:1", ["base:zstd", "other:zstd"], _cat("opt/other/file"), _OCI, "other\n"),
    # The layer "app" on the same parent as in t/app, and on another one.
    Image("t/same-parent:1", ["base", "app", "other"], _APP, _DOCKER, _APP_PRINTS),
    Image("t/other-parent:1", ["base", "other", "app"], _APP, _DOCKER, _APP_PRINTS),
]


def deep(layers: int) -> Image:
    """An image of so many layers; each adds a file and deletes the one before it."""
    names = ["base"]
    for number in range(1, layers):
        name = f"deep-{number}"
        LAYERS[name] = [directory("opt/deep"), file(f"opt/deep/{number}", f"layer {number}\n")]
        if number > 1:
            LAYERS[name].append(whiteout(f"opt/deep/{number - 1}"))
        names.append(name)
    top = layers - 1
    return Image(f"t/deep:{layers}", names, _cat(f"opt/deep/{top}"), _DOCKER, f"layer {top}\n")


def _layer_type(blob: Blob, family: str) -> str:
    if family == _DOCKER:
        ending = {"gzip": ".gzip", "zstd": ".zstd", "plain": ""}[blob.compression]
        return f"{_DOCKER}.image.rootfs.diff.tar{ending}"
    return (
        f"{_OCI}.layer.v1.tar" + {"gzip": "+gzip", "zstd": "+zstd", "plain": ""}[blob.compression]
    )


_packed: dict[str, Blob] = {}


def _blob(layer: str) -> Blob:
    if layer not in _packed:
        name, _, compression = layer.partition(":")
        _packed[layer] = pack(LAYERS[name], compression or "gzip")
    return _packed[layer]


def build(image: Image, architecture: str = _ARCHITECTURES[platform.machine()]) -> Built:
    """Build the image's layers, configuration and manifest. Nothing is written."""
    return image_of(image, tuple(_blob(layer) for layer in image.layers), architecture)


def image_of(
    image: Image, blobs: tuple[Blob, ...], architecture: str = _ARCHITECTURES[platform.machine()]
) -> Built:
    """Build the configuration and manifest of an image with these layers."""
    config = json.dumps(
        {
            "architecture": architecture,
            "os": "linux",
            "created": _CREATED,
            "config": image.config,
            "rootfs": {"type": "layers", "diff_ids": [blob.diff_id for blob in blobs]},
            "history": [{"created": _CREATED, "created_by": name} for name in image.layers],
        },
        # Spaces, an odd order of keys: whoever re-encodes a config changes its digest.
        indent=1,
    ).encode()
    docker = image.family == _DOCKER
    kind = f"{_DOCKER}.distribution.manifest.v2+json" if docker else f"{_OCI}.manifest.v1+json"
    config_type = f"{_DOCKER}.container.image.v1+json" if docker else f"{_OCI}.config.v1+json"
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": kind,
            "config": _descriptor(config_type, config),
            "layers": [_descriptor(_layer_type(b, image.family), b.data) for b in blobs],
        },
        indent=3,
    ).encode()
    return Built(image, kind, manifest, config, blobs)


def _descriptor(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "size": len(data), "digest": sha256(data)}


def push(built: Built, registry: Registry) -> str:
    """Put the image into the registry; return its full name."""
    for data in (built.config, *(blob.data for blob in built.blobs)):
        registry.push_blob(built.repository, sha256(data), data)
    registry.push_manifest(built.repository, built.tag, built.media_type, built.manifest)
    return f"{registry.address}/{built.image.name}"


def push_index(images: Mapping[str, Built], registry: Registry) -> str:
    """Put images for several architectures into the registry, under the name of the first; return
    that."""
    first = next(iter(images.values()))
    entries = []
    for architecture, built in images.items():
        push(built, registry)
        entry = _descriptor(built.media_type, built.manifest)
        entry["platform"] = {"os": "linux", "architecture": architecture}
        entries.append(entry)
    kind = f"{_OCI}.index.v1+json"
    index = {"schemaVersion": 2, "mediaType": kind, "manifests": entries}
    registry.push_manifest(first.repository, first.tag, kind, json.dumps(index).encode())
    return f"{registry.address}/{first.image.name}"


def write_layout(images: Sequence[Built], path: Path) -> None:
    """Write an OCI image layout (image-spec ``image-layout.md``) with each image's tag as name.

    containers/image finds no Docker manifests in a layout: for podman, the images must be OCI's.
    """
    blobs = path / "blobs/sha256"
    blobs.mkdir(parents=True)
    manifests = []
    for built in images:
        for data in (built.manifest, built.config, *(blob.data for blob in built.blobs)):
            (blobs / sha256(data)[len("sha256:") :]).write_bytes(data)
        entry = _descriptor(built.media_type, built.manifest)
        entry["annotations"] = {"org.opencontainers.image.ref.name": built.tag}
        manifests.append(entry)
    index = {"schemaVersion": 2, "manifests": manifests}
    (path / "index.json").write_text(json.dumps(index))
    (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def renamed(built: Built, name: str) -> Built:
    """The same image, byte for byte, to be pushed under another name."""
    return replace(built, image=replace(built.image, name=name))
