# SPDX-License-Identifier: Apache-2.0
"""Every parser of what others wrote: what it is fed with, and what must hold of its answers."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from podman_cvmfs.errors import PodmanCvmfsError
from podman_cvmfs.lists.layer_stream import decompress
from podman_cvmfs.names import reference
from podman_cvmfs.names.spec import ImageSpec
from podman_cvmfs.oci import documents, times
from podman_cvmfs.registry import auth, registries_conf
from podman_cvmfs.registry.credentials import VARIABLE as AUTH_VARIABLE
from podman_cvmfs.registry.credentials import CredentialStore
from podman_cvmfs.repository import ducc as unpacked
from podman_cvmfs.repository import whiteouts
from podman_cvmfs.resolve import synthesise
from podman_cvmfs.settings.files import VARIABLE as SETTINGS_VARIABLE
from podman_cvmfs.settings.files import load_settings
from podman_cvmfs.settings.policy import Policy
from podman_cvmfs.setup.store import ensure_store
from podman_cvmfs.store.reader import read_store
from podman_cvmfs.sync import wish_list
from podman_cvmfs.util import toml
from podman_cvmfs.verify.store import verify
from tests.fuzz import go_json
from tests.fuzz.list_targets import LIST_PARSERS
from tests.support.image_documents import CONFIG, MANIFEST
from tests.support.images import IMAGES, build
from tests.support.layers import sha256

_HEX = "5" * 64
_NAME = reference.parse_name("registry.example.org/group/image:1")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z\Z", re.ASCII)
_MESSAGE_BYTES = 4000


@dataclass(frozen=True)
class Target:
    """A parser: ``feed`` calls it and checks its answer. ``weight`` is its share of the inputs."""

    name: str
    feed: Callable[[bytes], None]
    seeds: Sequence[bytes]
    weight: int = 10


def check(target: Target, data: bytes) -> None:
    """Feed one input; AssertionError, or what the parser shouldn't have raised."""
    try:
        target.feed(data)
    except PodmanCvmfsError as err:
        for text in (err.message, err.hint or ""):
            assert text.isprintable(), f"control characters in {text!r}"
            assert len(text) < _MESSAGE_BYTES, f"an endless message: {text[:200]!r}"


def _text(data: bytes) -> str:
    """What Python makes of a file's name."""
    return os.fsdecode(data)


def _manifest(data: bytes) -> None:
    found = documents.parse_manifest(data)
    go_json.assert_go_decodes(data, go_json.MANIFEST)
    # What podman is given if these bytes aren't the genuine ones.
    rendered = documents.render_manifest(found)
    go_json.assert_go_decodes(rendered, go_json.MANIFEST)
    again = documents.parse_manifest(rendered, as_it_is=True)
    assert again.config.digest == found.config.digest
    assert [x.digest for x in again.layers] == [x.digest for x in found.layers]
    assert sum(layer.size for layer in found.layers) < 1 << 63


def _config(data: bytes) -> None:
    found = documents.parse_config(data)
    go_json.assert_go_decodes(data, go_json.CONFIG)
    for text in (found.architecture, found.os, found.variant, found.working_dir, found.user):
        assert "\0" not in text.encode().decode(), text
    assert "\0" not in "".join(found.volumes).encode().decode()
    assert found.digest == documents.Digest.of(data)
    assert _TIME.match(found.created), found.created
    for layer_id in documents.layer_ids(found.diff_ids):
        assert re.fullmatch("[0-9a-f]{64}", layer_id)


def _time(data: bytes) -> None:
    assert _TIME.match(times.normal_time(_text(data)))


def _digest(data: bytes) -> None:
    found = documents.Digest.parse(_text(data))
    assert re.fullmatch("[0-9a-f]{64}", found.hex)


def _is_safe(name: reference.ImageName) -> None:
    text = name.repository_path
    assert text.isprintable() and not text.startswith(("/", "-")), text
    assert not {"", ".", ".."} & set(text.split("/")), text


def _name(data: bytes) -> None:
    found = reference.parse_name(_text(data))
    _is_safe(found)
    assert reference.parse_name(str(found)) == found
    for other in reference.podman_names(found):
        reference.parse_name(other)


def _path(data: bytes) -> None:
    _is_safe(reference.parse_repository_path(_text(data)))


def _facts(data: bytes) -> None:
    _, size = unpacked._layer_facts(data, "layers.json")
    assert size is None or 0 <= size <= documents.MAX_LAYER


def _environment(data: bytes) -> None:
    for entry in synthesise.environment_of(data.decode("utf-8", "replace")):
        assert "=" in entry
        json.dumps(entry).encode()


def _words(data: bytes) -> None:
    for words in synthesise.run_words(data.decode("utf-8", "replace")):
        json.dumps(words).encode()


def _markers(data: bytes) -> None:
    found = whiteouts.from_json(data)
    if found is not None:
        assert whiteouts.from_json(found.to_json()) == found
        for path in [*found.files, *found.hidden, *found.opaque, *found.directories]:
            assert ".." not in path.split("/") and not path.startswith("/")


def _recipe(data: bytes) -> None:
    _check_list(wish_list.parse_recipe(data, "recipe.yaml"))


def _plain_list(data: bytes) -> None:
    _check_list(wish_list.parse_plain_list(data, "images.txt"))


def _check_list(found: wish_list.WishList) -> None:
    for text in (*found.warnings, *(problem.message for problem in found.problems)):
        assert text.isprintable(), text
    for spec in found.specs[:20]:
        spec.matches(_NAME)
        assert str(spec).isprintable()


def _spec(data: bytes) -> None:
    spec = ImageSpec.parse(_text(data))
    spec.matches(_NAME)
    assert str(spec).isprintable()
    if spec.name is not None:
        _is_safe(spec.name)


def _registries(data: bytes) -> None:
    found = registries_conf.merged(toml.parse_toml(data, "registries.conf"))
    found.endpoints(_NAME)


def _challenge(data: bytes) -> None:
    auth._parse(data.decode("latin-1"))


def _stream(data: bytes) -> None:
    total = 0
    for piece in decompress(iter([data])):
        total += len(piece)
        if total > 1 << 20:
            return


_scratch = ""


def scratch() -> str:
    """A directory for those parsers that read files, gone with the process that made it."""
    global _scratch
    if not _scratch:
        import atexit

        _scratch = tempfile.mkdtemp(prefix="fuzz-")
        atexit.register(shutil.rmtree, _scratch, ignore_errors=True)
    return _scratch


def _settings(data: bytes) -> None:
    path = Path(scratch(), "config.toml")
    path.write_bytes(data)
    os.environ[SETTINGS_VARIABLE] = str(path)
    try:
        for warning in load_settings().warnings:
            assert warning.isprintable(), warning
    finally:
        del os.environ[SETTINGS_VARIABLE]


def _credentials(data: bytes) -> None:
    path = Path(scratch(), "auth.json")
    path.write_bytes(data)
    os.environ[AUTH_VARIABLE] = str(path)
    try:
        found = CredentialStore().find("registry.example.org", "group/image")
        if found is not None:
            assert "\n" not in found.basic()
    finally:
        del os.environ[AUTH_VARIABLE]


def _store_file(name: str) -> Callable[[bytes], None]:
    def feed(data: bytes) -> None:
        store = Path(scratch(), "store")
        if not store.exists():
            ensure_store(str(store))
        path = store / ".current" / name
        before = path.read_bytes()
        path.write_bytes(data)
        try:
            for finding in verify(str(store)).findings:
                assert finding.path.isprintable() and finding.what.isprintable(), finding
            read_store(str(store))
        finally:
            path.write_bytes(before)

    return feed


def _documents() -> tuple[list[bytes], list[bytes]]:
    built = [build(image) for image in IMAGES[:6]]
    ducc = json.dumps(
        {
            "SchemaVersion": 2,
            "MediaType": documents.DOCKER_MANIFEST,
            "Config": {"MediaType": documents.DOCKER_CONFIG, "Size": 3, "Digest": f"sha256:{_HEX}"},
            "Layers": [
                {"MediaType": documents.DOCKER_LAYER, "Size": 9, "Digest": f"sha256:{_HEX}"}
            ],
        }
    ).encode()
    manifests = [*(each.manifest for each in built), ducc, json.dumps(MANIFEST).encode()]
    return manifests, [*(each.config for each in built), json.dumps(CONFIG).encode()]


_MANIFESTS, _CONFIGS = _documents()
_MARKERS = whiteouts.Markers(
    files=("var/.wh.gone", ".wh..wh..opq"),
    hidden=("var/gone",),
    opaque=("var/lib",),
    native=False,
    directories={
        "var": whiteouts.DirectoryFacts(0o755, 0, 0, 1),
        "": whiteouts.DirectoryFacts(0o755, 0, 0, 1),
    },
).to_json()
_NAMES = [
    *(b"registry.example.org/group/image:1", b"localhost:5000/a/b@sha256:" + _HEX.encode()),
    *(b"busybox", b"docker.io/library/busybox:latest", b"a/b/c/d:v1.2-3_4"),
]
_LAYER = [{"id": _HEX, "diff-digest": f"sha256:{_HEX}", "diff-size": 10, "created": "2020"}]
_SCRIPT = b"""export PATH="/usr/bin:/bin"\nexport MODE='a "quoted" $value'\n"""
_RUN = b"""OCI_ENTRYPOINT='"/bin/sh" "-c"'\nOCI_CMD='"id -un; \\"x\\""'\n"""
_RECIPE = b"""version: 1
user: someone
cvmfs_repo: unpacked.example.org
output_format: '$(scheme)://local/$(image)'
input:
    - 'https://registry.example.org/group/image:1'
    - 'https://registry.example.org/group/other:*'
"""
_REGISTRIES = b"""unqualified-search-registries = ["docker.io"]
[[registry]]
prefix = "*.example.org/group"
location = "mirror.example.com/x"
insecure = true
[[registry.mirror]]
location = "localhost:5000"
pull-from-mirror = "digest-only"
[aliases]
"image" = "registry.example.org/group/image"
"""
_SETTINGS = b"""repositories = ["/cvmfs/unpacked.example.org"]
store = "/var/lib/store"
view = "auto"
offline = true
include = ["a/*"]
[registries]
timeout = 5.5
retries = 2
"""
_AUTH = json.dumps(
    {
        "auths": {"registry.example.org": {"auth": "dXNlcjpwYXNz"}, "docker.io/x": {}},
        "credHelpers": {"other.example.org": "none-such"},
    }
).encode()
_STATE = json.dumps(
    {
        "format": 2,
        "policy": str(Policy()),
        "images": {_HEX: {"entry": f"{_HEX}-0", "repository": "/r", "source": _HEX}},
        "layers": {_HEX: {"entry": f"{_HEX}-0", "retired": 5}},
        "retired": {},
    }
).encode()
_IMAGE_RECORDS = json.dumps(
    [
        {
            "id": _HEX,
            "digest": f"sha256:{_HEX}",
            "names": ["registry.example.org/a:1"],
            "layer": _HEX,
            "created": "2020-01-01T00:00:00Z",
            "big-data-sizes": {"manifest": 1, f"sha256:{_HEX}": 2},
        }
    ]
).encode()

TARGETS = [
    Target("manifest", _manifest, _MANIFESTS, 30),
    Target("config", _config, _CONFIGS, 30),
    Target(
        "time", _time, [b"2020-09-13T12:26:40.123456789Z", b"2020-09-13T12:26:40+02:00", b""], 10
    ),
    Target("digest", _digest, [f"sha256:{_HEX}".encode(), sha256(b"").encode()]),
    Target("name", _name, _NAMES, 20),
    Target("repository path", _path, _NAMES, 20),
    Target("layer description", _facts, [json.dumps(_LAYER).encode()]),
    Target("environment script", _environment, [_SCRIPT, _RUN]),
    Target("run script", _words, [_RUN, _SCRIPT]),
    Target("kept markers", _markers, [_MARKERS], 20),
    Target("recipe", _recipe, [_RECIPE], 3),
    Target("plain list", _plain_list, [b"\n".join(_NAMES), b"# comment\n" + _NAMES[0]], 5),
    Target("image spec", _spec, [*_NAMES, b"https://registry.example.org/group/image:v*"]),
    Target("registries.conf", _registries, [_REGISTRIES], 3),
    Target(
        "challenge",
        _challenge,
        [b'Bearer realm="https://a/b",service="c",scope="d:e:f", Basic realm=x'],
    ),
    Target("compressed layer", _stream, [build(i).blobs[-1].data for i in IMAGES[9:12]], 5),
    Target("settings", _settings, [_SETTINGS], 1),
    Target("credentials", _credentials, [_AUTH], 2),
    Target("state.json", _store_file("state.json"), [_STATE], 1),
    Target("images.json", _store_file("overlay-images/images.json"), [_IMAGE_RECORDS], 1),
    Target(
        "layers.json", _store_file("overlay-layers/layers.json"), [json.dumps(_LAYER).encode()], 1
    ),
    *(Target(name, feed, seeds, 4) for name, feed, seeds in LIST_PARSERS),
]
