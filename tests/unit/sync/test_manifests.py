# SPDX-License-Identifier: Apache-2.0
"""Manifests as the registry has them."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from podman_cvmfs.errors import RegistryBusy, RegistryError, RegistryUnreachable
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.verify.store import verify
from tests.support.blobs import Blobs
from tests.support.many import REGISTRY
from tests.support.trees import snapshot
from tests.support.world import World, app

pytestmark = pytest.mark.usefixtures("four_images")


def test_genuine_manifests_are_kept_byte_for_byte(world: World) -> None:
    registry = Blobs({})
    manifest, moved = world.genuine(1), world.genuine(2)
    index = json.dumps(
        {
            "schemaVersion": 2,
            "manifests": [
                {
                    "digest": str(Digest.of(world.genuine(3))),
                    "size": 1,
                    "platform": {"os": "linux", "architecture": "amd64"},
                }
            ],
        }
    ).encode()
    registry.manifests = {
        "0": moved,  # this tag leads to another image by now
        "1": manifest,
        "3": index,
        str(Digest.of(world.genuine(3))): world.genuine(3),
    }
    report = world.sync(registry=registry)
    assert not report.failed and not registry.asked, "configs are in the repository"
    assert len(registry.asked_manifests) == 5, "one each, and one more for the index"
    assert world.stored(app(1)).manifest_digest == str(Digest.of(manifest))
    assert world.stored(app(3)).manifest_digest == str(Digest.of(world.genuine(3)))
    assert world.stored(app(3)).index_digest == str(Digest.of(index))
    origins = {name: world.stored(name).manifest_origin for name in world.content.names}
    assert origins == {app(0): "rebuilt", app(1): "genuine", app(2): "rebuilt", app(3): "genuine"}
    images = world.root / "store/overlay-images"
    assert (images / world.stored(app(1)).image_id / "manifest").read_bytes() == manifest
    before = snapshot(world.root / "store")
    shutil.rmtree(world.root / "store")
    world.sync()
    digests = {name: world.stored(name).manifest_digest for name in (app(1), app(3))}
    assert digests[app(1)] == str(Digest.of(manifest)), "from the cache, with no registry"
    assert digests[app(3)] == str(Digest.of(world.genuine(3)))
    world.sync(registry=registry)
    assert len(registry.asked_manifests) == 5, "nothing is asked for in the steady state"
    assert {path for path in before if path.startswith("pool/images")} == {
        path for path in snapshot(world.root / "store") if path.startswith("pool/images")
    }


@pytest.mark.parametrize("kind", [RegistryBusy, RegistryUnreachable])
def test_a_manifest_that_the_registry_did_not_answer_for_is_asked_for_again(
    world: World, kind: type[RegistryError]
) -> None:
    """Its config is had, so nothing else would bring the image up again."""
    names = {app(number) for number in range(4)}
    report = world.sync(registry=Blobs({}, kind(f"{REGISTRY}: not now")))
    assert report.synthesised == 0 and not report.failed
    assert report.waiting.keys() == report.silent.keys() == {REGISTRY}
    assert set(report.waiting[REGISTRY]) == names
    assert {world.stored(name).manifest_origin for name in names} == {"unanswered"}
    assert not verify(world.store.path).findings
    registry = Blobs({})
    registry.manifests = {"1": world.genuine(1)}
    report = world.sync(registry=registry)
    assert not report.waiting and report.changed
    assert len(registry.asked_manifests) == 4
    origins = {name: world.stored(name).manifest_origin for name in names}
    assert origins == {app(1): "genuine", **dict.fromkeys(names - {app(1)}, "rebuilt")}
    world.sync(registry=registry)
    assert len(registry.asked_manifests) == 4, "what nobody has isn't asked for again"


def test_the_manifest_that_ducc_keeps_beside_the_config(world: World) -> None:
    """It is the registry's, since cvmfs 2.14. Before that it was a link to DUCC's description."""
    places = [world.repository / f"podmanStore/overlay-images/{_id_of(world, n)}" for n in range(4)]
    (places[0] / "manifest").write_bytes(world.genuine(0))
    (places[1] / "manifest").symlink_to(f"../../../.metadata/{app(1)}/manifest.json")
    (places[2] / "manifest").write_bytes(world.genuine(3))
    (places[3] / "manifest").write_bytes(b"{")
    registry = Blobs({})
    report = world.sync(registry=registry)
    assert not report.failed
    origins = {number: world.stored(app(number)).manifest_origin for number in range(4)}
    assert origins == {0: "genuine", 1: "rebuilt", 2: "rebuilt", 3: "rebuilt"}
    assert world.stored(app(0)).manifest_digest == str(Digest.of(world.genuine(0)))
    assert len(registry.asked_manifests) == 3


def _id_of(world: World, number: int) -> str:
    return os.path.basename(os.readlink(world.link(number)))
