# SPDX-License-Identifier: Apache-2.0
"""Digests, manifests, configs, layer IDs."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podman_cvmfs.errors import InputError
from podman_cvmfs.oci import documents

A, B = "a" * 64, "b" * 64


@pytest.mark.parametrize(
    "text",
    ["", A, f"sha256:{A[1:]}", f"sha256:{A}0", f"sha512:{A}", f"sha256:{A.upper()}", None, 7]
    + ["sha256:../../../../etc/passwd", f"sha256:{A}\n", f" sha256:{A}"],
)
def test_a_digest_that_is_none_is_refused(text: object) -> None:
    with pytest.raises(InputError, match="the thing is not a sha256 digest"):
        documents.Digest.parse(text, "the thing")


def test_digest_round_trip() -> None:
    assert str(documents.Digest.parse(f"sha256:{A}")) == f"sha256:{A}"
    assert documents.Digest.of(b"x").hex == hashlib.sha256(b"x").hexdigest()


def _manifest(**changes: object) -> bytes:
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": documents.OCI_MANIFEST,
        "config": {"mediaType": documents.OCI_CONFIG, "digest": f"sha256:{A}", "size": 3},
        "layers": [{"mediaType": documents.OCI_LAYER, "digest": f"sha256:{B}", "size": 4}],
    }
    document.update(changes)
    return json.dumps(document).encode()


def test_standard_and_ducc_form_of_a_manifest_are_equal() -> None:
    ducc = json.dumps(
        {
            "SchemaVersion": 2,
            "MediaType": "",
            "Config": {"MediaType": documents.OCI_CONFIG, "Size": 3, "Digest": f"sha256:{A}"},
            "Layers": [{"MediaType": documents.OCI_LAYER, "Size": 4, "Digest": f"sha256:{B}"}],
        }
    ).encode()
    assert documents.parse_manifest(ducc) == documents.parse_manifest(_manifest())


def test_manifest_without_media_type_takes_its_configs_side() -> None:
    config = {"mediaType": documents.DOCKER_CONFIG, "digest": f"sha256:{A}", "size": 3}
    assert documents.parse_manifest(_manifest(mediaType=None)).media_type == documents.OCI_MANIFEST
    docker = documents.parse_manifest(_manifest(mediaType=None, config=config, layers=[]))
    assert docker.media_type == documents.DOCKER_MANIFEST


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"{", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        (b"[" * 100_000, "nested too deeply|not valid JSON"),
        (b"[]", "must be a JSON object"),
        (_manifest(config=[]), "can't read it: config must be an object"),
        (_manifest(config={"digest": "sha256:x", "size": 1}), "not a sha256 digest"),
        (_manifest(layers={}), "can't read it: layers must be an array"),
        (_manifest(layers=[{"digest": f"sha256:{A}", "size": -1}]), "size of layer 0"),
        (_manifest(layers=[{"digest": f"sha256:{A}", "size": True}]), r"layers\[0\].size must be"),
        (_manifest(mediaType=documents.OCI_INDEX), "unsupported media type"),
        (b'{"manifests": []}', "manifests doesn't belong in the manifest"),
        (b"{}", "names no config"),
    ],
)
def test_broken_manifests_are_named(data: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        documents.parse_manifest(data, "it")
    assert caught.value.message.isprintable()


def test_rendered_manifest_reads_back() -> None:
    layer = {"mediaType": documents.DOCKER_LAYER, "digest": f"sha256:{B}", "size": 4}
    for data in (_manifest(), _manifest(mediaType=documents.DOCKER_MANIFEST, layers=[layer])):
        manifest = documents.parse_manifest(data)
        assert (
            documents.parse_manifest(documents.render_manifest(manifest), as_it_is=True) == manifest
        )


@given(st.binary(max_size=200))
def test_no_bytes_bring_the_parsers_down(data: bytes) -> None:
    for parse in (documents.parse_manifest, documents.parse_config):
        with pytest.raises(InputError):
            parse(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["config", "layers", "digest", "size", "rootfs", "diff_ids", "created"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(JSON)
def test_no_json_brings_the_parsers_down(document: object) -> None:
    data = json.dumps(document).encode()
    for parse in (documents.parse_manifest, documents.parse_config):
        try:
            parse(data)
        except InputError as err:
            assert err.message.isprintable()


def test_layer_ids_of_a_chain() -> None:
    """The IDs that podman 4.3.1 gave to a real pull of an image of six layers, two of them equal
    (the sample repository's app:1.0, here by the rule itself)."""
    a, b = documents.Digest(A), documents.Digest(B)
    second = hashlib.sha256(f"{A}+{B}".encode()).hexdigest()
    third = hashlib.sha256(f"{second}+{B}".encode()).hexdigest()
    assert documents.layer_ids([a, b, b]) == (A, second, third)
    assert documents.layer_ids([]) == ()
