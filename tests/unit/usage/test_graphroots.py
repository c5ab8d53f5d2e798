# SPDX-License-Identifier: Apache-2.0
"""Graphroots that the settings name."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from podman_cvmfs.plan.retirement import NEVER
from podman_cvmfs.podman.storage_conf.effective import Places
from podman_cvmfs.sync.run import sync
from podman_cvmfs.usage.graphroots import find_graphroots
from podman_cvmfs.usage.named_graphroots import Matches, find_matches
from tests.support.world import World, app


def make(path: Path) -> str:
    """A graphroot at ``path``."""
    (path / "overlay-layers").mkdir(parents=True)
    return str(path)


@pytest.mark.parametrize(
    "pattern",
    ["$USER", "${USER}", "$UID", "${LOGNAME}", "%u", "%U", "*", "[a-z]*", "%u*"],
)
def test_a_user_s_name_is_any_name(tmp_path: Path, pattern: str) -> None:
    places = [make(tmp_path / f"scratch/{name}/storage") for name in ("ann", "bob")]
    (tmp_path / "scratch/eve").mkdir()
    (found,) = find_matches([f"{tmp_path}/scratch/{pattern}/storage"])
    assert found == Matches(tuple(places))


def test_names_that_only_look_like_a_user_s(tmp_path: Path) -> None:
    make(tmp_path / "ann")
    (found,) = find_matches([f"{tmp_path}/$USERS"])
    assert found.problem == "No such file or directory"


@pytest.mark.parametrize("pattern", ["scratch/$USER/storage", "scratch", "scratch/a/*"])
def test_a_place_that_is_missing_may_hold_graphroots(tmp_path: Path, pattern: str) -> None:
    """Its file system may not be mounted just now."""
    (found,) = find_matches([f"{tmp_path}/{pattern}"])
    assert found == Matches(problem="No such file or directory")


def test_a_place_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = make(tmp_path / "good")
    wait = os.listdir

    def listdir(path: str) -> list[str]:
        if path.endswith("/silent"):
            time.sleep(60)
        return wait(path)

    monkeypatch.setattr(os, "listdir", listdir)
    hanging, good = find_matches([f"{tmp_path}/silent/*", f"{tmp_path}/go*"], 0.5)
    assert hanging == Matches(problem="it doesn't answer")
    assert good == Matches((place,))


def places_of(tmp_path: Path) -> Places:
    return Places(
        uid=0,
        vendor=str(tmp_path / "usr"),
        admin=str(tmp_path / "etc"),
        user=str(tmp_path / "user"),
        graphroot=str(tmp_path / "graph"),
    )


def test_named_graphroots_are_searched(tmp_path: Path) -> None:
    ann = make(tmp_path / "scratch/ann/storage")
    (tmp_path / "scratch/bob/storage").mkdir(parents=True)
    link = tmp_path / "scratch/link"
    link.symlink_to(tmp_path / "scratch/ann")
    missing = f"{tmp_path}/not-mounted/*"
    patterns = [f"{tmp_path}/scratch/$USER/storage", missing]
    found = find_graphroots((), places_of(tmp_path), "/none", "/none", patterns=patterns)
    assert found.others == [ann]
    assert found.unseen == {missing: "No such file or directory"}
    assert found.own_unseen == (missing,)


def test_a_sync_asks_the_settings(tmp_path: Path) -> None:
    """A container on a layer whose files have left the repository, in a named graphroot."""
    world = World(tmp_path)
    world.make("repository", 2)
    world.sync()
    top = world.stored(app(1)).top_layer
    graphroot = Path(make(tmp_path / "scratch/ann/storage"))
    (graphroot / "overlay-containers").mkdir()
    records = {
        "overlay-containers/containers.json": [{"id": "c", "names": ["web"], "layer": "rw"}],
        "overlay-layers/layers.json": [{"id": "rw", "parent": top}],
    }
    for name, content in records.items():
        (graphroot / name).write_text(json.dumps(content))
    shutil.rmtree(world.flat(1))
    world.link(1).unlink()
    shutil.rmtree(world.repository / f".metadata/{app(1)}")
    for grace, patterns, stays in (
        (0, (f"{tmp_path}/scratch/%u/storage",), True),
        (NEVER, (), True),
        (0, (), False),
    ):
        sync(replace(world.request(), grace=grace, graphroots=patterns))
        assert app(1) not in world.names
        assert (top in world.content.layers) is stays, (grace, patterns)
