# SPDX-License-Identifier: Apache-2.0
"""Images of OCI layouts, in directories and tars."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from podman_cvmfs.errors import InputError
from podman_cvmfs.oci import documents as oci
from podman_cvmfs.oci.platform import Platform
from podman_cvmfs.publish.source.image import choose_platform
from tests.support.layers import sha256
from tests.support.layouts import (
    HOST,
    LAYERS,
    NAME,
    PLAIN,
    Layout,
    config,
    descriptor,
    images_of,
    names_of,
    write_archive,
)


def test_layout_by_tag_and_by_name(layout: Layout) -> None:
    layout.add(layout.image(config()), NAME)
    layout.add(layout.image(config(Cmd=["other"])), "v2")
    [image] = images_of(f"oci:{layout.path}:{NAME}")
    assert (str(image.name), image.config.raw) == (NAME, config())
    assert names_of(f"oci:{layout.path}:v2", NAME) == [NAME]
    with pytest.raises(InputError, match="no name") as caught:
        images_of(f"oci:{layout.path}:v2")
    assert "--name" in str(caught.value.hint)
    with pytest.raises(InputError, match="no image called 'v3'"):
        images_of(f"oci:{layout.path}:v3")
    with pytest.raises(InputError, match="2 images"):
        images_of(str(layout.path), NAME)


def test_containerd_s_name_is_the_fuller_one(layout: Layout) -> None:
    layout.add(layout.image(config()), "1")
    layout.entries[0]["annotations"]["io.containerd.image.name"] = NAME
    layout.add(layout.image(config(Cmd=["x"])), "x:2")
    assert names_of(str(layout.path)) == [NAME, "docker.io/library/x:2"]
    assert names_of(f"oci:{layout.path}:1") == [NAME]


def test_layout_in_a_directory_with_colons(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "a:b")
    layout.add(layout.image(config()), NAME)
    assert names_of(f"oci:{layout.path}") == [NAME]
    assert names_of(f"oci:{layout.path}:{NAME}") == [NAME]


def test_layout_in_a_tar(layout: Layout, tmp_path: Path) -> None:
    layout.add(layout.image(config()), NAME)
    path = tmp_path / "archive.tar"
    with tarfile.open(path, "w") as archive:
        archive.add(layout.path, arcname=".")
    assert names_of(str(path)) == [NAME]
    assert names_of(f"oci-archive:{path}") == [NAME]


def test_an_image_of_a_layout_in_a_tar(layout: Layout, tmp_path: Path) -> None:
    layout.add(layout.image(config()), NAME)
    layout.add(layout.image(config(Cmd=["other"])), "v2")
    path = tmp_path / "a:b.tar"
    with tarfile.open(path, "w") as archive:
        archive.add(layout.path, arcname=".")
    [image] = images_of(f"oci-archive:{path}:{NAME}")
    assert (str(image.name), image.config.raw) == (NAME, config())
    assert names_of(f"oci-archive:{path}:v2", NAME) == [NAME]
    with pytest.raises(InputError, match="no image called 'v3'"):
        images_of(f"oci-archive:{path}:v3")
    with pytest.raises(InputError, match="no OCI layout in"):
        images_of(f"oci-archive:{write_archive(tmp_path / 'docker.tar', PLAIN, [NAME])}")


def test_the_host_s_platform_is_chosen(layout: Layout) -> None:
    wanted = layout.image(config())
    foreign = layout.image(config(Cmd=["foreign"]))
    index = layout.index(
        descriptor(foreign, platform={"os": "linux", "architecture": "pdp11"}),
        descriptor(foreign, platform={"os": "windows", "architecture": HOST["architecture"]}),
        descriptor(foreign, platform={"os": "unknown", "architecture": "unknown"}),
        descriptor(wanted, platform=HOST),
    )
    layout.add(index, NAME)
    assert [image.config.raw for image in images_of(str(layout.path))] == [config()]


def test_several_platforms_without_an_index_of_their_own(layout: Layout) -> None:
    layout.add(
        layout.image(config(Cmd=["x"])), NAME, platform={"os": "linux", "architecture": "pdp11"}
    )
    layout.add(layout.image(config()), NAME, platform=HOST)
    assert [image.config.raw for image in images_of(str(layout.path))] == [config()]


def test_no_image_for_this_platform(layout: Layout) -> None:
    foreign = layout.image(config())
    layout.add(
        layout.index(descriptor(foreign, platform={"os": "linux", "architecture": "pdp11\x1b"})),
        NAME,
    )
    with pytest.raises(InputError, match=r"there is linux/pdp11\\x1b"):
        images_of(str(layout.path))


@pytest.mark.parametrize("arch", ["arm64", "riscv64"])
def test_another_platform_is_asked_for(layout: Layout, arch: str) -> None:
    found = [layout.image(config(Cmd=[text])) for text in ("arm64", "riscv64")]
    entries = [
        descriptor(image, platform={"os": "linux", "architecture": text})
        for image, text in zip(found, ("arm64", "riscv64"))
    ]
    layout.add(layout.index(*entries), NAME)
    for entry, image in zip(entries, found):
        layout.add(image, "example.org/flat:1", platform=entry["platform"])
    images = images_of(str(layout.path), platform=Platform.parse(arch))
    assert [image.config.raw for image in images] == [config(Cmd=[arch])] * 2


def test_variants() -> None:
    def chosen(*entries: object) -> object:
        return choose_platform(entries, Platform("arm", "v7"), "x")["n"]

    def arm(variant: str) -> dict[str, object]:
        stated = {"os": "linux", "architecture": "arm", "variant": variant}
        return {"n": variant, "platform": stated}

    bare = {"n": "bare", "platform": {"os": "linux", "architecture": "arm"}}
    assert chosen(arm("v6"), arm("v7"), arm("v5")) == "v7"
    assert chosen(arm("v6"), bare) == "bare"
    assert chosen(arm("v5"), arm("v6")) == "v6"
    assert chosen({"n": "only"}) == "only"
    # As containers/image: what says nothing comes last, whatever else is there.
    attestation = {"n": "x", "platform": {"os": "unknown", "architecture": "unknown"}}
    assert chosen({"n": "silent"}, attestation, {"n": "other"}) == "silent"
    assert chosen({"n": "silent"}, arm("v6")) == "v6"
    with pytest.raises(InputError, match="no image for linux/arm/v7; there is linux/arm/v8"):
        chosen(arm("v8"))
    with pytest.raises(InputError, match="there is nothing"):
        chosen("junk", None)


def test_damaged_layouts(layout: Layout, tmp_path: Path) -> None:
    manifest = layout.image(config())
    layout.add(manifest, NAME)
    blob = layout.path / "blobs/sha256" / sha256(manifest)[7:]

    def refused(message: str) -> None:
        with pytest.raises(InputError, match=message):
            images_of(str(layout.path))

    blob.write_bytes(manifest + b" ")
    refused("damaged")
    blob.write_bytes(b"x" * (oci.MAX_DOCUMENT + 1))
    refused("too large")
    blob.unlink()
    refused("No such file")
    for text in ("{", "[]", "{}", '{"manifests": [5]}', '{"manifests": []}'):
        (layout.path / "index.json").write_text(text)
        refused("index.json|no image")
    (layout.path / "index.json").unlink()
    refused("No such file")


def test_a_manifest_that_does_not_fit_its_config(layout: Layout) -> None:
    layout.add(layout.image(config(), LAYERS[:1]), NAME)
    with pytest.raises(InputError, match="1 layers, the configuration 2 diff IDs"):
        images_of(str(layout.path))


def test_a_digest_for_a_name_must_be_the_image_s(layout: Layout) -> None:
    manifest = layout.image(config())
    index = layout.index(descriptor(manifest, platform=HOST))
    layout.add(index, NAME)
    for document in (manifest, index):
        name = f"example.org/a@{sha256(document)}"
        assert names_of(str(layout.path), name) == [name]
    with pytest.raises(InputError, match=f"digest is {sha256(manifest)} or {sha256(index)}"):
        images_of(str(layout.path), f"example.org/a@{sha256(b'other')}")
    with pytest.raises(InputError, match="digest is"):
        images_of(str(layout.path), f"example.org/a:1@{sha256(config())}")
