# SPDX-License-Identifier: Apache-2.0
"""Two nodes of a site, a real registry, and a web server with the first node's blobs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from podman_cvmfs.names.reference import ImageName
from podman_cvmfs.oci.documents import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Digest
from tests.support.cli import Target, succeed
from tests.support.http import Handler, serving
from tests.support.osg import OsgBuilt
from tests.support.registry import Registry
from tests.support.stand_in import add_ducc

_LAYER = b"a layer, which nobody downloads"


def _image(number: int) -> OsgBuilt:
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": [str(number)]},
        "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(b"files"))]},
    }
    data = json.dumps(config).encode()
    layer = {"mediaType": OCI_LAYER, "digest": str(Digest.of(_LAYER)), "size": len(_LAYER)}
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": str(Digest.of(data)), "size": len(data)},
        "layers": [layer],
    }
    return OsgBuilt(json.dumps(manifest, indent=3).encode(), data)


@pytest.mark.parametrize("is_offline", [True, False])
def test_the_second_node_makes_no_request_to_the_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry: Registry, is_offline: bool
) -> None:
    repository, blobs = tmp_path / "repository", tmp_path / "blobs"
    for number in range(3):
        image, group = _image(number), f"nodes{int(is_offline)}/app"
        registry.push_blob(group, str(Digest.of(_LAYER)), _LAYER)
        registry.push_blob(group, f"sha256:{image.image_id}", image.config)
        registry.push_manifest(group, str(number), OCI_MANIFEST, image.manifest)
        add_ducc(repository, ImageName("registry.example.org", group, str(number)), image)
    conf = tmp_path / "registries.conf"
    conf.write_text(
        '[[registry]]\nprefix = "registry.example.org"\ninsecure = true\n'
        f'location = "{registry.address}"\n'
    )
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(conf))
    settings = tmp_path / "settings.toml"
    settings.write_text('arch = "amd64"\n')
    first, second = (Target(repository, tmp_path / n / "store", tmp_path / n) for n in "ab")

    def sync(target: Target) -> dict[str, object]:
        found = json.loads(succeed(*target.argv("--format", "json"), settings=settings))
        assert (found["failed"], found["synthesised"], found["images"]) == ({}, 0, 3)
        return dict(found)

    def digests(target: Target) -> set[bytes]:
        return {path.read_bytes() for path in target.store.glob("overlay-images/*/manifest")}

    sync(first)
    succeed("cache", "export", "--directory", blobs, "--cache", first.cache)
    asked = len(registry.since(0))

    def answer(handler: Handler) -> None:
        path = blobs / handler.path.partition("/blobs/")[2]
        data = path.read_bytes() if path.is_file() else None
        handler.reply(404 if data is None else 200, data or b"")

    with serving() as server:
        server.answers["/blobs/"] = answer
        settings.write_text(
            f'arch = "amd64"\nblob_sources = ["http://{server.address}/blobs"]\n'
            f"offline = {str(is_offline).lower()}\n"
        )
        sync(second)
        assert len(server.requests) == 9, "a config, a note and a manifest each"
    assert registry.since(asked) == []
    assert digests(second) == digests(first) == {_image(number).manifest for number in range(3)}
