# SPDX-License-Identifier: Apache-2.0
"""Doctor's look at CRI-O, on real files."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from podman_cvmfs.doctor.facts import Crio, Engine, Facts
from podman_cvmfs.doctor.judge.judges import judge
from podman_cvmfs.doctor.look import crio as look
from podman_cvmfs.doctor.look.crio import look_at_crio, look_at_standing
from podman_cvmfs.setup.crio import put_crio
from podman_cvmfs.setup.request import Plan, SetupRequest
from podman_cvmfs.store.store import Store
from podman_cvmfs.usage.graphroots import Graphroots
from tests.support.doctor_facts import ROOT
from tests.support.small_store import put

NAMES = ["r/a:1", "registry.k8s.io/pause:3.10"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(str(tmp_path / "store"))
    put(made, "a")
    return made


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CRI-O's configuration; there is no crio in PATH."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    made = tmp_path / "crio"
    (made / "crio.conf.d").mkdir(parents=True)
    (made / "crio.conf").write_text(f'[crio]\nroot = "{tmp_path}/root"\n')
    return made


def looked(directory: Path, store: Store, graphroot: str = "/g") -> Crio:
    return look_at_crio(store.path, NAMES, graphroot, 5, str(directory))


def test_without_the_drop_in_all_is_found(directory: Path, store: Store, tmp_path: Path) -> None:
    found = looked(directory, store, f"{tmp_path}/root")
    assert found == Crio(
        True, has_store=False, shares=True, repairs=True, unpinned=tuple(NAMES), pause=NAMES[1]
    )
    assert not looked(directory, store).shares


def test_set_up_s_drop_in_leaves_the_pause_image_alone(directory: Path, store: Store) -> None:
    plan = Plan()
    put_crio(plan, SetupRequest(store.path), str(directory))
    for change in plan.changes:
        Path(change.path).write_bytes(change.after or b"")
    found = looked(directory, store)
    assert found == Crio(True, unpinned=(NAMES[1],), pause=NAMES[1])


def test_missing_stores_and_broken_files_are_told(directory: Path, store: Store) -> None:
    options = '["overlay.imagestore=/no-such-store"]'
    (directory / "crio.conf.d/a").write_text(f"[crio]\nstorage_option = {options}\n")
    assert looked(directory, store).missing == ("/no-such-store",)
    (directory / "crio.conf.d/a").write_text("[crio")
    assert looked(directory, store).problem.startswith(f"{directory}/crio.conf.d/a:1: ")


def test_only_root_looks_and_only_where_cri_o_is(
    directory: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert look_at_crio(store.path, NAMES, "/g", 5, "/no-such-directory") == Crio()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert looked(directory, store) == Crio()


def test_a_node_without_podman_is_in_order() -> None:
    """A machine of Kubernetes has no podman as a rule."""
    gone = Engine(problem="podman is not in PATH", is_missing=True)
    facts: Facts = replace(ROOT, engine=gone, is_configured=False)
    assert {"podman-broken", "store-not-configured"} <= {
        each.condition.name for each in judge(facts)
    }
    assert judge(replace(facts, crio=Crio(is_there=True))) == []


def test_images_on_the_store_s_layers_are_named(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphroot = tmp_path / "graph"
    layer = json.loads(Path(store.path, "overlay-layers/layers.json").read_text())[0]["id"]
    records = {
        "overlay-layers/layers.json": [{"id": "f" * 64, "parent": layer}],
        "overlay-images/images.json": [{"id": "e" * 64, "layer": "f" * 64, "names": ["r/x:1"]}],
    }
    for name, content in records.items():
        path = graphroot / name
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(content))
    found = Graphroots(own=[str(graphroot)])
    monkeypatch.setattr(look, "find_graphroots", lambda **_: found)
    assert look_at_standing(store.path, 5) == ("r/x:1",)
    assert look_at_standing(str(tmp_path / "none"), 5) == ()
