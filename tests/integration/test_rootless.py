# SPDX-License-Identifier: Apache-2.0
"""Rootless podman of this machine, in the cases that users meet, compared with its own pulls.

The ordinary user exists in the tests' mount namespace alone. The rest is in ``tests.matrix``.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.matrix.bench import Bench
from tests.matrix.cells import Cell
from tests.matrix.checks import SPEAKING
from tests.matrix.host import LONELY, USER
from tests.matrix.run import run_cell, store_of
from tests.matrix.site import Site, give
from tests.support.osg import convert

FOREIGN = Cell(rootless=True, fuse=False, view="flat", owner="foreign", own=True)


@pytest.fixture(scope="module")
def bench(matrix_site: Site) -> Bench:
    """This machine's podman."""
    return Bench(matrix_site, Path("/"))


@pytest.mark.parametrize(
    "cell",
    [
        FOREIGN,
        Cell(rootless=True, fuse=False, view="layers", owner="foreign", own=True),
        Cell(rootless=True, fuse=False, view="layers", owner="user"),
        Cell(rootless=True, fuse=True, view="flat", owner="foreign"),
        Cell(True, True, "layers", "foreign", own=True, layout="fuse-overlayfs"),
    ],
    ids=lambda cell: cell.name.replace(" ", "-"),
)
def test_containers_see_what_a_pull_gives(bench: Bench, cell: Cell) -> None:
    outcome = run_cell(bench, cell)
    assert outcome.problems == []


def test_a_user_without_subordinate_ids(bench: Bench) -> None:
    """Only one ID is there: root's. podman starts containers all the same."""
    name = bench.site.name("t/single:1")
    with bench.fresh(stores=[store_of(bench, FOREIGN)], user=LONELY) as podman:
        refused = podman.run("run", "--rm", "--pull=never", name, check=False)
    with bench.fresh(stores=[_store_of_lonely(bench.site)], user=LONELY) as podman:
        done = podman.run("run", "--rm", "--pull=never", name)
    assert done.stdout == "sh works\n"
    assert "sh works" not in refused.stdout


def _store_of_lonely(site: Site) -> Path:
    store = site.data / "lonely/store"
    store.parent.mkdir()
    site.sync(site.repository("foreign"), store, user=LONELY, version="4.3.1")
    return store


def test_a_user_s_work_directory_and_home_can_be_written(bench: Bench) -> None:
    """The image's USER has a working directory and a home that belong to a stranger."""
    script = "touch f ~/f /data/f && pwd && id -u"
    name = bench.site.name("t/app:2")
    with bench.fresh(stores=[store_of(bench, FOREIGN)], user=USER) as podman:
        done = podman.run("run", "--rm", "--pull=never", name, script)
    assert done.stdout == "/opt/app\n1234\n"


def test_a_project_directory(bench: Bench) -> None:
    """The user's own files, but of a group that the user's namespace doesn't map."""
    site = bench.site
    repository, store = site.data / "project", site.data / "project-store/store"
    subprocess.run(["cp", "-a", site.repository("user"), repository], check=True)
    give(repository, USER.uid, 4711)
    store.parent.mkdir()
    said = site.sync(repository, store, user=USER, version=bench.version)
    assert "belong to group 4711" in said and "podman pull" in said
    with bench.fresh(stores=[store], user=USER) as podman:
        for image in SPEAKING:
            name = bench.site.name(image)
            for options in ((), ("--user=55",)):
                done = podman.run("run", "--rm", "--pull=never", *options, name)
                assert done.stdout == site.images[image].image.prints


def test_nothing_is_copied(bench: Bench) -> None:
    """A container costs its own few files, not the image's."""
    name = bench.site.name("t/single:1")
    with bench.fresh(stores=[store_of(bench, FOREIGN)], user=USER) as podman:
        podman.run("run", "--rm", "--pull=never", name)
        before = podman.stored_bytes()
        podman.run("run", "--name=kept", "--pull=never", name)
        assert podman.stored_bytes() - before < 200_000


def test_a_repository_of_merged_roots_alone(bench: Bench) -> None:
    """As OSG's, with files of a stranger's, and nobody to ask for a config."""
    site = bench.site
    repository, store = site.data / "osg-foreign", site.data / "osg/store"
    convert(site.repository("foreign"), repository)
    store.parent.mkdir()
    site.sync(repository, store, user=USER, version=bench.version)
    with bench.fresh(stores=[store], user=USER) as podman:
        for image in SPEAKING:
            done = podman.run("run", "--rm", "--pull=never", f"docker.io/{image}")
            assert done.stdout == site.images[image].image.prints
