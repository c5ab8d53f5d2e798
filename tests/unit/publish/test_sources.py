# SPDX-License-Identifier: Apache-2.0
"""Where images come from: OCI layouts, archives, registries, and the command that takes them."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from podman_cvmfs.cli import publish as cli
from podman_cvmfs.errors import (
    InputError,
    PartialError,
    PodmanCvmfsError,
    RegistryError,
    RepositoryError,
)
from podman_cvmfs.names.reference import ImageName, parse_name
from podman_cvmfs.oci import documents as oci
from podman_cvmfs.oci.platform import Platform
from podman_cvmfs.publish.source.image import SourceImage, choose_platform
from podman_cvmfs.publish.source.open import open_source
from podman_cvmfs.publish.source.registry import RegistrySource
from podman_cvmfs.registry.client import RegistryClient
from tests.support.layers import Blob, directory, file, pack, sha256

LAYERS = [pack([directory("etc"), file("etc/os", "base")]), pack([file("top", "top")], "zstd")]
THIS = Platform.of_host()
HOST = {"os": "linux", "architecture": THIS.architecture}
NAME = "example.org/group/app:1"


def config(layers: Sequence[Blob] = LAYERS, **settings: object) -> bytes:
    return json.dumps(
        {
            **HOST,
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        }
    ).encode()


def descriptor(data: bytes, media_type: str = "", **more: object) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": sha256(data), "size": len(data), **more}


class Layout:
    """An OCI image layout being written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "blobs/sha256").mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        self.entries: list[dict[str, Any]] = []

    def blob(self, data: bytes) -> bytes:
        (self.path / "blobs/sha256" / sha256(data)[7:]).write_bytes(data)
        return data

    def image(self, raw: bytes, layers: Sequence[Blob] = LAYERS) -> bytes:
        self.blob(raw)
        for layer in layers:
            self.blob(layer.data)
        return self.blob(
            json.dumps(
                {
                    "schemaVersion": 2,
                    "config": descriptor(raw, oci.OCI_CONFIG),
                    "layers": [descriptor(layer.data, oci.OCI_LAYER) for layer in layers],
                }
            ).encode()
        )

    def add(self, manifest: bytes, name: str | None = None, **more: Any) -> None:
        annotations = {"org.opencontainers.image.ref.name": name} if name else {}
        self.entries.append(descriptor(manifest, annotations=annotations, **more))
        index = {"schemaVersion": 2, "manifests": self.entries}
        (self.path / "index.json").write_text(json.dumps(index))

    def index(self, *entries: dict[str, Any]) -> bytes:
        return self.blob(json.dumps({"schemaVersion": 2, "manifests": entries}).encode())


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


def images_of(text: str, name: str | None = None, platform: Platform = THIS) -> list[SourceImage]:
    """Open a source and read all of it, layers too."""
    with RegistryClient() as client:
        given = parse_name(name) if name else None
        source = open_source(text, given, client, platform)
        try:
            images = list(source.images())
            for image in images:
                for layer in image.manifest.layers:
                    data = b"".join(source.layer(image, layer))
                    assert (sha256(data), len(data)) == (str(layer.digest), layer.size)
            return images
        finally:
            source.close()


def names_of(text: str, name: str | None = None) -> list[str]:
    return [str(image.name) for image in images_of(text, name)]


# ---------------------------------------------------------------------- OCI layouts


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


# ---------------------------------------------------------------------- docker-archive


def write_archive(
    path: Path, layers: Sequence[Blob], tags: Sequence[str] | None, links: bool = False
) -> Path:
    raw = config(layers)
    with tarfile.open(path, "w") as archive:

        def add(name: str, data: bytes) -> None:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))

        add("config.json", raw)
        files = []
        for number, layer in enumerate(layers):
            name = f"{number}/layer.tar"
            if links:
                add(f"real{number}/layer.tar", layer.data)
                info = tarfile.TarInfo(name)
                info.type, info.linkname = tarfile.SYMTYPE, f"../real{number}/layer.tar"
                archive.addfile(info)
            else:
                add(name, layer.data)
            files.append(name)
        entry = {"Config": "config.json", "RepoTags": tags, "Layers": files}
        add("manifest.json", json.dumps([entry]).encode())
    return path


PLAIN = [pack([directory("etc"), file("etc/os", "base")], "plain"), pack([file("x")], "plain")]


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
    with pytest.raises(InputError, match="knows no digest"):
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


# ---------------------------------------------------------------------- SOURCE


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("/no/such/path", "no such source"),
        ("debian:12", "no such source"),
        ("oci:/no/such/layout:1", "no OCI layout"),
        ("oci-archive:/no/such/archive:1", "no OCI layout"),
        ("oci-archive:/", "no OCI layout"),
        ("docker-archive:/no/such", "no file"),
        ("/", "no OCI layout"),
        ("http://example.org/a:1", "only for registries on this machine"),
        ("https://example.org", "not an image"),
        ("https://example.org/UPPER:1", "no repository path"),
        ("https://example.org/a@sha256:5", "not a sha256 digest"),
        ("https://example.org/a:1*", "a pattern"),
        ("https://harbor/proj/app:1", "podman has no name for an image of the registry harbor"),
        ("\x1b[31m", r"\\x1b"),
    ],
)
def test_no_source(text: str, message: str) -> None:
    with RegistryClient() as client, pytest.raises(InputError, match=message):
        open_source(text, None, client, THIS)


@pytest.mark.parametrize(
    ("text", "asked", "published"),
    [
        ("https://quay.io/a/b:1", "quay.io/a/b:1", "quay.io/a/b:1"),
        ("http://127.0.0.1:5000/a", "127.0.0.1:5000/a:latest", "127.0.0.1:5000/a:latest"),
        (
            "https://registry.hub.docker.com/debian:12",
            "docker.io/library/debian:12",
            "registry.hub.docker.com/library/debian:12",
        ),
        ("https://harbor:443/app:1", "harbor:443/app:1", "harbor:443/app:1"),
    ],
)
def test_registry_sources(text: str, asked: str, published: str) -> None:
    with RegistryClient() as client:
        found = open_source(text, None, client, THIS)
        assert isinstance(found, RegistrySource)
        assert (str(found._name), str(found._published_as)) == (asked, published)


def test_after_a_scheme_the_first_word_is_the_registry() -> None:
    """Without one podman would look for ``harbor/proj/app`` at Docker Hub."""
    published = parse_name("example.org/proj/app:1")
    with RegistryClient() as client:
        found = open_source("https://harbor/proj/app:1", published, client, THIS)
        assert isinstance(found, RegistrySource)
        assert (str(found._name), found._published_as) == ("harbor/proj/app:1", published)


class FakeClient(RegistryClient):
    """A registry in memory: documents by tag or digest, blobs by digest."""

    def __init__(self, documents: dict[str, bytes], blobs: Sequence[bytes]) -> None:
        super().__init__()
        self.documents = documents
        self.blobs = {sha256(data): data for data in blobs}

    def manifest(self, name: ImageName, reference: str | None = None) -> tuple[bytes, str]:
        return self.documents[reference or str(name.digest or name.tag)], ""

    def blob(self, name: ImageName, digest: oci.Digest, limit: int = 0) -> bytes:
        return self.blobs[str(digest)]


def test_an_index_in_a_registry() -> None:
    manifest = json.dumps({"config": descriptor(config([])), "layers": []}).encode()
    index = json.dumps(
        {
            "mediaType": oci.DOCKER_LIST,
            "manifests": [
                descriptor(b"other", platform={"os": "linux", "architecture": "pdp11"}),
                descriptor(manifest, platform=HOST),
            ],
        }
    ).encode()
    name = parse_name(NAME)
    with FakeClient({"1": index, sha256(manifest): manifest}, [config([])]) as client:
        [image] = RegistrySource(client, name, name, THIS).images()
    assert image.config.raw == config([])


# ---------------------------------------------------------------------- the command


def run(*arguments: str | Path) -> tuple[list[dict[str, Any]], PodmanCvmfsError | None]:
    """Run the command with JSON output; return it and the error the command ended with."""
    done = CliRunner().invoke(cli.command, [*map(str, arguments), "--format", "json"])
    if done.exception is not None and not isinstance(done.exception, PodmanCvmfsError):
        raise done.exception
    return json.loads(done.stdout or "[]"), done.exception


def test_command(layout: Layout, tmp_path: Path) -> None:
    layout.add(layout.image(config()), NAME)
    repository = tmp_path / "repository"
    said, error = run(layout.path, "--repository", repository)
    assert error is None
    image_id = sha256(config())[7:]
    wanted = {
        "source": str(layout.path),
        "name": NAME,
        "image_id": image_id,
        "layers": 2,
        "new_layers": 2,
        "status": "published",
    }
    assert said == [wanted]
    assert (repository / NAME / "top").read_text() == "top"
    said, _ = run(layout.path, "--repository", repository)
    assert said == [{**wanted, "new_layers": 0, "status": "unchanged"}]


def test_one_failure_stops_nobody(layout: Layout, tmp_path: Path) -> None:
    layout.add(layout.image(config()), NAME)
    said, error = run("nosuch", layout.path, "oci:/nosuch", "--repository", tmp_path / "r")
    assert isinstance(error, PartialError)
    assert [entry["status"] for entry in said] == ["failed", "published", "failed"]
    assert said[0]["error"] == "there is no such source: nosuch"


def test_failures_end_with_their_own_error(tmp_path: Path) -> None:
    said, error = run("nosuch", "--repository", tmp_path / "r")
    assert isinstance(error, InputError) and len(said) == 1
    _, error = run("nosuch", "nosuch2", "--repository", tmp_path / "r")
    assert isinstance(error, InputError)
    _, error = run("http://127.0.0.1:1/a:1", "--repository", tmp_path / "r")
    assert isinstance(error, RegistryError)
    (tmp_path / "file").touch()
    _, error = run("nosuch", "--repository", tmp_path / "file")
    assert isinstance(error, RepositoryError)
    assert os.listdir(tmp_path) == ["file"]


def test_one_name_for_several_sources(tmp_path: Path) -> None:
    _, error = run("a", "b", "--name", NAME, "--repository", tmp_path / "r")
    assert isinstance(error, InputError)


def test_a_bad_layer_is_told_with_its_image(layout: Layout, tmp_path: Path) -> None:
    bad = Blob(pack([file("../../evil")]).data, pack([file("../../evil")]).diff_id, "gzip")
    layout.add(layout.image(config([bad]), [bad]), NAME)
    said, error = run(layout.path, "--repository", tmp_path / "r")
    assert isinstance(error, InputError)
    assert said[0]["name"] == NAME and NAME in said[0]["error"] and ".." in said[0]["error"]
    assert not (tmp_path / "evil").exists()


def test_a_damaged_blob_is_told_as_such(layout: Layout, tmp_path: Path) -> None:
    """Not by what its bytes happen to look like."""
    layout.add(layout.image(config()), NAME)
    blob = layout.path / "blobs/sha256" / LAYERS[0].digest[7:]
    blob.write_bytes(b"\x1f\x8b" + b"x" * (len(LAYERS[0].data) - 2))
    said, error = run(layout.path, "--repository", tmp_path / "r")
    assert isinstance(error, InputError)
    begin = f"{NAME}: layer {LAYERS[0].digest}: the blob is damaged: it has another digest"
    assert said[0]["error"] == begin
    blob.unlink()
    said, error = run(layout.path, "--repository", tmp_path / "r")
    assert isinstance(error, InputError) and "No such file" in said[0]["error"]


@pytest.mark.parametrize("part", [".layers", ".flat"])
def test_no_link_in_the_place_of_the_repository_s_directories(
    layout: Layout, tmp_path: Path, part: str
) -> None:
    """A sync would take every image out of the store."""
    layout.add(layout.image(config()), NAME)
    (tmp_path / "repository").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "repository" / part).symlink_to(tmp_path / "elsewhere")
    _, error = run(layout.path, "--repository", tmp_path / "repository")
    assert isinstance(error, RepositoryError)
    assert f"{tmp_path}/repository/{part} is a symbolic link" in error.message
    assert os.listdir(tmp_path / "repository") == [part]
    (tmp_path / "link").symlink_to("new")
    (tmp_path / "new").mkdir()
    _, error = run(layout.path, "--repository", tmp_path / "link")
    assert error is None


@pytest.mark.parametrize("name", [None, "latest"])
def test_images_of_a_layout_that_nothing_tells_apart(layout: Layout, name: str | None) -> None:
    """What skopeo copies to oci:PATH twice are two images, of which none is taken for the other."""
    layout.add(layout.image(config(Cmd=["a"])), name)
    layout.add(layout.image(config(Cmd=["b"])), name)
    with pytest.raises(InputError, match="2 images in it that nothing tells apart"):
        images_of(str(layout.path), NAME)
