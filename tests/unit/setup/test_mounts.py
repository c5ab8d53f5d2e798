# SPDX-License-Identifier: Apache-2.0
"""The volumes that show /cvmfs to containers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from podman_cvmfs.errors import InputError
from podman_cvmfs.setup.mounts import drop_in, volumes_for
from tests.support.set_up import CVMFS

TOP = Path(__file__).parents[3]


def test_volumes_need_what_they_show(tmp_path: Path) -> None:
    cvmfs = str(tmp_path / "cvmfs")
    with pytest.raises(InputError, match="is missing"):
        volumes_for([], cvmfs)
    os.makedirs(f"{cvmfs}/atlas.cern.ch")
    assert volumes_for([], cvmfs) == [f"{cvmfs}:{cvmfs}:ro,rslave"]
    wanted = [f"{cvmfs}/atlas.cern.ch:{cvmfs}/atlas.cern.ch:ro,rslave"]
    assert volumes_for(["atlas.cern.ch"], cvmfs) == wanted
    assert volumes_for([f"{cvmfs}/atlas.cern.ch"], cvmfs) == wanted
    with pytest.raises(InputError, match="is missing"):
        volumes_for(["none.cern.ch"], cvmfs)
    for bad in ("..", "a/b", "a:b", "-a", "a\n"):
        with pytest.raises(InputError, match="not the name"):
            volumes_for([bad], cvmfs)


def test_shipped_drop_in_for_mounts_is_what_set_up_writes() -> None:
    shipped = TOP / "packaging/containers.conf.d/99-podman-cvmfs-mounts.conf"
    assert shipped.read_bytes() == drop_in([CVMFS], None)
