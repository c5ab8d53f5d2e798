# SPDX-License-Identifier: Apache-2.0
"""Every call, with both artefacts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from podman_cvmfs.errors import InputError, StoreError
from podman_cvmfs.storage_native import (
    Artefact,
    CallError,
    OpenStore,
    PanicError,
    effective_config,
)
from podman_cvmfs.storage_native.build import toolchain
from podman_cvmfs.storage_native.session import started
from podman_cvmfs.store.reader import read_store
from podman_cvmfs.store.records import StoreContent
from tests.support.podman import Host
from tests.support.trees import snapshot


@pytest.fixture(scope="module")
def content(store: Path) -> StoreContent:
    """What our own reader finds in the store."""
    found = read_store(str(store))
    assert found is not None
    return found


def test_version(artefact: Artefact) -> None:
    with started(artefact) as (_, version):
        assert (version.abi, version.storage) == (1, toolchain().version)
        assert version.go.startswith("go1.")
        assert version.storage.split(".")[0] == "1"


def test_config_is_what_storage_conf_says(
    artefact: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STORAGE_OPTS", "STORAGE_DRIVER"):
        monkeypatch.delenv(name, raising=False)
    stores = [tmp_path / "one", tmp_path / "two"]
    for store in stores:
        store.mkdir()
    conf = tmp_path / "storage.conf"
    conf.write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{tmp_path}/graph"\n'
        f'runroot = "{tmp_path}/run"\n[storage.options]\n'
        f"additionalimagestores = {json.dumps(list(map(str, stores)))}\n"
        '[storage.options.overlay]\nmountopt = "nodev"\n'
    )
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(conf))
    config = effective_config(artefact)
    assert (config.graph_root, config.run_root) == (f"{tmp_path}/graph", f"{tmp_path}/run")
    assert config.driver == "overlay"
    assert config.additional_stores == tuple(map(str, stores))
    assert any(option.endswith("mountopt=nodev") for option in config.options)
    # Reading is all it does.
    assert sorted(os.listdir(tmp_path)) == ["one", "storage.conf", "two"]


def test_config_that_is_broken(
    artefact: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = tmp_path / "storage.conf"
    conf.write_text("[storage\n")
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(conf))
    with pytest.raises(CallError, match="config"):
        effective_config(artefact)


def test_images_and_layers(artefact: Artefact, store: Path, content: StoreContent) -> None:
    with OpenStore(str(store), artefact=artefact) as opened:
        images = {image.image_id: image for image in opened.images()}
        layers = {layer.layer_id: layer for layer in opened.layers()}
    assert set(images) == set(content.images)
    assert set(layers) == set(content.layers)
    assert all(image.read_only for image in images.values())
    assert all(layer.read_only for layer in layers.values())
    for image_id, image in images.items():
        ours = content.images[image_id]
        assert dict.fromkeys(image.names, image_id).items() <= content.names.items()
        assert (image.layer, image.digest) == (ours.top_layer, str(ours.manifest_digest))
        assert {item.size for item in image.big_data} == {ours.manifest_size, ours.config_size}
    for layer_id, layer in layers.items():
        assert layer.parent == (content.layers[layer_id].parent or "")
        assert layer.diff_size == content.layers[layer_id].diff_size


def test_lookup_by_name_id_and_digest(
    artefact: Artefact, store: Path, content: StoreContent
) -> None:
    with OpenStore(str(store), artefact=artefact) as opened:
        for name, image_id in content.names.items():
            digest = str(content.images[image_id].manifest_digest)
            assert opened.lookup(name) == opened.lookup(image_id) == image_id
            assert opened.lookup(image_id[:20]) == image_id
            assert opened.images_by_digest(digest) == (image_id,)
        assert opened.images_by_digest(f"sha256:{0:064}") == ()
        for nothing in ("registry.example.org/no/such:image", "f" * 64, "", "a\0b", "\u202e"):
            with pytest.raises(CallError) as raised:
                opened.lookup(nothing)
            assert raised.value.kind == "unknown"
        with pytest.raises(CallError) as raised:
            opened.images_by_digest("sha256:../../etc/passwd")
        assert raised.value.kind == "request"


def test_big_data_and_size(artefact: Artefact, store: Path, content: StoreContent) -> None:
    with OpenStore(str(store), artefact=artefact) as opened:
        for image_id, image in content.images.items():
            config = opened.big_data(image_id, f"sha256:{image_id}")
            assert len(config) == image.config_size
            assert json.loads(config)["os"] == "linux"
            assert len(opened.big_data(image_id, "manifest")) == image.manifest_size
            assert opened.image_size(image_id) > 8 * 10240
        for key in ("nothing", "../../../images.json"):
            with pytest.raises(CallError):
                opened.big_data(image_id, key)
        with pytest.raises(CallError) as raised:
            opened.image_size("f" * 64)
        assert raised.value.kind == "unknown"


def test_mount_shows_the_root_file_system(
    artefact: Artefact, sample_store: Path, podman_host: Host
) -> None:
    with OpenStore(str(sample_store), artefact=artefact) as opened:
        for image in opened.images():
            with opened.mounted(image.image_id) as root:
                assert os.path.isfile(f"{root}/bin/busybox")
                with open(f"{root}/new", "w") as file:
                    file.write("writable, and thrown away")
            assert not os.path.exists(f"{root}/bin")
        with pytest.raises(CallError) as raised, opened.mounted("f" * 64):
            pass
        assert raised.value.kind == "unknown"


def test_check_or_says_that_it_cannot(artefact: Artefact, store: Path) -> None:
    with OpenStore(str(store), artefact=artefact) as opened:
        if opened.version.storage.startswith("1.43."):
            with pytest.raises(CallError) as raised:
                opened.check()
            assert raised.value.kind == "unsupported"
        else:
            found = opened.check()
            assert (dict(found.layers), dict(found.images)) == ({}, {})


def test_the_store_is_not_written_to_and_nothing_is_left(
    artefact: Artefact, sample_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = snapshot(sample_store)
    with OpenStore(str(sample_store), artefact=artefact) as opened:
        (image, *_) = opened.images()
        with opened.mounted(image.image_id):
            pass
        opened.mounted(image.image_id).__enter__()
        assert os.listdir(tmp_path) != []
    assert snapshot(sample_store) == before
    assert os.listdir(tmp_path) == []
    with open("/proc/self/mounts") as mounts:
        assert str(tmp_path) not in mounts.read()


def test_no_configuration_plays_a_part(
    artefact: Artefact, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = tmp_path / "storage.conf"
    conf.write_text("[storage\n")
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(conf))
    monkeypatch.setenv("STORAGE_OPTS", "overlay.imagestore=/does/not/exist")
    monkeypatch.setenv("STORAGE_DRIVER", "vfs")
    with OpenStore(str(store), artefact=artefact) as opened:
        assert len(opened.images()) == 5


def test_several_stores_at_once(artefact: Artefact, store: Path, sample_store: Path) -> None:
    with OpenStore(str(store), str(sample_store), artefact=artefact) as opened:
        assert len(opened.images()) == 5 + 3


def test_stores_that_cannot_be_opened(artefact: Artefact, tmp_path: Path) -> None:
    with pytest.raises(CallError, match="open"):
        OpenStore(str(tmp_path / "missing"), artefact=artefact)
    for path in ("/a,b", "/a:b"):
        with pytest.raises(StoreError):
            OpenStore(path, artefact=artefact)
    # Python's spelling of a name that isn't UTF-8, which Go would take for another one.
    with pytest.raises(InputError, match="UTF-8"):
        OpenStore(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"), artefact=artefact)


def test_a_number_that_is_no_open_store(artefact: Artefact) -> None:
    with started(artefact) as (calls, _):
        for number in (0, 1, -1, 2**63 - 1):
            with pytest.raises(CallError) as raised:
                calls.images(number)
            assert raised.value.kind == "request"
        with pytest.raises(CallError, match="request"):
            calls.images(2**64)
        with pytest.raises(CallError):
            calls.open([], "", "")
        assert calls.close_all() == 0


def test_a_closed_store_is_closed(artefact: Artefact, store: Path, tmp_path: Path) -> None:
    roots = (str(tmp_path / "graph"), str(tmp_path / "run"))
    with started(artefact, ["unshare", "--mount"]) as (calls, _):
        number = calls.open([str(store)], *roots)
        assert calls.open([str(store)], *roots) == number
        assert len(calls.images(number)) == 5
        calls.close(number)
        with pytest.raises(CallError):
            calls.images(number)
        again = calls.open([str(store)], *roots)
        assert again != number
        assert len(calls.layers(again)) == len(calls.layers(again))
        assert calls.close_all() == 1


def test_a_panic_in_go_is_an_exception(artefact: Artefact) -> None:
    with started(artefact) as (calls, version):
        for _ in range(3):
            with pytest.raises(PanicError, match="asked to"):
                calls.panic()
        assert calls.version() == version
