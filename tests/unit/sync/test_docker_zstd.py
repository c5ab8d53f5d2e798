# SPDX-License-Identifier: Apache-2.0
"""Layers in zstd in manifests of Docker's form: podman reads these from version 5.7 on."""

from __future__ import annotations

import json

import pytest

from podman_cvmfs.oci.documents import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    Digest,
    parse_manifest,
)
from podman_cvmfs.resolve import manifest as resolving
from podman_cvmfs.sync import run
from podman_cvmfs.verify.repair import repair
from podman_cvmfs.verify.store import verify
from tests.support.blobs import Blobs
from tests.support.world import World, app

pytestmark = pytest.mark.usefixtures("four_images")

_ZSTD = f"{DOCKER_LAYER}.zstd"
_KINDS = (_ZSTD, f"{DOCKER_LAYER}.gzip", DOCKER_LAYER)


@pytest.fixture
def podman(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """Whether podman ``reads`` such manifests."""
    found = {"reads": False}
    for module in (resolving, run):
        monkeypatch.setattr(module, "reads_docker_zstd", lambda: found["reads"])
    return found


@pytest.fixture
def genuine(world: World) -> bytes:
    """The genuine manifest of one image, which DUCC's tree describes with the same types."""
    path = world.repository / f".metadata/{app(0)}/manifest.json"
    described = json.loads(path.read_bytes())
    for layer, kind in zip(described["Layers"], _KINDS):
        layer["MediaType"] = kind
    path.write_text(json.dumps(described))
    document = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": {
            "mediaType": DOCKER_CONFIG,
            "size": described["Config"]["Size"],
            "digest": described["Config"]["Digest"],
        },
        "layers": [
            {"mediaType": kind, "size": layer["Size"], "digest": layer["Digest"]}
            for layer, kind in zip(described["Layers"], _KINDS)
        ],
    }
    return json.dumps(document, indent=2).encode()


def _manifest(world: World) -> bytes:
    images = world.root / "store/overlay-images"
    return (images / world.stored(app(0)).image_id / "manifest").read_bytes()


def test_podman_gets_what_it_can_read(
    world: World, podman: dict[str, bool], genuine: bytes
) -> None:
    registry = Blobs({})
    registry.manifests = {"0": genuine}
    report = world.sync(registry=registry)
    assert not report.failed
    assert world.stored(app(0)).manifest_origin == "converted"
    assert not parse_manifest(_manifest(world), as_it_is=True).has_docker_zstd
    ends = [layer.media_type.rpartition("layer.v1.")[2] for layer in parse_manifest(genuine).layers]
    assert ends == ["tar+zstd", "tar+gzip", "tar"]
    digests = [each.digest for each in parse_manifest(_manifest(world)).layers]
    assert digests == [each.digest for each in parse_manifest(genuine).layers]
    assert not verify(world.store.path).findings
    # Nothing changes as long as podman is the same.
    assert not world.sync(registry=registry).changed
    podman["reads"] = True
    report = world.sync(registry=registry)
    assert report.changed and not report.moved
    assert world.stored(app(0)).manifest_origin == "genuine"
    assert _manifest(world) == genuine
    assert world.stored(app(0)).manifest_digest == str(Digest.of(genuine))
    assert not verify(world.store.path).findings


def test_a_rebuilt_one_is_for_every_podman(
    world: World, podman: dict[str, bool], genuine: bytes
) -> None:
    podman["reads"] = True
    report = world.sync()
    assert not report.failed
    assert world.stored(app(0)).manifest_origin == "rebuilt"
    assert not parse_manifest(_manifest(world), as_it_is=True).has_docker_zstd


def test_verify_finds_what_an_older_podman_cannot_read(
    world: World, podman: dict[str, bool], genuine: bytes
) -> None:
    registry = Blobs({})
    registry.manifests = {"0": genuine}
    podman["reads"] = True
    world.sync(registry=registry)
    podman["reads"] = False
    verdict = verify(world.store.path)
    (fault,) = verdict.findings
    assert "only podman 5.7 and later can read" in fault.what
    repair(verdict, world.request(registry=registry))
    assert world.stored(app(0)).manifest_origin == "converted"
    assert not verify(world.store.path).findings
