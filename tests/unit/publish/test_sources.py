# SPDX-License-Identifier: Apache-2.0
"""Names of sources, and images in registries."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from podman_cvmfs.errors import InputError
from podman_cvmfs.names.reference import ImageName, parse_name
from podman_cvmfs.oci import documents as oci
from podman_cvmfs.publish.source.open import open_source
from podman_cvmfs.publish.source.registry import RegistrySource
from podman_cvmfs.registry.client import RegistryClient
from tests.support.layers import sha256
from tests.support.layouts import HOST, NAME, THIS, config, descriptor


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("/no/such/path", "no such source"),
        ("debian:12", "no such source"),
        ("oci:/no/such/layout:1", "no OCI layout"),
        ("oci-archive:/no/such/archive:1", "no OCI layout"),
        ("oci-archive:/", "no OCI layout"),
        ("docker-archive:/no/such", "no file"),
        ("/", "not an OCI layout"),
        ("http://example.org/a:1", "only for registries on this machine"),
        ("https://example.org", "not an image"),
        ("https://example.org/UPPER:1", "not a repository path"),
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
