# SPDX-License-Identifier: Apache-2.0
"""Images of docker-archives."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from podman_cvmfs.errors import InputError
from podman_cvmfs.oci import documents as oci
from podman_cvmfs.oci.platform import Platform
from tests.support.layers import Blob, sha256
from tests.support.layouts import (
    HOST,
    LAYERS,
    NAME,
    PLAIN,
    THIS,
    Layout,
    config,
    descriptor,
    images_of,
    names_of,
    write_archive,
)


@pytest.mark.parametrize("links", [False, True])
@pytest.mark.parametrize("layers", [PLAIN, LAYERS, [PLAIN[0], PLAIN[0], LAYERS[1]]])
def test_archive(tmp_path: Path, layers: list[Blob], links: bool) -> None:
    path = write_archive(tmp_path / "a.tar", layers, [NAME, "busybox:2"], links)
    images = images_of(f"docker-archive:{path}")
    assert [str(image.name) for image in images] == [NAME, "docker.io/library/busybox:2"]
    assert images[0].config.raw == config(layers)
    # Docker's manifests know no zstd.
    is_docker = layers is PLAIN
    assert images[0].manifest.media_type == (oci.DOCKER_MANIFEST if is_docker else oci.OCI_MANIFEST)
    again = oci.parse_manifest(oci.render_manifest(images[0].manifest), as_it_is=True)
    assert again == images[0].manifest
    assert [str(layer.digest) for layer in images[0].manifest.layers] == [b.digest for b in layers]
    assert names_of(str(path)) == [NAME, "docker.io/library/busybox:2"]
    assert names_of(str(path), "a.b/c:1") == ["a.b/c:1"]


def test_a_compressed_archive(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.tar", PLAIN, [NAME])
    packed = tmp_path / "a.tar.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert names_of(str(packed)) == [NAME]
    packed.write_bytes(lzma.compress(path.read_bytes()))
    with pytest.raises(InputError, match=f"{packed} is compressed with xz"):
        images_of(str(packed))


OTHER = "arm64" if THIS.architecture != "arm64" else "amd64"


def of_arch(architecture: str, layers: Sequence[Blob] = LAYERS) -> bytes:
    return json.dumps({**json.loads(config(layers)), "architecture": architecture}).encode()


def write_both(layout: Layout, path: Path, *configs: bytes) -> str:
    """A tar of the layout, with a manifest.json of these configs."""
    places = [f"blobs/sha256/{layer.digest[7:]}" for layer in LAYERS]
    entries = [
        {"Config": f"blobs/sha256/{sha256(raw)[7:]}", "RepoTags": [NAME], "Layers": places}
        for raw in configs
    ]
    (layout.path / "manifest.json").write_text(json.dumps(entries))
    with tarfile.open(path, "w") as archive:
        archive.add(layout.path, arcname=".")
    return str(path)


def test_an_archive_of_both_kinds_for_several_platforms(layout: Layout, tmp_path: Path) -> None:
    """As nerdctl writes it: Docker's file has but one of them."""
    here, other = of_arch(THIS.architecture), of_arch(OTHER)
    stated = [{"os": "linux", "architecture": each} for each in (THIS.architecture, OTHER)]
    index = layout.index(
        descriptor(layout.image(here), platform=stated[0]),
        descriptor(layout.image(other), platform=stated[1]),
    )
    layout.add(index, NAME)
    path = write_both(layout, tmp_path / "a.tar", here)
    for raw, platform in ((here, THIS), (other, Platform(OTHER))):
        [image] = images_of(path, platform=platform)
        assert (image.config.raw, image.raw_index) == (raw, index)


def test_an_archive_of_both_kinds_with_one_platform_of_several(
    layout: Layout, tmp_path: Path
) -> None:
    """As Docker writes what was pulled for another platform: others are listed, but not there."""
    other = of_arch(OTHER)
    unknown = layout.blob(b'{"attestation": true}')
    layout.add(
        layout.index(
            descriptor(b"elsewhere", platform=HOST),
            descriptor(layout.image(other), platform={"os": "linux", "architecture": OTHER}),
            descriptor(unknown, platform={"os": "unknown", "architecture": "unknown"}),
        ),
        NAME,
    )
    [image] = images_of(write_both(layout, tmp_path / "a.tar", other))
    assert image.config.raw == other
    # A damaged index is in nobody's way.
    (layout.path / "index.json").write_text("{")
    [image] = images_of(write_both(layout, tmp_path / "b.tar", other))
    assert image.config.raw == other


@pytest.mark.parametrize("name", [None, "example.org/b:1"])
def test_of_entries_with_one_tag_the_one_that_fits(
    layout: Layout, tmp_path: Path, name: str | None
) -> None:
    here, other, third = of_arch(THIS.architecture), of_arch(OTHER), of_arch("riscv64")
    for raw in (here, other, third):
        layout.image(raw)
    path = write_both(layout, tmp_path / "a.tar", third, other, here)
    for raw, platform in ((here, THIS), (other, Platform(OTHER)), (third, Platform("s390x"))):
        [image] = images_of(path, name, platform)
        assert (str(image.name), image.config.raw) == (name or NAME, raw)


def test_an_archive_without_a_name(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.tar", PLAIN, None)
    assert names_of(str(path), NAME) == [NAME]
    with pytest.raises(InputError, match="no name"):
        images_of(str(path))
    with pytest.raises(InputError, match="record the digests"):
        images_of(str(path), f"example.org/a@{'sha256:' + '0' * 64}")


def test_damaged_archives(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    for documents, message in [
        ({"manifest.json": b"{"}, "not valid JSON"),
        ({"manifest.json": b"{}"}, "not a list"),
        ({"manifest.json": b"[]"}, "no image"),
        ({"manifest.json": b"[{}]"}, "where the image's parts"),
        ({"manifest.json": b'[{"Config": "c", "Layers": [5]}]'}, "where the image's parts"),
        ({"manifest.json": b'[{"Config": "c", "Layers": []}]'}, "no file 'c'"),
        ({"manifest.json": b'[{"Config": "/etc/passwd", "Layers": []}]'}, "no file"),
        ({"manifest.json": b'[{"Config": "c", "Layers": ["l"]}]', "c": config([])}, "1 layers"),
        (
            {"manifest.json": b'[{"Config": "c", "Layers": [], "RepoTags": 5}]', "c": config([])},
            "tags",
        ),
        ({"other": b""}, "neither"),
    ]:
        with tarfile.open(path, "w") as archive:
            for name, data in documents.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        with pytest.raises(InputError, match=message):
            images_of(str(path))


def test_links_in_an_archive_that_go_round(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for name, target in (("manifest.json", "b"), ("b", "manifest.json")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    with pytest.raises(InputError, match="no file"):
        images_of(str(path))
