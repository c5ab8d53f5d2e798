# SPDX-License-Identifier: Apache-2.0
"""Documents that podman couldn't decode are refused, those that it can are not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from podman_cvmfs.errors import InputError
from podman_cvmfs.oci import documents
from tests.support.image_documents import CONFIG, DESCRIPTOR, MANIFEST, SETTINGS

A = "sha256:" + "a" * 64


def encoded(document: object) -> bytes:
    return json.dumps(document).encode()


def test_all_that_podman_knows() -> None:
    config = documents.parse_config(encoded(CONFIG))
    assert config.created == "2020-09-13T10:26:40.5Z"
    assert config.volumes == ("/data", "80/tcp")
    assert len(documents.parse_manifest(encoded(MANIFEST), as_it_is=True).layers) == 1


def test_null_leaves_a_field_unset() -> None:
    for document in (CONFIG, {**CONFIG, "config": dict.fromkeys(SETTINGS)}):
        unset = {**dict.fromkeys(document), "rootfs": {"type": None, "diff_ids": None}}
        assert documents.parse_config(encoded(unset)).diff_ids == ()
    descriptor = {**dict.fromkeys(DESCRIPTOR), "digest": A}
    unset = {**dict.fromkeys(MANIFEST), "config": descriptor, "layers": [descriptor]}
    assert documents.parse_manifest(encoded(unset)).layers[0].size == 0


def places(document: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to all values in a document."""
    found = [way] if way else []
    pairs = document.items() if isinstance(document, dict) else ()
    for key, value in enumerate(document) if isinstance(document, list) else pairs:
        found.extend(places(value, (*way, key)))
    return found


def changed(document: Any, way: tuple[Any, ...], value: object) -> bytes:
    copy = json.loads(json.dumps(document))
    holder = copy
    for key in way[:-1]:
        holder = holder[key]
    holder[way[-1]] = value
    return encoded(copy)


UNKNOWN = ("moby.buildkit.cache.v0", "Memory")


@pytest.mark.parametrize("way", [w for w in places(CONFIG) if not {*UNKNOWN} & {*w}], ids=str)
def test_a_field_of_a_config_with_a_wrong_type(way: tuple[Any, ...]) -> None:
    for value in (0.5, [[0.5]]):
        with pytest.raises(InputError) as caught:
            documents.parse_config(changed(CONFIG, way, value), "it")
        assert "it" in caught.value.message and caught.value.message.isprintable()


@pytest.mark.parametrize("way", [w for w in places(MANIFEST) if w != ("history",)], ids=str)
def test_a_field_of_a_manifest_with_a_wrong_type(way: tuple[Any, ...]) -> None:
    for value in (0.5, [[0.5]], 10**30):
        with pytest.raises(InputError, match="it"):
            documents.parse_manifest(changed(MANIFEST, way, value), "it")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"created": ""}, "created must be a time"),
        ({"created": "yesterday"}, "created must be a time"),
        ({"created": "2024-01-01T00:00:00.\u0663Z"}, "created must be a time"),
        ({"history": [{"created": "2024"}]}, r"history\[0\].created must be a time"),
        ({"config": {"Env": "A=b"}}, "config.Env must be an array"),
        ({"config": {"ENV": "A=b"}}, "config.ENV must be an array"),
        ({"config": {"Env": [5]}}, r"config.Env\[0\] must be a string"),
        ({"config": {"Cmd": "/bin/sh"}}, "config.Cmd must be an array"),
        ({"config": {"Labels": ["a"]}}, "config.Labels must be an object"),
        ({"config": {"Labels": {"a\n": 5}}}, r"config.Labels.a\\n must be a string"),
        ({"config": {"Volumes": {"/a": 1}}}, "config.Volumes./a must be an object"),
        ({"config": {"Env": [], "env": []}}, "config.env is there twice"),
        ({"os.version": 5}, "os.version must be a string"),
        ({"Size": 1 << 63}, "Size must be a whole number of 64 bits"),
        (
            {"variant": "\ud800"},
            r"the variant in it holds a text that isn't valid Unicode: '\\\\ud800'",
        ),
        (
            {"config": {"WorkingDir": "/a\0b"}},
            "WorkingDir in it holds a text that isn't valid Unicode",
        ),
        ({"config": {"User": "\udc80"}}, "User in it holds a text that isn't valid Unicode"),
        (
            {"config": {"Volumes": {"/\ud800": {}}}},
            "a volume in it holds a text that isn't valid Unicode",
        ),
    ],
)
def test_refused_configs_are_explained(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        documents.parse_config(encoded({**CONFIG, **changes}), "it")
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    "data",
    [
        encoded(CONFIG).decode().encode("utf-16"),
        encoded(CONFIG).decode().encode("utf-32"),
        b"\xef\xbb\xbf" + encoded(CONFIG),
        encoded({**CONFIG, "x": "\xe9"}).replace(b"\\u00e9", b"\xe9"),
        encoded({**CONFIG, "x": float("nan")}),
        encoded({**CONFIG, "x": float("-inf")}),
    ],
)
def test_what_only_python_takes_for_json(data: bytes) -> None:
    with pytest.raises(InputError, match="it is not valid JSON"):
        documents.parse_config(data, "it")


def test_an_oci_manifest_of_docker_s_config() -> None:
    """podman can't read it as it is; written anew it says what it is."""
    config = {**DESCRIPTOR, "mediaType": documents.DOCKER_CONFIG}
    document = encoded({**MANIFEST, "config": config})
    assert documents.parse_manifest(document, "it").config.media_type == documents.OCI_CONFIG
    with pytest.raises(InputError, match="doesn't belong in it"):
        documents.parse_manifest(document, "it", as_it_is=True)


def test_what_is_there_twice() -> None:
    """It matters where names have a meaning; podman passes over what it doesn't know."""
    for more in (b', "os": "linux"}', b', "config": {}}'):
        with pytest.raises(InputError, match="it: has a member twice"):
            documents.parse_config(encoded(CONFIG)[:-1] + more, "it")
    labels = encoded({**CONFIG, "config": {"Labels": {"a": "1", "b": "2"}}}).replace(b'"b"', b'"a"')
    assert documents.parse_config(labels, "it")
    assert documents.parse_config(encoded(CONFIG)[:-1] + b', "x": {"y": 1, "y": 1e999}}', "it")


def test_a_time_with_escapes_in_it() -> None:
    """Go reads times without undoing escapes; in any other text they are as good as what they
    stand for."""
    document = encoded({**CONFIG, "author": "2020-09-13T12:26:40+00:00"})
    assert documents.parse_config(document.replace(b"+00:00", b"\\u002b00:00"))
    with pytest.raises(InputError, match="a time with escapes"):
        documents.parse_config(document.replace(b"+02:00", b"\\u002b02:00"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"mediaType": documents.DOCKER_MANIFEST},
            "vnd.oci.image.layer.v1.tar' doesn't belong in it",
        ),
        ({"config": {**DESCRIPTOR, "mediaType": "text/plain"}}, "doesn't belong in it"),
        ({"fsLayers": []}, "fsLayers doesn't belong in the manifest"),
        (
            {"layers": [{**DESCRIPTOR, "size": documents.MAX_LAYER + 1}]},
            "the size of layer 0 in it",
        ),
        ({"Layers": []}, "Layers is there twice"),
        ({"layers": [None]}, "layer 0 in it must be a JSON object"),
    ],
)
def test_refused_manifests_are_explained(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        documents.parse_manifest(encoded({**MANIFEST, **changes}), "it")


@pytest.mark.parametrize(
    "changes",
    [
        {"mediaType": None, "schemaVersion": 1},
        {"config": {**DESCRIPTOR, "mediaType": ""}},
        {"mediaType": documents.DOCKER_MANIFEST, "layers": [{**DESCRIPTOR, "mediaType": ""}]},
        {
            "mediaType": "",
            "config": {**DESCRIPTOR, "mediaType": documents.DOCKER_CONFIG},
            "layers": [],
        },
    ],
)
def test_what_a_manifest_lacks_is_added_unless_it_is_kept(changes: dict[str, Any]) -> None:
    data = encoded({**MANIFEST, **changes})
    rendered = documents.render_manifest(documents.parse_manifest(data))
    assert documents.parse_manifest(rendered, as_it_is=True)
    with pytest.raises(InputError, match="podman can't read it"):
        documents.parse_manifest(data, "it", as_it_is=True)


def test_sizes_of_layers_never_add_up_to_more_than_podman_counts() -> None:
    layer = {"digest": A, "size": documents.MAX_LAYER}
    shortest = len(json.dumps({"digest": A}, separators=(",", ":"))) + 1
    assert documents.parse_manifest(encoded({**MANIFEST, "layers": [layer]}))
    assert (documents.MAX_DOCUMENT // shortest) * documents.MAX_LAYER < 1 << 63
