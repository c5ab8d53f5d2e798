# SPDX-License-Identifier: Apache-2.0
"""Two real wish lists, which are no part of the project.

They lie beside the checkout, or in the directory that the environment variable PODMAN_CVMFS_DATA
names.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.required import required

_DEFAULT = Path(__file__).resolve().parents[3] / "shared/data"

DUCC_RECIPE = "images-unpacked.cern.ch-recipe.yaml"
OSG_LIST = "osg-docker_images.txt"


def shared_data(name: str) -> Path:
    """The path of the file ``name``; without it the test fails in CI and is skipped elsewhere."""
    path = Path(os.environ.get("PODMAN_CVMFS_DATA", _DEFAULT)) / name
    if not path.exists():
        required(f"no {name} at {path.parent}: set PODMAN_CVMFS_DATA")
    return path
