# SPDX-License-Identifier: Apache-2.0
"""A stand-in for many registries at once, and repositories of what they have."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from podman_cvmfs.names.reference import DOCKER_HUB, ImageName
from podman_cvmfs.oci.documents import OCI_MANIFEST, Digest, parse_config, parse_manifest
from tests.support.http import Handler, Server
from tests.support.many import add_layer
from tests.support.osg import OsgBuilt, add_root


class StandIn:
    """Registries of all names, each below its own path: see ``registries_conf``. Docker Hub's has a
    server for itself."""

    def __init__(self, hub: Server, others: Server) -> None:
        self._servers = (hub, others)
        self._documents: dict[str, tuple[bytes, str]] = {}
        self._hosts: set[str] = set()
        #: Registry -> seconds: it answers 429 and asks for so long a pause.
        self.limited: dict[str, int] = {}
        for server in self._servers:
            server.answers["/v2/"] = self._answer

    def asked(self) -> int:
        """How many requests there have been since this was asked last."""
        count = sum(len(server.requests) for server in self._servers)
        for server in self._servers:
            server.requests.clear()
        return count

    def asked_of_hub(self) -> int:
        """How many of them Docker Hub got."""
        return len(self._servers[0].requests)

    def push(self, name: ImageName, image: OsgBuilt) -> None:
        """Have ``image`` under ``name``."""
        name = name.canonical
        self._hosts.add(name.registry)
        base = f"/v2/{_place(name.registry)}/{name.repository}"
        for reference in (name.tag, Digest.of(image.manifest), name.digest):
            if reference is not None:
                path = f"{base}/manifests/{reference}"
                self._documents[path] = (image.manifest, OCI_MANIFEST)
        blob = f"{base}/blobs/sha256:{image.image_id}"
        self._documents[blob] = (image.config, "application/octet-stream")

    def registries_conf(self, path: Path) -> Path:
        """Write a registries.conf that leads here."""
        tables = [
            f'[[registry]]\nprefix = "{host}"\ninsecure = true\n'
            f'location = "{self._servers[host != DOCKER_HUB].address}/{_place(host)}"\n'
            for host in sorted(self._hosts)
        ]
        path.write_text("unqualified-search-registries = []\n" + "".join(tables))
        return path

    def _answer(self, handler: Handler) -> None:
        path = unquote(urlsplit(handler.path).path)
        pause = self.limited.get(path.split("/")[2]) if path != "/v2/" else None
        if pause is not None:
            handler.reply(429, b"{}", Retry_After=str(pause))
        elif path in self._documents:
            body, kind = self._documents[path]
            handler.reply(200, body, Content_Type=kind)
        else:
            handler.reply(404, b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}')


def _place(registry: str) -> str:
    """The path of a registry; a port can't be in it."""
    return registry.replace(":", "-")


def add_ducc(repository: Path, name: ImageName, image: OsgBuilt, *, flat: bool = True) -> None:
    """Publish ``image`` in DUCC's layout, with a merged root that has Singularity's files, or by
    its layers alone."""
    manifest, config = parse_manifest(image.manifest), parse_config(image.config)
    for layer, diff_id in zip(manifest.layers, config.diff_ids):
        place = repository / ".layers" / layer.digest.hex[:2] / layer.digest.hex
        if not place.exists():
            add_layer(place, layer.digest.hex, diff_id.hex)
    described = repository / ".metadata" / name.repository_path
    if name.tag is None:
        described = repository / ".metadata" / name.registry / name.repository
    described.mkdir(parents=True, exist_ok=True)
    document = {
        "SchemaVersion": 2,
        "MediaType": OCI_MANIFEST,
        "Config": _descriptor(manifest.config),
        "Layers": [_descriptor(layer) for layer in manifest.layers],
    }
    (described / "manifest.json").write_text(json.dumps(document))
    if flat:
        target = f".flat/{image.image_id[:2]}/{image.image_id}"
        add_root(repository, target, {"PATH": "/bin"})
        link = repository / name.repository_path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to("../" * (name.repository_path.count("/")) + target)


def _descriptor(descriptor: object) -> dict[str, object]:
    assert hasattr(descriptor, "digest")
    return {
        "MediaType": descriptor.media_type,  # type: ignore[attr-defined]
        "Size": descriptor.size,  # type: ignore[attr-defined]
        "Digest": str(descriptor.digest),
    }


def tags_of(pattern: str) -> Iterable[str]:
    """Tags that a pattern with stars takes, and at last one that it doesn't."""
    yield pattern.replace("*", "1")
    yield pattern.replace("*", "2.0-x")
    yield "none-of-these"
