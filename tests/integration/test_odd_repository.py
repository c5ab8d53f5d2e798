# SPDX-License-Identifier: Apache-2.0
"""A repository with one of each oddity that publishers leave, beside good images: only what is
really wrong fails, and podman lists all the rest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from podman_cvmfs.errors import PartialError
from podman_cvmfs.oci.documents import (
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    parse_manifest,
    render_manifest,
)
from tests.support.architectures import app, config_for, publish_in
from tests.support.cli import Target, podman_cvmfs, succeed
from tests.support.many import make_repository
from tests.support.podman import Host, running

#: Oddity -> how an image of the repository gets it.
_Make = Callable[[Path, int], object]


def _described(repository: Path, number: int) -> Path:
    return repository / f".metadata/{app(number)}/manifest.json"


def _edit(repository: Path, number: int, change: Callable[[dict[str, Any]], object]) -> None:
    path = _described(repository, number)
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def _id(repository: Path, number: int) -> str:
    return (repository / app(number)).readlink().name


def _root(repository: Path, number: int) -> Path:
    image_id = _id(repository, number)
    return repository / f".flat/{image_id[:2]}/{image_id}"


def _kept(repository: Path, number: int) -> Path:
    return repository / f"podmanStore/overlay-images/{_id(repository, number)}"


def _top(repository: Path, number: int) -> Path:
    blob = json.loads(_described(repository, number).read_text())["Layers"][-1]["Digest"][7:]
    return repository / f".layers/{blob[:2]}/{blob}"


def _without_config(repository: Path, number: int) -> None:
    """DUCC has lost the config, and the merged root its dotfiles."""
    shutil.rmtree(_kept(repository, number))
    (_root(repository, number) / "etc").mkdir()


def _in_zstd(repository: Path, number: int) -> None:
    _edit(
        repository, number, lambda each: each["Layers"][-1].update(MediaType=f"{DOCKER_LAYER}.zstd")
    )


def _with_genuine_manifest(repository: Path, number: int) -> None:
    manifest = json.loads(
        render_manifest(parse_manifest(_described(repository, number).read_bytes()))
    )
    assert manifest["mediaType"] == DOCKER_MANIFEST
    (_kept(repository, number) / "manifest").write_text(json.dumps(manifest, indent=3))


def _bundled(repository: Path, number: int) -> None:
    (_root(repository, number) / "tool").touch()
    (_root(repository, number) / ".cvmfsbundle-tool").touch()


def _without_root_and_layer(repository: Path, number: int) -> None:
    shutil.rmtree(_root(repository, number))
    shutil.rmtree(_top(repository, number))


def _empty_root_and_layer(repository: Path, number: int) -> None:
    root, top = _root(repository, number), _top(repository, number)
    shutil.rmtree(root)
    root.mkdir()
    facts = top / ".metadata/layers.json"
    (entry,) = json.loads(facts.read_text())
    facts.write_text(json.dumps([{**entry, "diff-size": 20480}]))


def _published_for(repository: Path, number: int, directory: str) -> None:
    """Its config says arm64."""
    config_for(repository, number, "arm64")
    publish_in(repository, number, directory, app(number))


_SHOWN: dict[str, _Make] = {
    "plain": lambda repository, number: None,
    "x86_64": lambda repository, number: config_for(repository, number, "x86_64"),
    "Linux": lambda repository, number: config_for(repository, number, "amd64", os="Linux"),
    "no variant": lambda repository, n: publish_in(repository, n, "amd64:", app(n)),
    "arm in amd64": lambda repository, n: _published_for(repository, n, "x86_64"),
    "no config": _without_config,
    "zstd": _in_zstd,
    "genuine manifest": _with_genuine_manifest,
    "bundle": _bundled,
    "no root": lambda repository, number: shutil.rmtree(_root(repository, number)),
    "no layer": lambda repository, number: shutil.rmtree(_top(repository, number)),
}
_LEFT_OUT: dict[str, _Make] = {
    "windows": lambda repository, number: config_for(repository, number, "amd64", os="windows"),
    "aarch64": lambda repository, number: config_for(repository, number, "aarch64"),
    "only arm": lambda repository, n: _published_for(repository, n, "arm64:v8"),
}
_WRONG: dict[str, _Make] = {
    "no manifest": lambda repository, number: _described(repository, number).unlink(),
    "no root and no layer": _without_root_and_layer,
    "empty root and layer": _empty_root_and_layer,
}


def test_only_what_is_wrong_fails(tmp_path: Path, podman_host: Host) -> None:
    kinds = {**_SHOWN, **_LEFT_OUT, **_WRONG}
    repository = make_repository(tmp_path / "repository", len(kinds), layers=3, shared=1)
    for number, make in enumerate(kinds.values()):
        make(repository, number)
    # What no architecture is called, a leftover of DUCC's, and files of Singularity's.
    (repository / ".multiarch/amd46/registry.example.org").mkdir(parents=True)
    (repository / "podmanStore/overlay-images/images.json").write_text("{")
    (repository / "registry.example.org/image.sif").write_bytes(b"#!/usr/bin/env run-singularity\n")
    target = Target(repository, tmp_path / "store", tmp_path / "cache")
    done = podman_cvmfs(*target.argv("--offline", "--arch", "amd64", "--format", "json"))
    report = json.loads(done.stdout)
    names = {kind: app(number) for number, kind in enumerate(kinds)}
    assert {kind for kind, name in names.items() if name in report["failed"]} == {*_WRONG}
    assert len(report["failed"]) == len(_WRONG)
    assert {kind for kind, name in names.items() if name in report["left_out"]} == {*_LEFT_OUT}
    assert done.returncode == PartialError.exit_code and "Traceback" not in done.stderr
    assert any(".multiarch/amd46 is not used" in each for each in report["notices"])
    with running(tmp_path / "podman", stores=[target.store], on=podman_host) as podman:
        listed = podman.run("images", "--format={{.Repository}}:{{.Tag}}").stdout.split()
        assert {kind for kind, name in names.items() if name in listed} == {*_SHOWN}
        assert len(listed) == len(_SHOWN)
    succeed("verify", "--store", target.store)
    # Beside it, a repository of image files: it is said what that is, and nothing is lost.
    files = tmp_path / "files"
    (files / "all").mkdir(parents=True)
    (files / "all/image.sif").write_bytes(b"#!/usr/bin/env run-singularity\n")
    argv = [
        *target.argv("--offline", "--arch", "amd64", "--format", "json"),
        "--repository",
        str(files),
    ]
    second = json.loads(podman_cvmfs(*argv).stdout)
    assert second["images"] == report["images"]
    assert len(second["failed"]) == len(_WRONG) + 1
    assert "holds Singularity's image files" in second["failed"][str(files)]
