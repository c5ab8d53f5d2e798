# SPDX-License-Identifier: Apache-2.0
"""Records in stores whose owners may have put anything there."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from podman_cvmfs.usage.foreign_store import ForeignStore, name_of


def write(store: Path, name: str, text: str) -> Path:
    path = store / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_records_of_both_files(tmp_path: Path) -> None:
    store = ForeignStore(str(tmp_path))
    assert [*store.containers(), *store.images(), *store.layers()] == []
    assert (store.overlay_names(), store.overlay_text("x", "lower")) == ([], None)
    write(tmp_path, "overlay-layers/layers.json", '[{"id": "a"}]')
    write(tmp_path, "overlay-layers/volatile-layers.json", '[{"id": "b", "parent": "a"}]')
    write(tmp_path, "overlay-containers/volatile-containers.json", '[{"id": "c"}]')
    write(tmp_path, "overlay-images/images.json", "null")
    write(tmp_path, "overlay/a/lower", "l/X:l/Y\n")
    assert [each["id"] for each in store.layers()] == ["a", "b"]
    assert [each["id"] for each in store.containers()] == ["c"]
    assert list(store.images()) == []
    assert store.overlay_names() == ["a"]
    assert store.overlay_text("a", "lower") == "l/X:l/Y"
    assert (store.problem, store.unreadable, store.malformed) == (None, [], [])


@pytest.mark.parametrize(
    "record",
    [1, "x", {}, {"id": 1}, {"id": "x", "parent": 1}, {"id": "x", "layer": []}, {"id": None}],
)
def test_malformed_records_are_told_apart(tmp_path: Path, record: object) -> None:
    write(tmp_path, "overlay-layers/layers.json", json.dumps([{"id": "a"}, record, None]))
    store = ForeignStore(str(tmp_path))
    assert list(store.layers()) == [{"id": "a"}]
    assert store.unreadable == []
    (problem,) = store.malformed
    assert (
        "layers.json: its content is not what podman writes" in problem and store.problem == problem
    )


def test_unreadable_files_come_first(tmp_path: Path) -> None:
    write(tmp_path, "overlay-images/images.json", "[3]")
    path = write(tmp_path, "overlay-layers/layers.json", "{")
    store = ForeignStore(str(tmp_path))
    assert [*store.images(), *store.layers()] == []
    assert store.problem == store.unreadable[0] and "not valid JSON" in store.problem
    path.unlink()
    os.mkfifo(path)
    assert list(store.layers()) == []
    assert store.unreadable[1].endswith("layers.json: not a regular file")


def test_odd_names_of_layers_are_absent(tmp_path: Path) -> None:
    assert ForeignStore(str(tmp_path)).overlay_text("a\0b", "lower") is None


def test_what_to_call_a_container() -> None:
    record = {"id": "0123456789abcdef"}
    odd: tuple[object, ...] = (None, [], "x")
    for names in odd:
        assert name_of({**record, "names": names}) == "0123456789ab"
    assert name_of({**record, "names": ["web", "x"]}) == "web"
