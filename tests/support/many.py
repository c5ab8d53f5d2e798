# SPDX-License-Identifier: Apache-2.0
"""A repository of many small images in DUCC's layout, for benchmarks and tests of scale.

Nothing in it can run: the layers are empty directories. Names, links, manifests, configs and
layer descriptions are complete and have true digests.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from podman_cvmfs.oci.big_data import big_data_file
from podman_cvmfs.oci.documents import DOCKER_CONFIG, DOCKER_LAYER, DOCKER_MANIFEST

REGISTRY = "registry.example.org"


def _hex(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def make_repository(
    root: Path, images: int, *, layers: int = 8, shared: int = 5, podman_store: bool = True
) -> Path:
    """Write ``images`` images of ``layers`` layers each, the lowest ``shared`` common to all.

    ``podman_store`` puts the configs into the repository, as DUCC does, so that no registry is
    needed. Returns ``root``.
    """
    described: set[str] = set()
    for number in range(images):
        blobs = [_hex(f"blob {n if n < shared else (number, n)}") for n in range(layers)]
        diffs = [_hex(f"diff {n if n < shared else (number, n)}") for n in range(layers)]
        for blob, diff in zip(blobs, diffs):
            if blob not in described:
                described.add(blob)
                add_layer(root / ".layers" / blob[:2] / blob, blob, diff)
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "created": "2024-05-06T07:08:09.123456789Z",
                "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]},
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff}" for diff in diffs]},
                "history": [{"created_by": f"layer {n} of {number}"} for n in range(layers)],
            }
        ).encode()
        image_id = hashlib.sha256(config).hexdigest()
        name = f"project/app{number % 100}:{number}"
        manifest = {
            "SchemaVersion": 2,
            "MediaType": DOCKER_MANIFEST,
            "Config": {
                "MediaType": DOCKER_CONFIG,
                "Size": len(config),
                "Digest": f"sha256:{image_id}",
            },
            "Layers": [
                {"MediaType": DOCKER_LAYER + ".gzip", "Size": 1000, "Digest": f"sha256:{blob}"}
                for blob in blobs
            ],
        }
        described_at = root / ".metadata" / REGISTRY / name
        described_at.mkdir(parents=True)
        (described_at / "manifest.json").write_text(json.dumps(manifest, separators=(",", ":")))
        flat = root / ".flat" / image_id[:2] / image_id
        (flat / "tmp").mkdir(parents=True)
        (flat / "tmp").chmod(0o777)
        link = root / REGISTRY / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(f"../../.flat/{image_id[:2]}/{image_id}")
        if podman_store:
            blob_at = root / "podmanStore/overlay-images" / image_id
            blob_at.mkdir(parents=True)
            (blob_at / big_data_file(f"sha256:{image_id}")).write_bytes(config)
    return root


def add_layer(directory: Path, blob: str, diff: str) -> None:
    """Make the unpacked layer with the blob ``blob`` and the diff ID ``diff``, both in hex."""
    (directory / "layerfs").mkdir(parents=True)
    (directory / ".metadata").mkdir()
    facts = {
        "id": diff,
        "created": "2024-05-06T07:08:09Z",
        "compressed-diff-digest": f"sha256:{blob}",
        "diff-digest": f"sha256:{diff}",
        "diff-size": 10240,
    }
    (directory / ".metadata/layers.json").write_text(json.dumps([facts]))
