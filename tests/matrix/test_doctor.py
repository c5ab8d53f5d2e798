# SPDX-License-Identifier: Apache-2.0
"""``doctor`` on every podman whose root is present, as root and as an ordinary user: podman fails,
doctor names why, and the cure it prints makes podman work."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.matrix.bench import Bench
from tests.matrix.guest import Guest
from tests.matrix.host import LONELY, USER, User
from tests.matrix.patient import Patient


@pytest.fixture(params=[None, USER], ids=["root", "user"])
def patient(request: pytest.FixtureRequest, bench: Bench, tools: Path) -> Iterator[Patient]:
    """A healthy one: also the user, whose files those of the images are."""
    user: User | None = request.param
    site = bench.site
    repository = site.repository("root" if user is None else "user")
    store = site.data / f"doctor-{bench.version}-{'root' if user is None else 'user'}"
    image = site.name("t/single:1")
    if not store.exists():
        site.sync(repository, store, image, "--shared", user=None, version=bench.version)
    with bench.fresh(stores=[store], user=user) as podman:
        patient = Patient(podman, store, tools, image, repository)
        assert patient.works()
        yield patient


def test_cures(patient: Patient) -> None:
    """Bad settings, one after the other."""
    healthy = patient.conf.read_text()
    theirs = patient.podman.root / "tmp/theirs"
    spoilt = {
        "store-missing": healthy.replace(f'{patient.store}"', f'{patient.store}", "{theirs}"'),
        "mount-program-missing": healthy + 'mount_program = "/none/fuse-overlayfs"\n',
        "force-mask": healthy + 'force_mask = "0755"\n',
    }
    if patient.podman.user is None and patient.podman.version.startswith("4."):
        lines = healthy.splitlines(keepends=True)
        lacking = "".join(line for line in lines if not line.startswith(("runroot", "graphroot")))
        spoilt["storage-conf-incomplete"] = lacking
    if not patient.podman.version.startswith("4."):  # that takes no notice
        spoilt["composefs-unusable"] = healthy + 'use_composefs = "true"\n'
    for condition, text in spoilt.items():
        patient.conf.write_text(text)
        assert patient.cured_of(condition)
        patient.conf.write_text(healthy)


def test_own_store_comes_before_the_system_s(bench: Bench, tools: Path) -> None:
    """With no variable that names a file."""
    site = bench.site
    store, image = site.data / f"doctor-{bench.version}-root", site.name("t/single:1")
    if not store.exists():
        site.sync(
            site.repository("root"), store, image, "--shared", user=None, version=bench.version
        )
    with bench.fresh(user=USER) as podman:
        here = f"unset CONTAINERS_STORAGE_CONF; PATH={tools}:$PATH; "
        set_up = ["sh", "-c", f"{here} podman-cvmfs setup --users --store {store}"]
        podman.machine.run_as(None, set_up, env=podman.env)
        login = f"{here} for f in /etc/profile.d/podman-cvmfs.sh; do [ ! -e $f ] || . $f; done; "
        run = f"podman run --rm --pull=never {image}"
        assert podman.tool("sh", "-c", f"{login} podman image exists {image}")
        assert podman.tool("sh", "-c", f"{login} {run}", check=False).stdout == ""
        command = "podman-cvmfs doctor --format json --system"
        said = podman.tool("sh", "-c", f"{login} {command} --store {store}", check=False)
        found = {each["condition"]: each for each in json.loads(said.stdout)["findings"]}
        podman.tool("sh", "-c", f"{login} {found['owner-unmapped']['cure']}")
        assert podman.tool("sh", "-c", f"{login} {run}").stdout == "sh works\n"


def test_files_of_root_and_an_ordinary_user(bench: Bench, tools: Path) -> None:
    site = bench.site
    store, image = site.data / f"doctor-{bench.version}-root", site.name("t/single:1")
    if not store.exists():
        site.sync(
            site.repository("root"), store, image, "--shared", user=None, version=bench.version
        )
    with bench.fresh(stores=[store], user=USER) as podman:
        assert Patient(podman, store, tools, image).cured_of("owner-unmapped")


def test_user_without_subordinate_ids(bench: Bench, tools: Path) -> None:
    """Root runs the cure."""
    with bench.fresh(user=LONELY) as podman:
        patient = Patient(podman, podman.root / "none", tools, "")
        assert len(_id_map(podman)) == 1
        found = patient.findings()["id-maps-missing"]
        podman.machine.run_as(None, ["sh", "-c", found["cure"]], env=podman.env)
        podman.run("system", "migrate")
        assert len(_id_map(podman)) == 2
        assert "id-maps-missing" not in patient.findings()


def _id_map(podman: Guest) -> list[str]:
    return podman.unshared("cat", "/proc/self/uid_map").stdout.splitlines()
