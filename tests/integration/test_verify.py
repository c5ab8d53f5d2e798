# SPDX-License-Identifier: Apache-2.0
"""The verifier on stores of real images, and next to a real podman that a damaged store breaks."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from podman_cvmfs.errors import StoreError
from tests.integration.conftest import Gallery
from tests.support.cli import podman_cvmfs, succeed
from tests.support.podman import Host, running

APP = "t/zstd:1"


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--view", "layers"],
        ["--view", "flat", "--reuse", "none"],
        ["--reuse", "all"],
        ["--view", "layers", "--overlay", "fuse-overlayfs", "--reuse", "all"],
    ],
    ids=" ".join,
)
def test_stores_of_real_images_pass(gallery: Gallery, tmp_path: Path, options: list[str]) -> None:
    target = replace(gallery.target, store=tmp_path / "store")
    target.sync("--offline", *options)
    done = podman_cvmfs("verify", "--store", target.store, "--format", "json")
    findings = json.loads(done.stdout)["findings"]
    assert [(each["path"], each["what"]) for each in findings] == []
    assert done.returncode == 0


def lose_manifest(store: Path) -> None:
    next(store.glob("pool/images/*/manifest")).unlink()


def truncate_images(store: Path) -> None:
    os.truncate(store / "overlay-images/images.json", 100)


def repeat_name(store: Path) -> None:
    path = store / "overlay-images/images.json"
    records = json.loads(path.read_bytes())
    records[1]["names"] = records[0]["names"]
    path.write_text(json.dumps(records))


def lose_layers(store: Path) -> None:
    shutil.rmtree(store / "pool/layers")


@pytest.mark.parametrize("spoil", [lose_manifest, truncate_images, repeat_name, lose_layers])
def test_podman_works_again_after_a_repair(
    gallery: Gallery, podman_host: Host, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    target = replace(gallery.target, store=tmp_path / "store")
    target.sync("--offline")
    with running(tmp_path / "podman", stores=[target.store]) as podman:
        images = podman.run("images", "--noheading", "--quiet").stdout
        spoil(target.store)
        done = podman_cvmfs("verify", "--store", target.store)
        assert done.returncode == StoreError.exit_code
        assert "Traceback" not in done.stderr
        assert done.stdout.startswith("error: ")
        places = ("--store", target.store, "--cache", tmp_path / "cache")
        succeed("verify", *places, "--repository", target.repository, "--repair", "--offline")
        assert podman.run("images", "--noheading", "--quiet").stdout == images
        name = gallery.name(APP)
        ran = podman.run("run", "--rm", "--pull=never", name, "echo", "fine")
        assert ran.stdout == "fine\n"
