# SPDX-License-Identifier: Apache-2.0
"""Genuine manifests told from others."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podman_cvmfs.errors import RegistryError
from podman_cvmfs.oci import documents
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.oci.genuine import Child, Genuine, Index, Moved, find_genuine, has_config, judge

CONFIG, OTHER = Digest.of(b"config"), Digest.of(b"other")
IS_IT = has_config(CONFIG)


def manifest(config: Digest = CONFIG, **more: Any) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": documents.OCI_MANIFEST,
        "config": {"mediaType": documents.OCI_CONFIG, "digest": str(config), "size": 6},
        "layers": [],
        **more,
    }
    return json.dumps(document, indent=2).encode()


def entry(data: bytes, platform: object = None) -> dict[str, Any]:
    found: dict[str, Any] = {"mediaType": documents.OCI_MANIFEST, "digest": str(Digest.of(data))}
    if isinstance(platform, str):
        platform = dict(zip(("os", "architecture", "variant"), platform.split("/")))
    return {**found, "size": len(data), **({} if platform is None else {"platform": platform})}


def index(*entries: object, **more: Any) -> bytes:
    return json.dumps({"mediaType": documents.OCI_INDEX, "manifests": entries, **more}).encode()


def test_genuine() -> None:
    data = manifest()
    found = judge(data, IS_IT, "m")
    assert isinstance(found, Genuine)
    assert (found.raw, found.digest, found.index_digest) == (data, Digest.of(data), None)
    assert found.manifest.config.digest == CONFIG


def test_moved() -> None:
    assert judge(manifest(OTHER), IS_IT, "m") == Moved(OTHER)


def test_index() -> None:
    one, two = manifest(), manifest(OTHER)
    data = index(entry(one, "linux/amd64"), entry(two, "linux/arm64/v8"), entry(one))
    assert judge(data, IS_IT, "m") == Index(
        data,
        (
            Child(Digest.of(one), "linux", "amd64"),
            Child(Digest.of(two), "linux", "arm64", "v8"),
            Child(Digest.of(one)),
        ),
    )


def test_an_index_may_not_say_that_it_is_one() -> None:
    assert isinstance(judge(b'{"manifests": []}', IS_IT, "m"), Index)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not valid JSON"),
        (b"[]", "m is not a manifest"),
        (b"{}", "names no config"),
        (manifest(manifests=[]), "both a manifest and an index"),
        (index(layers=[]), "both a manifest and an index"),
        (b'{"manifests": 5}', "without a list of manifests"),
        (json.dumps({"mediaType": documents.OCI_INDEX}).encode(), "without a list of manifests"),
        (index(5), "entry 0 in m is not a descriptor"),
        (index({"digest": "md5:1"}), "the digest of entry 0 in m is not a sha256 digest"),
        (index({**entry(b""), "platform": {"os": 5}}), "the platform of sha256:"),
        (b'{"schemaVersion": 1, "fsLayers": []}', "fsLayers doesn't belong in the manifest"),
        (manifest(mediaType="text/plain"), "unsupported media type"),
        (manifest(layers=5), "layers must be an array"),
    ],
)
def test_what_is_neither(data: bytes, message: str) -> None:
    with pytest.raises(RegistryError, match=message):
        judge(data, IS_IT, "m")


def test_suitable() -> None:
    platforms = ["linux/arm/v6", "linux/arm", "linux/arm/v7", "windows/arm/v7", "linux/amd64"]
    platforms += ["unknown/unknown"]
    blobs = [platform.encode() for platform in platforms]
    data = index(entry(b"none"), *map(entry, blobs, platforms))
    found = judge(data, IS_IT, "m")
    assert isinstance(found, Index)

    def chosen(architecture: str, variant: str = "") -> list[str]:
        return [
            f"{child.os}/{child.architecture}/{child.variant}"
            for child in found.suitable(architecture, variant)
        ]

    assert chosen("arm", "v7") == ["linux/arm/v7", "linux/arm/", "linux/arm/v6", "//"]
    assert chosen("arm") == ["linux/arm/", "linux/arm/v6", "linux/arm/v7", "//"]
    assert chosen("amd64") == ["linux/amd64/", "//"]
    assert chosen("riscv64") == ["//"]


class Served:
    """A registry's manifests; notes what it is asked for."""

    def __init__(self, tag: bytes, *others: bytes) -> None:
        self._held = {"1": tag, **{str(Digest.of(data)): data for data in others}}
        self.asked: list[str] = []

    def __call__(self, reference: str) -> bytes:
        self.asked.append(reference)
        if reference not in self._held:
            raise RegistryError(f"no such manifest {reference}")
        return self._held[reference]


def test_one_request_finds_it() -> None:
    served = Served(manifest())
    found = find_genuine(served, "1", IS_IT, "amd64")
    assert isinstance(found, Genuine) and found.index is None
    assert served.asked == ["1"]


def test_two_find_it_in_an_index() -> None:
    amd, arm = manifest(), manifest(OTHER)
    data = index(entry(arm, "linux/arm64"), entry(amd, "linux/amd64"))
    served = Served(data, amd, arm)
    found = find_genuine(served, "1", IS_IT, "amd64")
    assert isinstance(found, Genuine)
    assert (found.raw, found.index, found.index_digest) == (amd, data, Digest.of(data))
    assert served.asked == ["1", str(Digest.of(amd))]


def test_a_tag_that_has_moved() -> None:
    assert find_genuine(Served(manifest(OTHER)), "1", IS_IT, "amd64") == Moved(OTHER)
    new = manifest(OTHER)
    served = Served(index(entry(new, "linux/amd64")), new)
    assert find_genuine(served, "1", IS_IT, "amd64") == Moved(OTHER)


def test_an_index_without_this_architecture() -> None:
    served = Served(index(entry(b"x", "linux/arm64")))
    assert find_genuine(served, "1", IS_IT, "amd64") is None
    assert served.asked == ["1"]


def test_questions_are_bounded() -> None:
    others = [manifest(OTHER, annotations={"n": str(n)}) for n in range(50)]
    served = Served(index(*(entry(data, "linux/amd64") for data in others)), *others)
    assert find_genuine(served, "1", IS_IT, "amd64") == Moved(OTHER)
    assert len(served.asked) == 5
    # An index in an index leads nowhere.
    inner = index()
    served = Served(index(entry(inner, "linux/amd64")), inner)
    assert find_genuine(served, "1", IS_IT, "amd64") is None


def test_a_refusal_is_passed_on() -> None:
    with pytest.raises(RegistryError, match="no such manifest 2"):
        find_genuine(Served(b""), "2", IS_IT, "amd64")


json_values = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.just(str(CONFIG)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["manifests", "config", "layers", "digest", "platform", "mediaType"]),
            inner,
        )
    ),
    max_leaves=12,
)


@given(json_values)
def test_no_document_brings_it_down(document: object) -> None:
    try:
        judge(json.dumps(document).encode(), IS_IT, "m")
    except RegistryError as err:
        assert err.message.isprintable()
