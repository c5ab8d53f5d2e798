# SPDX-License-Identifier: Apache-2.0
"""What ``podman-cvmfs inspect`` tells of an image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Target, podman_cvmfs, succeed
from tests.support.ducc_sample import Sample
from tests.support.many import REGISTRY, make_repository


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Target:
    config = tmp_path / "config.toml"
    config.write_text("offline = true\n")
    monkeypatch.setenv("PODMAN_CVMFS_CONFIG", str(config))
    return Target(
        make_repository(tmp_path / "repository", 2), tmp_path / "store", tmp_path / "cache"
    )


def name(number: int) -> str:
    return f"{REGISTRY}/project/app{number}:{number}"


def ask(target: Target, image: str) -> dict[str, Any]:
    (found,) = json.loads(succeed("inspect", image, "--store", target.store))
    assert isinstance(found, dict)
    return found


def test_flat(target: Target) -> None:
    target.sync()
    found = ask(target, name(1))
    assert found["Names"] == [name(1)]
    assert (found["View"], found["ManifestOrigin"]) == ("flat", "rebuilt")
    assert found["ConfigOrigin"] == "repository"
    base, *middle, top = found["Layers"]
    assert len(middle) == 6
    assert base["Genuine"] and base["Advertised"]
    assert base["DiffId"] == f"sha256:{base['Id']}"
    assert [place["InStore"] for place in base["Places"]] == [True, True, False]
    assert base["Places"][-1]["Path"].startswith(f"{target.repository}/.layers/")
    assert not any(layer["Genuine"] or layer["Advertised"] for layer in middle)
    assert top["MergedRoot"] and not top["Advertised"] and not top["Genuine"]
    assert [place["Name"] for place in top["Places"]] == ["diff", "lower1", "lower2"]
    assert [place["InStore"] for place in top["Places"]] == [True, True, False]
    assert top["Places"][2]["Path"] == (
        f"{target.repository}/.flat/{found['SourceId'][:2]}/{found['SourceId']}"
    )
    assert found["Size"] == sum(layer["Size"] for layer in found["Layers"])


def test_hints_name_the_store(target: Target) -> None:
    target.sync()
    done = podman_cvmfs("inspect", "none:1", "--store", target.store)
    assert done.stderr.splitlines()[-1] == (
        f"  hint: 'podman-cvmfs why none:1 --store {target.store}' tells why"
    )


def test_by_layers_the_top_mounts_them_all(target: Target) -> None:
    target.sync("--view", "layers")
    base, *_, top = ask(target, name(1))["Layers"]
    assert base["Genuine"] and not top["Genuine"] and not top["MergedRoot"]
    files = [place["Path"] for place in top["Places"] if not place["InStore"]]
    assert len(files) == 8
    assert all(path.startswith(f"{target.repository}/.layers/") for path in files)
    assert files[-1] == base["Places"][-1]["Path"]


def test_by_id_and_its_beginning(target: Target) -> None:
    target.sync()
    found = ask(target, name(0))
    for text in (found["Id"], found["Id"][:12], f"sha256:{found['Id']}"):
        assert ask(target, text) == found


def test_by_digest(target: Target) -> None:
    target.sync()
    found = ask(target, name(0))
    assert ask(target, f"{REGISTRY}/project/app0@{found['Digest']}") == found


def test_by_short_name(target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target.sync()
    conf = tmp_path / "registries.conf"
    conf.write_text(
        f'unqualified-search-registries = ["{REGISTRY}"]\n'
        f'[aliases]\n"the-app" = "{REGISTRY}/project/app1"\n'
    )
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(conf))
    assert ask(target, "project/app0:0")["Names"] == [name(0)]
    assert ask(target, "the-app:1")["Names"] == [name(1)]


@pytest.mark.parametrize("image", ["no/such:1", f"{REGISTRY}/project/app0"])
def test_not_there(target: Target, image: str) -> None:
    target.sync()
    done = podman_cvmfs("inspect", image, "--store", target.store)
    assert done.returncode == 3
    assert f"not in the store: {image}" in done.stderr
    assert "podman-cvmfs why" in done.stderr


def test_damaged_store(target: Target) -> None:
    target.sync()
    image_id = ask(target, name(0))["Id"]
    for file in (target.store / ".current/overlay-images" / image_id).glob("=*"):
        file.unlink()
    done = podman_cvmfs("inspect", name(0), "--store", target.store)
    assert done.returncode == 5
    assert "podman-cvmfs verify" in done.stderr


def test_as_text(target: Target) -> None:
    target.sync()
    said = succeed("inspect", name(0), name(1), "--format", "text", "--store", target.store)
    assert said.count("Layer 8: ") == 2
    assert said.count(f"  lower2: {target.repository}/.flat/") == 2


def test_the_sample(sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config.toml"
    config.write_text("offline = true\n")
    monkeypatch.setenv("PODMAN_CVMFS_CONFIG", str(config))
    target = Target(sample.repository, tmp_path / "store", tmp_path / "cache")
    target.sync()
    listed = json.loads(
        succeed(
            *("images", "--store", target.store, "--repository", target.repository),
            *("--format", "json"),
        )
    )
    for row in listed:
        found = ask(target, row["name"])
        assert found["Id"] == row["id"]
        for layer in found["Layers"]:
            assert all(Path(place["Path"]).is_dir() for place in layer["Places"])
