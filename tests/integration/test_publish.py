# SPDX-License-Identifier: Apache-2.0
"""Images for several architectures: publish takes the one that podman would pull."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import requests

from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.oci.big_data import big_data_file
from podman_cvmfs.oci.documents import OCI_INDEX, Digest
from podman_cvmfs.oci.platform import Platform
from tests.support.cli import Target, podman_cvmfs, succeed
from tests.support.http import Answer, give, serving
from tests.support.images import LAYERS, Image, build, push, push_index, renamed
from tests.support.layers import file, hardlink, sha256, symlink, whiteout
from tests.support.podman import Host, running
from tests.support.registry import Registry

HERE = Platform.of_host().architecture
OTHER = "s390x" if HERE != "s390x" else "amd64"
IMAGE = Image("t/several:1", ["base", "app"], {"Cmd": ["true"]})


def test_the_image_for_the_architecture_is_published(
    registry: Registry, tmp_path: Path, podman_host: Host
) -> None:
    images = {each: build(IMAGE, each) for each in (OTHER, HERE)}
    name = push_index(images, registry)

    def publish_and_sync(directory: str, *arch: str) -> tuple[Target, dict[str, object]]:
        root = tmp_path / directory
        root.mkdir()
        target = Target(root / "repository", root / "store", root / "cache")
        succeed("publish", f"http://{name}", "--repository", target.repository, *arch)
        return target, json.loads(target.sync("--format", "json", *arch))

    here, report = publish_and_sync("here")
    assert (report["images"], report["failed"]) == (1, {})
    other, report = publish_and_sync("other", "--arch", OTHER)
    assert (report["images"], report["failed"]) == (1, {})
    with running(
        tmp_path / "podman", stores=[here.store], insecure=[registry.address], on=podman_host
    ) as podman:
        assert podman.inspect(name)["Id"] == images[HERE].image_id
        podman.run("run", "--rm", "--pull=never", name)
    with running(
        tmp_path / "theirs", stores=[other.store], insecure=[registry.address], on=podman_host
    ) as podman:
        stored = podman.inspect(name)
        assert (stored["Id"], stored["Architecture"]) == (images[OTHER].image_id, OTHER)
    with running(
        tmp_path / "plain", stores=[], insecure=[registry.address], on=podman_host
    ) as podman:
        podman.run("pull", "--quiet", "--arch", OTHER, name)
        assert podman.inspect(name)["Id"] == stored["Id"]


def test_another_architecture_takes_a_name_away(registry: Registry, tmp_path: Path) -> None:
    name = push_index({each: build(IMAGE, each) for each in (OTHER, HERE)}, registry)
    command = ("publish", f"http://{name}", "--repository", tmp_path / "repository")
    for options, is_told in (((), False), (("--arch", OTHER), True), (("--arch", OTHER), False)):
        done = podman_cvmfs(*command, *options)
        assert done.returncode == 0, done.stderr
        assert (f"{name} was for {HERE} and is now for {OTHER}" in done.stderr) == is_told


def test_the_digest_that_lists_all_architectures_is_kept(
    registry: Registry, tmp_path: Path, podman_host: Host
) -> None:
    """Registries show that digest, and podman knows what it pulled by a tag by it, too."""
    name = push_index({each: build(IMAGE, each) for each in (OTHER, HERE)}, registry)
    kinds = {"Accept": OCI_INDEX}
    address = f"{registry.url}/v2/{IMAGE.name.replace(':', '/manifests/')}"
    pinned = f"{name.rpartition(':')[0]}@{Digest.of(requests.get(address, headers=kinds).content)}"
    target = Target(tmp_path / "repository", tmp_path / "store", tmp_path / "cache")
    succeed("publish", f"http://{name}", "--repository", target.repository)
    target.sync("--offline")
    with running(tmp_path / "podman", stores=[target.store], on=podman_host) as podman:
        podman.run("run", "--rm", "--pull=never", pinned)
    with running(
        tmp_path / "plain", stores=[], insecure=[registry.address], on=podman_host
    ) as podman:
        podman.run("pull", "--quiet", name)
        podman.run("run", "--rm", "--pull=never", pinned)


def test_manifests_of_one_config(registry: Registry, tmp_path: Path, podman_host: Host) -> None:
    """The same image, compressed in another way, takes nothing away from the one that was there."""
    usual = build(IMAGE)
    packed = build(replace(IMAGE, layers=[f"{layer}:plain" for layer in IMAGE.layers]))
    manifest = packed.manifest.replace(
        sha256(packed.config).encode(), sha256(usual.config).encode()
    )
    old, new = (b'"size": %d' % len(each.config) for each in (packed, usual))
    other = replace(packed, config=usual.config, manifest=manifest.replace(old, new, 1))
    # The one whose file would be found last has the name that counts.
    first, second = sorted(
        (usual, other), key=lambda each: big_data_file(f"manifest-{each.digest}"), reverse=True
    )
    names = [push(renamed(first, "t/a:1"), registry), push(renamed(second, "t/zz:1"), registry)]
    target = Target(tmp_path / "repository", tmp_path / "store", tmp_path / "cache")
    for name in names:
        succeed("publish", f"http://{name}", "--repository", target.repository)
    target.sync("--offline")
    with running(tmp_path / "podman", stores=[target.store], on=podman_host) as podman:
        assert podman.inspect(names[0])["Digest"] == first.digest
    # A cache that knows another of them, from another repository, doesn't come before that.
    cache = BlobCache(str(tmp_path / "other cache"))
    cache.keep_manifests(Digest(first.image_id), second.manifest, None)
    fresh = Target(target.repository, tmp_path / "other store", Path(cache.directory))
    fresh.sync("--offline")
    listed = json.loads((fresh.store / "overlay-images/images.json").read_text())
    assert [image["digest"] for image in listed] == [first.digest]


def test_names_that_go_back(
    registry: Registry, tmp_path: Path, podman_host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [
        symlink("opt/link", "/usr"),
        file("opt/link/../back", "file\n"),
        hardlink("opt/hard", "opt/none/../back"),
        whiteout("none/../var/lib/data/a"),
    ]
    monkeypatch.setitem(LAYERS, "back", entries)
    command = {"Cmd": ["ls", "-R", "/opt", "/var/lib"]}
    name = push(build(Image("t/back:1", ["base", "back"], command)), registry)
    target = Target(tmp_path / "repository", tmp_path / "store", tmp_path / "cache")
    succeed("publish", f"http://{name}", "--repository", target.repository)
    listed = set()
    for view in ("flat", "layers", None):
        if view is not None:
            target.sync("--offline", "--view", view)
        stores = [] if view is None else [target.store]
        with running(
            tmp_path / str(view), stores=stores, insecure=[registry.address], on=podman_host
        ) as podman:
            listed.add(podman.run("run", "--rm", name).stdout)
    assert len(listed) == 1 and "back" in listed.pop()


def test_what_there_is_for_no_such_architecture(registry: Registry, tmp_path: Path) -> None:
    name = push_index({OTHER: build(IMAGE, OTHER)}, registry)
    repository = str(tmp_path / "repository")
    done = podman_cvmfs("publish", f"http://{name}", "--repository", repository, "--arch", "arm/v7")
    assert (done.returncode, done.stdout) == (3, "")
    assert f"no image for linux/arm/v7; there is linux/{OTHER}" in done.stderr
    # One that is for nothing else is published all the same, as podman pulls it, and warned of.
    done = podman_cvmfs(
        "publish", f"http://{name}@{build(IMAGE, OTHER).digest}", "--repository", repository
    )
    assert done.returncode == 0, done.stderr
    assert f"is for {OTHER}, not for {HERE}: syncs on this architecture leave it out" in done.stderr
    done = podman_cvmfs("publish", f"http://{name}", "--repository", repository, "--arch", "arm46")
    assert done.returncode == 3 and "is it arm64?" in done.stderr


def test_registries_are_waited_for_as_long_as_the_settings_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.toml").write_text("[registries]\ntimeout = 0.5\nretries = 0\n")
    monkeypatch.setenv("PODMAN_CVMFS_CONFIG", str(tmp_path / "config.toml"))
    with serving() as server:
        server.answers["/"] = lambda handler: time.sleep(10)
        begun = time.monotonic()
        source = f"http://{server.address}/a/b:1"
        done = podman_cvmfs("publish", source, "--repository", tmp_path / "repository")
        took = time.monotonic() - begun
    assert done.returncode == 6 and "doesn't answer in time" in done.stderr
    assert took < 8


BUILT = build(IMAGE)
LAYER = BUILT.blobs[-1]
MANIFEST = "/v2/t/several/manifests/"


def _answers() -> dict[str, Answer]:
    blobs = {sha256(BUILT.config): BUILT.config, **{blob.digest: blob.data for blob in BUILT.blobs}}
    return {
        MANIFEST: give(BUILT.manifest, Content_Type=BUILT.media_type),
        **{f"/v2/t/several/blobs/{digest}": give(data) for digest, data in blobs.items()},
    }


def _flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: b"wrong", "it has 5 bytes, not"),
        (lambda data: b"<html>log in</html>" * 100, "it "),
        (lambda data: data[:-1], "it has"),
        (lambda data: data + b"x", "it is larger than"),
        (_flipped, "it has another digest"),
        (lambda data: gzip.compress(b"junk" * 300).ljust(len(data), b"x"), "it has another digest"),
        (lambda data: bytes(len(data)), "it has another digest"),
    ],
    ids=["short", "HTML", "cut off", "too long", "last byte", "another", "empty tar"],
)
def test_wrong_layers_are_the_registry_s_fault(
    tmp_path: Path, spoil: Callable[[bytes], bytes], message: str
) -> None:
    with serving() as server:
        server.answers = {f"/v2/t/several/blobs/{LAYER.digest}": give(spoil(LAYER.data))}
        server.answers.update({k: v for k, v in _answers().items() if k not in server.answers})
        source = f"http://{server.address}/{IMAGE.name}"
        done = podman_cvmfs("publish", source, "--repository", tmp_path / "repository")
    assert done.returncode == 6, done.stderr
    said = f"{IMAGE.name}: layer {LAYER.digest}: the registry sent wrong data: {message}"
    assert said in done.stderr


def test_a_malformed_layer_is_the_image_s_fault(tmp_path: Path) -> None:
    """Its digest is what the manifest says."""
    bad = gzip.compress(b"junk" * 300)
    manifest = json.loads(BUILT.manifest)
    manifest["layers"][-1].update(digest=sha256(bad), size=len(bad))
    with serving() as server:
        server.answers = _answers()
        server.answers[MANIFEST] = give(json.dumps(manifest).encode())
        server.answers[f"/v2/t/several/blobs/{sha256(bad)}"] = give(bad)
        source = f"http://{server.address}/{IMAGE.name}"
        done = podman_cvmfs("publish", source, "--repository", tmp_path / "repository")
    assert done.returncode == 3 and "the tar archive is damaged" in done.stderr


@pytest.mark.parametrize(
    "document",
    [
        b"<html>log in</html>",
        b"[]",
        b'{"schemaVersion": 1, "fsLayers": []}',
        b'{"manifests": 5}',
        b'{"manifests": [{}]}',
    ],
)
def test_a_manifest_that_is_none_is_the_registry_s_fault(tmp_path: Path, document: bytes) -> None:
    with serving() as server:
        server.answers = {MANIFEST: give(document)}
        name = f"{server.address}/{IMAGE.name}"
        done = podman_cvmfs("publish", f"http://{name}", "--repository", tmp_path / "repository")
    assert done.returncode == 6, done.stderr
    assert name in done.stderr and "Traceback" not in done.stderr
