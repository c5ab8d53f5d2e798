# SPDX-License-Identifier: Apache-2.0
"""Publishing whole images: what is written, and that it is all or nothing."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from podman_cvmfs.names.reference import parse_name
from podman_cvmfs.oci import documents
from podman_cvmfs.publish.publisher import Published
from podman_cvmfs.publish.source.image import SourceImage
from tests.support.layers import file, symlink, whiteout
from tests.support.memory_images import Images, put
from tests.support.published import BASE, TOP, leftovers
from tests.support.trees import snapshot


def test_layout(repository: Path, images: Images) -> None:
    image = images.image("example.org/group/app:1", BASE, TOP, Cmd=["sh"])
    assert put(repository, images, image) == Published(2, 2, True)
    config = image.config.digest
    link = repository / "example.org/group/app:1"
    assert os.readlink(link) == f"../../.flat/{config.hex[:2]}/{config.hex}"
    assert (link / "opt/app").read_text() == "app"
    assert not (link / "gone").exists()
    assert (link / ".singularity.d/runscript").exists()
    assert not list(repository.rglob(".cvmfscatalog"))
    manifest = json.loads(
        (repository / ".metadata/example.org/group/app:1/manifest.json").read_bytes()
    )
    assert list(manifest) == ["SchemaVersion", "MediaType", "Config", "Layers"]
    assert manifest["Config"] == {
        "MediaType": documents.OCI_CONFIG,
        "Size": len(image.config.raw),
        "Digest": str(config),
    }
    assert documents.parse_manifest(json.dumps(manifest).encode()) == image.manifest
    for layer, diff_id in zip(image.manifest.layers, image.config.diff_ids):
        place = repository / ".layers" / layer.digest.hex[:2] / layer.digest.hex
        assert json.loads((place / ".metadata/origin.json").read_bytes()) == {
            "origin": [str(config)]
        }
        assert json.loads((place / ".metadata/layers.json").read_bytes()) == [
            {
                "id": diff_id.hex,
                "created": "2020-09-13T12:26:40Z",
                "compressed-diff-digest": str(layer.digest),
                "diff-digest": str(diff_id),
                "diff-size": len(gzip.decompress(images.blobs[layer.digest])),
            }
        ]
    top = image.manifest.layers[1].digest.hex
    assert (repository / ".layers" / top[:2] / top / "layerfs/.wh.gone").is_file()
    [blob] = (repository / "podmanStore/overlay-images" / config.hex).iterdir()
    assert blob.name.startswith("=")
    assert blob.read_bytes() == image.config.raw
    assert leftovers(repository) == []


def test_everybody_can_read_it_whatever_the_umask(repository: Path, images: Images) -> None:
    old = os.umask(0o077)
    try:
        put(repository, images, images.image("example.org/a:1", BASE))
    finally:
        os.umask(old)
    for path in [p for p in repository.rglob("*") if not p.is_symlink()]:
        wanted = 0o555 if path.is_dir() else 0o444
        assert path.stat().st_mode & wanted == wanted or path.name == ".podman-cvmfs-lock", path


def test_digest_only_image(repository: Path, images: Images) -> None:
    digest = "sha256:" + "1" * 64
    image = images.image("example.org/a:1", BASE)
    put(repository, images, replace(image, name=parse_name(f"example.org/a@{digest}")))
    assert (repository / f"example.org/a:{digest}/etc/passwd").exists()
    assert (repository / ".metadata/example.org/a/manifest.json").exists()


def test_again_changes_nothing(repository: Path, images: Images) -> None:
    image = images.image("example.org/a:1", BASE, TOP)
    put(repository, images, image)
    before, asked = snapshot(repository), images.asked
    assert put(repository, images, image) == Published(2, 0, False)
    assert snapshot(repository) == before
    assert images.asked == asked


def test_layers_and_flat_roots_are_shared(repository: Path, images: Images) -> None:
    first = images.image("example.org/a:1", BASE, TOP)
    put(repository, images, first)
    kept = {k: v for k, v in snapshot(repository).items() if "layerfs" in k or ".flat/" in k}
    second = images.image("example.org/b:1", BASE, [], BASE, [], other=1)
    assert put(repository, images, second) == Published(2, 1, True)
    same = SourceImage(parse_name("example.org/c:1"), first.manifest, first.config)
    assert put(repository, images, same) == Published(2, 0, True)
    now = snapshot(repository)
    assert {k: now[k] for k in kept} == kept
    base = first.manifest.layers[0].digest.hex
    origin = repository / f".layers/{base[:2]}/{base}/.metadata/origin.json"
    assert json.loads(origin.read_bytes())["origin"] == [
        str(first.config.digest),
        str(second.config.digest),
    ]


def test_a_retag_swaps_the_link(repository: Path, images: Images) -> None:
    put(repository, images, images.image("example.org/a:1", BASE))
    new = images.image("example.org/a:1", BASE, TOP)
    assert put(repository, images, new) == Published(2, 1, True)
    assert (repository / "example.org/a:1/opt/app").exists()
    manifest = repository / ".metadata/example.org/a:1/manifest.json"
    assert documents.parse_manifest(manifest.read_bytes()) == new.manifest
    assert len(list(repository.glob(".flat/*/*"))) == 2


@pytest.mark.parametrize(
    "part",
    [
        ".flat/*/*",
        ".metadata/*/*/manifest.json",
        "example.org/a:1",
        "podmanStore/*/*/*",
        ".layers/*/*/.metadata/origin.json",
    ],
)
def test_what_is_missing_is_made_again(repository: Path, images: Images, part: str) -> None:
    image = images.image("example.org/a:1", BASE)
    put(repository, images, image)
    before = snapshot(repository)
    for path in repository.glob(part):
        path.rename(path.parent.parent / ".gone") if path.name != "a:1" else path.unlink()
    assert put(repository, images, image).changed
    for path in repository.rglob(".gone"):
        subprocess.run(["rm", "-rf", path], check=True)
    after = snapshot(repository)
    assert {name: (each[0], each[2]) for name, each in after.items()} == {
        name: (each[0], each[2]) for name, each in before.items()
    }


def test_publishing_is_reproducible(tmp_path: Path, images: Images) -> None:
    image = images.image("example.org/a:1", BASE, TOP, Env=["A=b"])
    trees = []
    for name in "ab":
        put(tmp_path / name, images, image)
        time.sleep(0.01)
        trees.append(
            {
                str(p.relative_to(tmp_path / name)): (p.lstat().st_mode, p.lstat().st_mtime_ns)
                for kind in (".flat/*/*/**/*", ".layers/*/*/layerfs/**/*")
                for p in (tmp_path / name).glob(kind)
            }
        )
    assert trees[0] == trees[1]
    assert len(trees[0]) > 20


def test_links_in_an_image_do_not_lead_the_merge_out(
    tmp_path: Path, repository: Path, images: Images
) -> None:
    outside = tmp_path / "outside"
    (outside / "d").mkdir(parents=True)
    (outside / "d/file").write_text("untouched")
    before = snapshot(outside)
    image = images.image(
        "example.org/a:1",
        [
            symlink("etc", str(outside)),
            symlink("l", f"{outside}/d"),
            symlink("f", f"{outside}/d/file"),
        ],
        [file("etc/x", "in"), whiteout("l/file"), file("l/.wh..wh..opq"), file("f", "in")],
    )
    put(repository, images, image)
    assert snapshot(outside) == before
    flat = repository / "example.org/a:1"
    assert (flat / "etc/x").read_text() == (flat / "f").read_text() == "in"
