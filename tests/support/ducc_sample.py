# SPDX-License-Identifier: Apache-2.0
"""A repository that DUCC itself wrote, and what podman says of the same images when pulled.

The sample is no part of the project: it lies beside the checkout, or where the environment
variable PODMAN_CVMFS_SAMPLE says, with its expected values next to it.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_DEFAULT = Path(__file__).resolve().parents[3] / "shared/data/ducc-sample.tar.gz"


class SampleMissingError(RuntimeError):
    """There is no sample here; the text says where it was looked for."""


@dataclass(frozen=True)
class Sample:
    """The unpacked repository, and expected values by image name."""

    repository: Path
    expected: dict[str, dict[str, Any]]


def unpack(into: Path) -> Sample:
    """Unpack the sample below ``into`` with its owners (as root). Raises SampleMissingError."""
    archive = Path(os.environ.get("PODMAN_CVMFS_SAMPLE", _DEFAULT))
    values = archive.with_name("ducc-sample-expected.json.gz")
    for path in (archive, values):
        if not path.exists():
            raise SampleMissingError(f"no {path.name} at {path.parent}: set PODMAN_CVMFS_SAMPLE")
    into.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["tar", "-xpzf", archive, "--numeric-owner", "--same-owner", "-C", into], check=True
    )
    return Sample(into / "ducc.sample", json.loads(gzip.decompress(values.read_bytes())))
