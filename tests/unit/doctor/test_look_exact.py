# SPDX-License-Identifier: Apache-2.0
"""Containers that outlive the exact view of their image."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from podman_cvmfs.doctor.look import exact
from podman_cvmfs.lists.entry import Entry
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.settings.policy import Policy
from podman_cvmfs.store.store import Store
from podman_cvmfs.sync.run import sync
from podman_cvmfs.usage.graphroots import Graphroots
from tests.support.required import required
from tests.support.world import World, app


class _Lists:
    """Every layer is an empty directory."""

    def find(self, repository: str, layer: Digest) -> str | None:
        return layer.hex

    def entries(self, digest: str) -> Iterable[Entry]:
        return [Entry("", stat.S_IFDIR | 0o555)]


def test_what_was_made_in_the_exact_view_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        required("only root's stores are exact")
    world = World(tmp_path)
    world.make("repository", 1, shared=2)
    request = replace(world.request(), store=Store(world.store.path, lists=_Lists()))
    sync(replace(request, policy=Policy(exact=True)))
    top = world.stored(app(0)).top_layer
    graphroot = tmp_path / "graph"
    records = {
        "overlay-layers/layers.json": [{"id": "f" * 64, "parent": top}],
        "overlay-containers/containers.json": [{"id": "e" * 64, "layer": "f" * 64, "names": ["x"]}],
    }
    for name, content in records.items():
        path = graphroot / name
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(content))
    monkeypatch.setattr(exact, "find_graphroots", lambda **_: Graphroots(own=[str(graphroot)]))
    assert exact.look_at_left_exact(world.store.path, 5) == ()
    sync(request)
    assert world.stored(app(0)).view == "flat"
    assert exact.look_at_left_exact(world.store.path, 5) == ("x",)
    assert exact.look_at_left_exact(str(tmp_path / "none"), 5) == ()
