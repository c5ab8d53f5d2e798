# SPDX-License-Identifier: Apache-2.0
"""Options of podman's own command, environment and services take the place of storage.conf's."""

from __future__ import annotations

import pytest

from tests.support.one_user import STORE
from tests.support.patient import Patient


@pytest.mark.parametrize("user", [False, True], ids=["root", "user"])
def test_what_takes_the_stores_away(patient: Patient, user: bool) -> None:
    """As ``podman.services`` and ``as_replaced`` state it. podman itself is asked."""
    keeps = ["--runroot=/tmp/r", f"--storage-opt=imagestore={STORE}"]
    if user:
        # With a file of one's own the session names no store.
        patient.do("podman-cvmfs -q setup --user", user=True)
        keeps = keeps[1:]
    for option in keeps:
        assert _finds(patient, option, "", user), option
    for option in ("--storage-opt=overlay.mountopt=nodev", "--storage-driver=overlay"):
        assert not _finds(patient, option, "", user), option
    other = "--root=/home/u/other"
    assert not _finds(patient, other, "", user)
    assert user or _finds(patient, f"{other} {keeps[-1]}", "", user)
    for value in ("", "overlay.mountopt=nodev"):
        variable = f"export STORAGE_OPTS={value};"
        assert not _finds(patient, "", variable, user)
        found = patient.doctor(user=user, before=variable)
        assert found.cure("options-replaced") == "unset STORAGE_OPTS"
        said = patient.run(f"{variable} podman-cvmfs why {patient.image}", user=user)
        assert said.returncode == 1 and "unset STORAGE_OPTS" in said.stdout


def _finds(patient: Patient, option: str, before: str, user: bool) -> bool:
    done = patient.run(f"{before} podman {option} image exists {patient.image}", user=user)
    return done.returncode == 0


def test_a_service_with_options_of_its_own(patient: Patient) -> None:
    unit = patient.path("/etc/systemd/system/app.service")
    unit.parent.mkdir(parents=True, exist_ok=True)
    command = f"podman --storage-opt=overlay.mountopt=nodev image exists {patient.image}"
    unit.write_text(f"[Service]\nExecStart={command}\n")
    assert patient.run(command).returncode == 1
    told = patient.doctor().findings["service-without-store"]
    assert "app.service" in told["found"] and told["level"] == "warning"
    assert "app.service" in patient.do(f"podman-cvmfs why {patient.image}")
    option = f"--storage-opt=imagestore={STORE}"
    assert option in told["cure"]
    command = command.replace("podman ", f"podman {option} ", 1)
    unit.write_text(f"[Service]\nExecStart={command}\n")
    assert patient.run(command).returncode == 0
    assert "service-without-store" not in patient.doctor().findings
