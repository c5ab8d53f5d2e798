# SPDX-License-Identifier: Apache-2.0
"""The mount points that containers.conf gives every container."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from podman_cvmfs.podman.mount_points import mount_points
from podman_cvmfs.podman.storage_conf.places import Places
from podman_cvmfs.settings.policy import Policy


@pytest.fixture
def places(tmp_path: Path) -> Places:
    for name in ("vendor", "admin/containers.conf.d", "user"):
        (tmp_path / name).mkdir(parents=True)
    vendor, admin, user = (str(tmp_path / name) for name in ("vendor", "admin", "user"))
    return Places(0, vendor, admin, user, str(tmp_path / "graph"))


def test_none_where_no_file_sets_any(places: Places) -> None:
    assert mount_points(places) == ()
    Path(places.vendor, "containers.conf").write_text("[containers]\n# volumes = ['/a:/b']\n")
    assert mount_points(places) == ()


def test_all_files_count(places: Places) -> None:
    """Whatever podman's version; a destination that every skeleton has is left out."""
    Path(places.vendor, "containers.conf").write_text(
        "[containers]\nvolumes = ['/cvmfs:/cvmfs:rslave', '/eos/user:/eos/user', '/here']\n"
    )
    Path(places.admin, "containers.conf.d/1.conf").write_text(
        "[containers]\nvolumes = ['/a:/data/in', {append=true}]\n"
        "mounts = ['type=bind,source=/a,dst=/b c/d', 'type=tmpfs,destination=/scratch']\n"
    )
    assert mount_points(places) == ("/b c/d", "/data/in", "/eos/user", "/here", "/scratch")


@pytest.mark.parametrize(
    "text",
    ["volumes = [", "[containers]\nvolumes = 5", "[containers]\nvolumes = [5, ':', 'a:b', '']"],
)
def test_what_makes_no_sense_names_none(places: Places, text: str) -> None:
    Path(places.admin, "containers.conf").write_text(text)
    assert mount_points(places) == ()


def test_the_file_that_the_environment_names_is_read_alone(places: Places, tmp_path: Path) -> None:
    Path(places.admin, "containers.conf").write_text("[containers]\nvolumes = ['/a:/b']\n")
    (tmp_path / "own").write_text("[containers]\nvolumes = ['/a:/c']\n")
    assert mount_points(replace(places, containers_conf=str(tmp_path / "own"))) == ("/c",)


def test_a_policy_remembers_them() -> None:
    policy = Policy(mounts=("/b c/d", "/a,%/e"))
    assert " " not in str(policy).partition("kernel ")[2]
    found = Policy.parse(str(policy))
    assert found is not None and set(found.mounts) == set(policy.mounts)
    assert Policy.parse(str(Policy(shared=True))) == Policy(shared=True)
    assert Policy.parse(str(Policy())) == Policy()
