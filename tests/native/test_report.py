# SPDX-License-Identifier: Apache-2.0
"""The library's verdict on stores: all that we write are good, and damage is found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from podman_cvmfs.errors import PodmanCvmfsError
from podman_cvmfs.oci.big_data import big_data_file
from podman_cvmfs.storage_native import Artefact, CallError, Kind, judge
from podman_cvmfs.store.reader import read_store
from podman_cvmfs.store.records import StoreContent
from podman_cvmfs.verify.native import differences, verify_native
from tests.support.native import CHECKOUT


@pytest.fixture
def asked(artefact: Artefact, monkeypatch: pytest.MonkeyPatch) -> Artefact:
    """Each artefact in turn, as the one that is found."""
    monkeypatch.setenv("PODMAN_CVMFS_NATIVE_LIBRARY", artefact.path)
    return artefact


@pytest.mark.usefixtures("asked")
def test_every_kind_of_store_is_good(all_stores: dict[str, Path]) -> None:
    for name, store in all_stores.items():
        report, wrong = verify_native(str(store))
        assert (name, wrong) == (name, [])
        content = read_store(str(store))
        assert content is not None
        assert set(report.images) == set(content.images) != set()
        assert report.names == content.names
        assert set(report.layers) == set(content.layers)
        assert set(report.sizes) == set(content.images)


@pytest.mark.usefixtures("asked")
def test_the_report_as_json(store: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    argv = [sys.executable, "-m", "podman_cvmfs.storage_native", "judge", str(store)]
    done = subprocess.run(argv, stdout=subprocess.PIPE, check=True, env=environment)
    data = json.loads(done.stdout)[str(store)]
    expected = judge(str(store))
    assert data == json.loads(json.dumps(expected.as_data()))
    assert len(data["images"]) == 5
    bad = subprocess.run([*argv, "/does/not/exist"], capture_output=True, env=environment)
    assert bad.returncode == 1
    assert b"error: containers/storage: open" in bad.stderr


@pytest.fixture
def copy(store: Path, tmp_path: Path) -> Path:
    """A copy of the store that a test may damage."""
    # With its whiteouts, which are devices.
    subprocess.run(["cp", "-a", store, tmp_path / "copy"], check=True)
    return tmp_path / "copy"


def _edit(path: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Change the records in a JSON file."""
    records = json.loads(path.read_bytes())
    change(records)
    path.write_text(json.dumps(records))


def _wrong(store: Path) -> list[str]:
    """What is found wrong, be it that the store doesn't load at all."""
    try:
        return verify_native(str(store))[1]
    except PodmanCvmfsError as err:
        return [err.message]


def _first_image(store: Path) -> Path:
    content = read_store(str(store))
    assert content is not None
    return store / "overlay-images" / min(content.images)


@pytest.mark.usefixtures("asked")
def test_a_missing_manifest_is_found(copy: Path) -> None:
    (_first_image(copy) / "manifest").unlink()
    assert any("manifest" in line or "no such file" in line for line in _wrong(copy))


@pytest.mark.usefixtures("asked")
def test_an_altered_config_of_equal_size_is_found(copy: Path) -> None:
    """The library's own Check misses it."""
    image = _first_image(copy)
    config = image / big_data_file(f"sha256:{image.name}")
    config.write_bytes(config.read_bytes().replace(b"linux", b"minix"))
    assert any("has not the digest" in line for line in _wrong(copy))


@pytest.mark.usefixtures("asked")
def test_a_missing_layer_record_is_found(copy: Path) -> None:
    _edit(copy / "overlay-layers/layers.json", lambda records: records.remove(records[0]))
    assert _wrong(copy) != []


@pytest.mark.usefixtures("asked")
def test_a_name_on_two_images_is_found(copy: Path) -> None:
    def twice(records: list[dict[str, Any]]) -> None:
        records[0]["names"] = records[1]["names"]

    _edit(copy / "overlay-images/images.json", twice)
    assert _wrong(copy) != []


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"null", b"[1]", b'[{"id": 1}]'])
@pytest.mark.parametrize("name", ["overlay-images/images.json", "overlay-layers/layers.json"])
def test_broken_records_are_no_traceback(copy: Path, name: str, content: bytes) -> None:
    (copy / name).write_bytes(content)
    assert _wrong(copy) != []


@pytest.mark.usefixtures("asked")
def test_hostile_names_reach_nobody_raw(copy: Path) -> None:
    def hostile(records: list[dict[str, Any]]) -> None:
        records[0]["names"] = ["x\x1b[2J\x00\u202e:latest", "y" * 1_000_000, "\ud800"]

    _edit(copy / "overlay-images/images.json", hostile)
    report = judge(str(copy))
    assert any("\x1b[2J" in name for image in report.images.values() for name in image.names)
    assert not any("\x1b" in line for line in report.errors)
    assert _wrong(copy) != []


@pytest.mark.usefixtures("asked")
def test_a_store_that_does_not_load() -> None:
    with pytest.raises(CallError, match="open"):
        judge("/does/not/exist")


def test_differences_name_what_differs(built: Path, store: Path) -> None:
    found = read_store(str(store))
    assert found is not None
    report = judge(str(store), artefact=Artefact(Kind.PROGRAM, str(built / Kind.PROGRAM.value)))
    assert differences(report, found) == []
    image_id, image = min(found.images.items())
    layer_id, layer = min(found.layers.items())

    def image_with(**fields: Any) -> StoreContent:
        return replace(found, images={**found.images, image_id: replace(image, **fields)})

    def layer_with(**fields: Any) -> StoreContent:
        return replace(found, layers={**found.layers, layer_id: replace(layer, **fields)})

    for word, content in (
        ("images", replace(found, images={})),
        ("layers", replace(found, layers={})),
        ("names", replace(found, names={"a:b": image_id})),
        ("time", image_with(created="")),
        ("size", image_with(config_size=1)),
        ("top layer", image_with(top_layer=None)),
        ("parent", layer_with(parent=layer_id)),
        ("blob size", layer_with(blob_size=7)),
    ):
        assert any(word in line for line in differences(report, content)), word
