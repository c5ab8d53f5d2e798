# SPDX-License-Identifier: Apache-2.0
"""A repository as cvmfs-singularity-sync makes it, and images of it as a registry has them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from podman_cvmfs.oci.documents import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Digest, parse_manifest
from podman_cvmfs.repository.osg_names import merged_root

#: Where the real repository is: its links are absolute.
_MADE_FOR = "/cvmfs/singularity.opensciencegrid.org"


@dataclass(frozen=True)
class OsgBuilt:
    """What a registry has of an image: manifest and config byte for byte."""

    manifest: bytes
    config: bytes

    @property
    def image_id(self) -> str:
        return Digest.of(self.config).hex

    @property
    def merged(self) -> str:
        """Where its merged root is, relative to the repository."""
        return merged_root(parse_manifest(self.manifest))


def describe(layers: Sequence[str], architecture: str = "amd64", **settings: object) -> OsgBuilt:
    """An image whose layers are known by a word each; ``settings`` go into its config."""
    blobs = [Digest.of(f"blob {word}".encode()) for word in layers]
    config = json.dumps(
        {
            "architecture": architecture,
            "os": "linux",
            "config": settings,
            "rootfs": {
                "type": "layers",
                "diff_ids": [str(Digest.of(f"diff {word}".encode())) for word in layers],
            },
        }
    ).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {
            "mediaType": OCI_CONFIG,
            "digest": str(Digest.of(config)),
            "size": len(config),
        },
        "layers": [
            {"mediaType": f"{OCI_LAYER}+gzip", "digest": str(blob), "size": 1000} for blob in blobs
        ],
    }
    return OsgBuilt(json.dumps(manifest, indent=2).encode(), config)


def add_root(repository: Path, merged: str, environment: Mapping[str, str] | None = None) -> Path:
    """Make a merged root with Singularity's files, as Singularity itself writes them."""
    root = repository / merged
    (root / ".singularity.d/env").mkdir(parents=True, exist_ok=True)
    exports = "".join(
        f'export {key}="{value}"\n' if key == "PATH" else f'export {key}="${{{key}:-"{value}"}}"\n'
        for key, value in (environment or {}).items()
    )
    script = root / ".singularity.d/env/10-docker2singularity.sh"
    script.write_text(f"#!/bin/sh\n{exports}")
    (root / ".singularity.d/runscript").write_text(
        '#!/bin/sh\nOCI_ENTRYPOINT=\'\'\nOCI_CMD=\'"/bin/sh" "-c" "echo it\'"\'"\'s me"\'\n'
    )
    for name in ("srv", "cvmfs", "tmp"):
        (root / name).mkdir(exist_ok=True)
    return root


def add_link(repository: Path, path: str, merged: str) -> Path:
    """Link ``namespace/repository:tag`` to a merged root."""
    link = repository / path
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(f"{_MADE_FOR}/{merged}")
    return link


def convert(repository: Path, target: Path) -> list[str]:
    """Make of a repository in DUCC's layout, whose images all have merged roots, one in OSG's.

    Returns the names of the images, as OSG's list has them.
    """
    names = []
    for path in sorted((repository / ".metadata").rglob("manifest.json")):
        name = str(path.parent.relative_to(repository / ".metadata"))
        merged = merged_root(parse_manifest(path.read_bytes()))
        if not (target / merged).exists():
            (target / merged).parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-a", (repository / name).resolve(), target / merged], check=True)
        add_link(target, name.partition("/")[2], merged)
        names.append(name)
    return names
