# SPDX-License-Identifier: Apache-2.0
"""Users' images and containers that name one layer of those they need: graphroots by hand.

``tests/matrix/test_real_layers.py`` has podman break some.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from podman_cvmfs.doctor.look.machine import look_at_broken
from podman_cvmfs.store.layout import SPACER_ID
from podman_cvmfs.usage.broken_layers import Broken, cure_of, find_broken
from podman_cvmfs.verify.broken import broken_users
from podman_cvmfs.verify.fault import Severity

BASE, MIDDLE, TOP, OWN, RW = (letter * 64 for letter in "abcde")
PIECE = "f" * 64


class Graphroot:
    """A graphroot with the layers BASE, MIDDLE, TOP, and OWN on them, of which an image is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for kind in ("containers", "images", "layers"):
            (path / f"overlay-{kind}").mkdir(parents=True)
        (path / "overlay/l").mkdir(parents=True)
        chain = (BASE, MIDDLE, TOP, OWN, RW)
        self.layers: list[dict[str, Any]] = [
            {"id": each, **({"parent": chain[at - 1]} if at else {}), "diff-digest": f"sha256:{at}"}
            for at, each in enumerate(chain)
        ]
        for at, each in enumerate(chain):
            self.lowers(each, chain[:at][::-1])
        self.write("layers", self.layers)
        self.write("images", [{"id": "1" * 64, "names": ["r/x:1"], "layer": OWN}])
        self.write("containers", [{"id": "2" * 64, "names": None, "layer": RW}])

    def write(self, kind: str, records: object) -> None:
        (self.path / f"overlay-{kind}/{kind}.json").write_text(json.dumps(records))

    def lowers(self, layer: str, below: Sequence[str]) -> None:
        (self.path / "overlay" / layer).mkdir(exist_ok=True)
        if below:
            (self.path / "overlay" / layer / "lower-layers").write_text(":".join(below))

    def found(self, *stores: str) -> list[str]:
        broken = find_broken([str(self.path)], stores)
        assert not broken.unreadable
        return [str(each) for each in broken.found]


@pytest.fixture
def graphroot(tmp_path: Path) -> Graphroot:
    return Graphroot(tmp_path / "graph")


BOTH = ["container 222222222222", "image r/x:1"]


def test_a_healthy_or_an_empty_graphroot(graphroot: Graphroot, tmp_path: Path) -> None:
    assert graphroot.found() == []
    assert find_broken([str(tmp_path)]).found == ()


def test_a_layer_that_lacks_its_parents(graphroot: Graphroot) -> None:
    graphroot.lowers(OWN, [TOP])
    graphroot.lowers(RW, [OWN, TOP])
    assert graphroot.found() == BOTH


def test_a_container_alone(graphroot: Graphroot) -> None:
    graphroot.lowers(RW, [OWN, TOP, BASE])
    assert graphroot.found() == BOTH[:1]


def test_the_empty_layer_of_layout_4_shows_nothing(graphroot: Graphroot) -> None:
    graphroot.lowers(OWN, [TOP, SPACER_ID])
    assert graphroot.found() == BOTH[1:]


def test_a_store_has_the_rest(graphroot: Graphroot) -> None:
    """As layout 5 has it: the pieces of a layer lie below it."""
    graphroot.lowers(OWN, [TOP, PIECE])
    graphroot.lowers(RW, [OWN, TOP, PIECE])
    assert graphroot.found() == []


def test_the_store_s_layer_is_no_layer_of_the_graphroot(graphroot: Graphroot) -> None:
    graphroot.write("layers", [each for each in graphroot.layers if each["id"] in (OWN, RW)])
    graphroot.lowers(OWN, [TOP])
    graphroot.lowers(RW, [OWN, TOP])
    assert graphroot.found() == []


def test_equal_layers_are_mounted_once(graphroot: Graphroot) -> None:
    graphroot.layers[1]["diff-digest"] = graphroot.layers[2]["diff-digest"]
    graphroot.write("layers", graphroot.layers)
    graphroot.lowers(OWN, [TOP, BASE])
    graphroot.lowers(RW, [OWN, TOP, BASE])
    assert graphroot.found() == []


def test_links_where_podman_was_older(graphroot: Graphroot, tmp_path: Path) -> None:
    """They are looked up in the graphroot, then in the stores."""
    store = tmp_path / "store"
    (store / "overlay/l").mkdir(parents=True)
    for name, place, target in (("OWN", graphroot.path, OWN), ("TOP", store, TOP)):
        os.symlink(f"../{target}/diff", place / f"overlay/l/{name}")
    directory = graphroot.path / "overlay" / RW
    (directory / "lower-layers").unlink()
    (directory / "lower").write_text("l/OWN:l/TOP")
    assert graphroot.found(str(store)) == BOTH[:1]
    # A link that leads nowhere fails loudly.
    (directory / "lower").write_text("l/GONE")
    assert graphroot.found(str(store)) == []


def test_what_cannot_be_read_is_reported(graphroot: Graphroot) -> None:
    (graphroot.path / "overlay-layers/layers.json").write_text("{")
    path = str(graphroot.path)
    assert "layers.json" in find_broken([path]).unreadable[path]
    (graphroot.path / "overlay-layers/layers.json").write_text('[null, 1, {"id": 2}, {"id": "/"}]')
    assert graphroot.found() == []
    loop = [{"id": OWN, "parent": TOP}, {"id": TOP, "parent": OWN}]
    graphroot.write("layers", loop)
    graphroot.lowers(OWN, [TOP])
    assert graphroot.found() == BOTH[1:]
    os.mkfifo(graphroot.path / "overlay" / TOP / "lower-layers.new")
    os.replace(
        graphroot.path / "overlay" / TOP / "lower-layers.new",
        graphroot.path / "overlay" / TOP / "lower-layers",
    )
    assert path in find_broken([path]).unreadable


def test_verify_and_doctor_look_where_podman_keeps_its_images(
    graphroot: Graphroot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf, store = tmp_path / "storage.conf", str(tmp_path / "store")
    conf.write_text(f'[storage]\ndriver = "overlay"\ngraphroot = "{graphroot.path}"\n')
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(conf))
    here = str(graphroot.path)
    assert [each for each in broken_users(store) if each.path == here] == []
    graphroot.lowers(RW, [OWN, TOP])
    (found,) = (each for each in broken_users(store) if each.path == here)
    assert found.severity is Severity.ERROR
    assert "container 222222222222" in found.what
    assert "podman rm --force 222222222222" in found.cure
    looked = look_at_broken([store], 30).by_graphroot()
    assert [str(each) for each in looked[here]] == BOTH[:1]


def test_the_commands_that_mend(tmp_path: Path) -> None:
    broken = [Broken("/g", "image", "r/x:1"), Broken("/g", "container", "odd name")]
    assert cure_of(broken) == "podman rm --force 'odd name' && podman rmi --force r/x:1"
