# SPDX-License-Identifier: Apache-2.0
"""The sources of configs, and images without a config."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from podman_cvmfs.errors import RegistryUnreachable, StoreError
from tests.support.blobs import Blobs
from tests.support.many import REGISTRY
from tests.support.trees import snapshot
from tests.support.world import World, app

pytestmark = pytest.mark.usefixtures("four_images")


def test_configs_come_from_the_registry_once(world: World) -> None:
    registry = Blobs(world.take_configs())
    report = world.sync(registry=registry)
    assert len(registry.asked) == 4 and not report.synthesised
    assert {image.config_origin for image in world.content.images.values()} == {"registry"}
    world.sync(registry=registry)
    shutil.rmtree(world.root / "store")
    world.sync(registry=registry)
    assert len(registry.asked) == 4
    assert {image.config_origin for image in world.content.images.values()} == {"cache"}


def test_a_wrong_config_is_never_taken(world: World) -> None:
    place = world.repository / "podmanStore/overlay-images"
    for path in place.glob("*/*"):
        path.write_bytes(path.read_bytes() + b" ")
    for number in range(4):
        (world.flat(number) / ".singularity.d").mkdir()
    report = world.sync()
    assert len(report.failed) == 4
    assert not world.content.images


def _singularity(flat: Path) -> None:
    (flat / ".singularity.d/env").mkdir(parents=True)
    (flat / ".singularity.d/env/10-docker2singularity.sh").write_text('export PATH="/bin"\n')
    (flat / ".singularity.d/runscript").write_text("OCI_ENTRYPOINT=''\nOCI_CMD='\"sh\"'\n")


def test_a_lost_config_is_synthesised_until_the_registry_has_it(world: World) -> None:
    configs = world.take_configs()
    for number in range(4):
        _singularity(world.flat(number))
    report = world.sync()
    assert report.synthesised == 4 and not report.failed
    synthesised = set(world.content.images)
    assert not synthesised & set(configs), "a made-up config has an ID of its own"
    before = snapshot(world.root / "store")
    world.sync()
    assert snapshot(world.root / "store") == before
    dead = Blobs({}, RegistryUnreachable(f"{REGISTRY}: connection refused"))
    report = world.sync(registry=dead)
    assert len(dead.asked + dead.asked_manifests) == 1, "a dead registry is asked once a run"
    assert report.synthesised == 4 and not report.changed
    report = world.sync(registry=Blobs(configs))
    assert not report.synthesised and set(world.names.values()) == set(configs)
    assert len(report.moved) == 4


def test_a_config_that_nobody_has(world: World) -> None:
    world.take_configs()
    for number in range(4):
        (world.flat(number) / ".singularity.d").mkdir()
    report = world.sync(registry=Blobs({}))
    message = report.failed[app(0)].message
    assert app(0) in message and "no such blob" in message and "runscript" not in message
    assert "10-docker2singularity.sh is missing" in message


def test_merged_roots_without_dotfiles(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Environment and command are lost with them. Files and layers are there."""
    configs = world.take_configs()
    for registry in (None, Blobs({})):
        shutil.rmtree(world.root / "store", ignore_errors=True)
        caplog.clear()
        report = world.sync(registry=registry)
        assert not report.failed and report.synthesised == 4
        assert caplog.text.count("has lost the files in which DUCC notes environment") == 1
        assert "Give podman run a command for" in caplog.text
    image = world.root / "store/overlay-images" / world.stored(app(0)).image_id
    config = json.loads(next(image.glob("=*")).read_bytes())
    assert not config["config"].keys() & {"Env", "Cmd", "Entrypoint"} or not config["config"]["Env"]
    report = world.sync(registry=Blobs(configs))
    assert report.synthesised == 0, "as soon as somebody has it, the genuine one counts"


def test_layers_and_config_that_disagree(world: World) -> None:
    config = next((world.repository / "podmanStore/overlay-images").glob("*/*"))
    image_id = config.parent.name
    number = next(n for n in range(4) if os.readlink(world.link(n)).endswith(image_id))
    path = world.repository / f".metadata/{app(number)}/manifest.json"
    manifest = json.loads(path.read_text())
    top = manifest["Layers"][-1]["Digest"][7:]
    description = world.repository / f".layers/{top[:2]}/{top}/.metadata/layers.json"
    description.write_text(description.read_text().replace('"sha256:', '"sha256:' + "0" * 5, 2))
    assert app(number) in world.sync().failed
    facts = [{"diff-digest": "sha256:" + "0" * 64, "diff-size": 1}]
    description.write_text(json.dumps(facts))
    assert "in layers.json, but" in world.sync().failed[app(number)].message
    manifest["Layers"].pop()
    path.write_text(json.dumps(manifest))
    assert "has 2 layers, its config 3" in world.sync().failed[app(number)].message


def test_without_merged_root_only_what_can_be_shown_right(world: World) -> None:
    shutil.rmtree(world.flat(1))
    shutil.rmtree(world.flat(2))
    layers = world.repository / ".layers"
    manifest = json.loads((world.repository / f".metadata/{app(2)}/manifest.json").read_text())
    digest = manifest["Layers"][1]["Digest"][7:]
    shutil.rmtree(layers / digest[:2] / digest)
    report = world.sync()
    assert list(report.failed) == [app(2)]
    assert "and layer 2 of 3 is missing: " in report.failed[app(2)].message
    views = {image.published[0]: image.view for image in world.content.images.values()}
    assert views == {app(0): "flat", app(1): "layers", app(3): "flat"}


def test_a_cache_that_cannot_be_written_is_an_error(world: World) -> None:
    configs = world.take_configs()
    (world.root / "cache").write_text("a file")
    with pytest.raises(StoreError, match="can't write to the cache"):
        world.sync(registry=Blobs(configs))
    assert not (world.root / "store").exists()
