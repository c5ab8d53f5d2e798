# SPDX-License-Identifier: Apache-2.0
"""Images that podman couldn't decode: each is reported, and podman shows all the others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from podman_cvmfs.errors import PartialError
from podman_cvmfs.oci.big_data import big_data_file
from podman_cvmfs.oci.documents import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    OCI_LAYER,
    OCI_MANIFEST,
)
from tests.support.cli import Target, podman_cvmfs, succeed
from tests.support.many import REGISTRY, add_layer
from tests.support.podman import Host, running

_GOOD = f"{REGISTRY}/docs/good:1"

#: Kind of spoilt config -> what it has instead of what the good one has.
_CONFIGS: dict[str, dict[str, Any]] = {
    "time-empty": {"created": ""},
    "time-of-words": {"created": "yesterday"},
    "time-in-other-digits": {"created": "2024-01-01T00:00:00.\u0663Z"},
    "time-of-history": {"history": [{"created": "2024"}]},
    "time-as-number": {"created": 5},
    "env": {"config": {"Env": "A=b"}},
    "env-in-capitals": {"config": {"ENV": "A=b"}},
    "cmd": {"config": {"Cmd": "/bin/sh"}},
    "entrypoint": {"config": {"Entrypoint": {}}},
    "labels": {"config": {"Labels": ["a"]}},
    "volumes": {"config": {"Volumes": ["/data"]}},
    "ports": {"config": {"ExposedPorts": {"80/tcp": 80}}},
    "healthcheck": {"config": {"Healthcheck": {"Interval": "5s"}}},
    "container": {"container_config": {"Env": "A=b"}},
    "history": {"history": "x"},
    "osversion": {"os.version": 5},
    "nan": {"author": float("nan")},
    "variant": {"variant": "\ud800"},
    "directory": {"config": {"WorkingDir": "/a\0b"}},
}


def _recoded(encoding: str) -> Callable[[bytes], bytes]:
    return lambda data: data.decode().encode(encoding)


#: Kind -> what becomes of the config's bytes.
_ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "utf16": _recoded("utf-16"),
    "utf32": _recoded("utf-32"),
    "mark": _recoded("utf-8-sig"),
    "twice": lambda data: b'{"os": 5, ' + data[1:],
    "escaped-time": lambda data: data.replace(b'"2024', b'"\\u0032024'),
}
#: Kind -> what the manifest has, and what its layer.
_MANIFESTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "size": ({}, {"Size": 10**30}),
    "size-of-64-bits": ({}, {"Size": (1 << 63) - 1}),
    "oci-layer": ({}, {"MediaType": f"{OCI_LAYER}+gzip"}),
    "index-as-well": ({"Manifests": []}, {}),
}
_DIFF_SIZES = {"diff-size": 10**30, "diff-size-of-63-bits": 1 << 62}


def _hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class _Publisher:
    """Fills a repository as DUCC does, with whatever documents it is given."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(
        self,
        kind: str,
        changes: dict[str, Any] | None = None,
        encode: Callable[[bytes], bytes] = bytes,
        manifest_changes: dict[str, Any] | None = None,
        layer_changes: dict[str, Any] | None = None,
        diff_size: int | None = None,
    ) -> str:
        """Publish an image of one layer; returns its name."""
        blob, diff = _hex(f"blob {kind}".encode()), _hex(f"diff {kind}".encode())
        layer = self.root / ".layers" / blob[:2] / blob
        add_layer(layer, blob, diff)
        if diff_size is not None:
            facts = [{"diff-digest": f"sha256:{diff}", "diff-size": diff_size}]
            (layer / ".metadata/layers.json").write_text(json.dumps(facts))
        config = encode(
            json.dumps(
                {
                    "architecture": "amd64",
                    "os": "linux",
                    "created": "2024-05-06T07:08:09Z",
                    "config": {"Cmd": ["/bin/sh"], "Labels": {"kind": kind}},
                    "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff}"]},
                    **(changes or {}),
                }
            ).encode()
        )
        image_id = _hex(config)
        manifest = {
            "SchemaVersion": 2,
            "MediaType": DOCKER_MANIFEST,
            "Config": {
                "MediaType": DOCKER_CONFIG,
                "Size": len(config),
                "Digest": f"sha256:{image_id}",
            },
            "Layers": [
                {
                    "MediaType": f"{DOCKER_LAYER}.gzip",
                    "Size": 1000,
                    "Digest": f"sha256:{blob}",
                    **(layer_changes or {}),
                }
            ],
            **(manifest_changes or {}),
        }
        name = f"{REGISTRY}/docs/{kind}:1"
        flat = f".flat/{image_id[:2]}/{image_id}"
        (self.root / flat).mkdir(parents=True)
        link = self.root / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(f"../../{flat}")
        self._write(f".metadata/{name}/manifest.json", json.dumps(manifest).encode())
        self.keep(image_id, f"sha256:{image_id}", config)
        return name

    def keep(self, image_id: str, key: str, data: bytes) -> None:
        """Put a document into the repository's own podman store."""
        self._write(f"podmanStore/overlay-images/{image_id}/{big_data_file(key)}", data)

    def _write(self, path: str, data: bytes) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(data)


def test_one_bad_image_of_each_kind(tmp_path: Path, podman_host: Host) -> None:
    target = Target(tmp_path / "repository", tmp_path / "store", tmp_path / "cache")
    publisher = _Publisher(target.repository)
    assert publisher.add("good") == _GOOD
    # Its manifest is written anew, and right.
    mixed = publisher.add("oci-of-docker", manifest_changes={"MediaType": OCI_MANIFEST})
    bad = [publisher.add(kind, changes) for kind, changes in _CONFIGS.items()]
    bad += [publisher.add(kind, encode=encode) for kind, encode in _ENCODINGS.items()]
    for kind, (own, layers) in _MANIFESTS.items():
        bad.append(publisher.add(kind, manifest_changes=own, layer_changes=layers))
    bad += [publisher.add(kind, diff_size=size) for kind, size in _DIFF_SIZES.items()]
    done = podman_cvmfs(*target.argv("--offline"))
    assert done.returncode == PartialError.exit_code, done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert [name for name in bad if not any(name in line for line in lines)] == []
    assert f"{len(bad)} failed" in done.stdout + done.stderr
    with running(tmp_path / "podman", stores=[target.store]) as podman:
        listed = podman.run("images", "--format={{.Repository}}:{{.Tag}}").stdout
        assert sorted(listed.split()) == [_GOOD, mixed]
        assert podman.inspect(_GOOD)["Labels"] == {"kind": "good"}
        podman.run("image", "exists", _GOOD)
    succeed("verify", "--store", target.store)


def test_a_kept_manifest_that_podman_cannot_read(tmp_path: Path, podman_host: Host) -> None:
    """It is the image's own by its digest, but one made from what the repository says serves."""
    target = Target(tmp_path / "repository", tmp_path / "store", tmp_path / "cache")
    publisher = _Publisher(target.repository)
    publisher.add("good")
    path = target.repository / ".metadata" / _GOOD / "manifest.json"
    document = json.loads(path.read_text())
    image_id = document["Config"]["Digest"][len("sha256:") :]
    for kept in ({**document, "Annotations": ["a"]}, {**document, "MediaType": None}):
        data = json.dumps(kept).encode()
        publisher.keep(image_id, f"manifest-sha256:{_hex(data)}", data)
    target.sync("--offline")
    with running(tmp_path / "podman", stores=[target.store]) as podman:
        assert podman.run("images", "--format={{.Repository}}:{{.Tag}}").stdout == f"{_GOOD}\n"
