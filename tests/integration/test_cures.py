# SPDX-License-Identifier: Apache-2.0
"""doctor's cures on many kinds of configuration, with real podman. What doctor prints is done; then
doctor finds no new error, and podman works at least as well as before."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.conf_corpus import KINDS, Kind
from tests.support.patient import Opinion, Patient

_FEW = ("mask and program", "no directories", "no such driver")
_WORDS = {
    b"@fuse@": b"/usr/bin/fuse-overlayfs",
    b"@link@": b"/home/link",
    b"@site@": b"/home/wrapper",
    b"@there@": b"/home/there",
    b"@gone@": b"/home/gone",
    b"@home@": b"/home/h",
}
#: Root's podman refuses it by itself.
_REFUSED = "kept IDs"
#: More rounds than one file needs.
_ROUNDS = 8


@pytest.fixture
def bed(patient: Patient) -> Patient:
    """A machine with all that the kinds name, on which podman has never run."""
    patient.do(
        "mkdir /home/there /home/h; ln -s /usr/bin/fuse-overlayfs /home/link; "
        "mknod -m 0666 /home/fuse c 10 229; mount --bind /home/fuse /dev/fuse; "
        "echo '#!/bin/sh' > /home/wrapper; echo 'exec fuse-overlayfs \"$@\"' >> /home/wrapper; "
        "chmod 0755 /home/wrapper; rm /etc/containers/storage.conf"
    )
    return patient


def _lay(bed: Patient, kind: Kind) -> None:
    for name, data in kind.items():
        path = bed.path("/etc/containers") / name
        path.parent.mkdir(exist_ok=True)
        for word, text in _WORDS.items():
            data = data.replace(word, text)
        path.write_bytes(data)


def _cases() -> list[Any]:
    few = [pytest.param(kind, id=f"few-{kind}") for kind in _FEW]
    return few + [pytest.param(kind, id=f"all-{kind}") for kind in KINDS if kind not in _FEW]


@pytest.mark.parametrize("kind", _cases())
def test_cures_cure(bed: Patient, kind: str) -> None:
    _lay(bed, KINDS[kind])
    worked = bed.run("podman ps").returncode == 0
    found, refused = bed.doctor(), set[str]()
    programs = _own_programs(bed)
    for _ in range(_ROUNDS):
        cure = next((each for each in _cures(found) if each not in refused), None)
        if cure is None:
            break
        done = bed.run(cure)
        print(cure, done.stderr)
        if done.returncode:
            refused.add(cure)
        after = bed.doctor()
        new = set(after.errors) - set(found.errors)
        assert not new, {name: after.findings[name] for name in new}
        found = after
    else:
        pytest.fail(f"the cures lead in a circle: {found}")
    print(found.findings)
    assert _own_programs(bed) == programs
    is_well = not found.errors
    if kind == _REFUSED:
        return
    assert bed.works() if is_well else (not worked or bed.run("podman ps").returncode == 0)
    # Where podman still fails, doctor says what a person has to do.
    assert (
        is_well or refused or any(not found.findings[name]["is_command"] for name in found.errors)
    )


def _cures(found: Opinion) -> list[str]:
    return [each["cure"] for each in found.findings.values() if each["is_command"]]


def _own_programs(bed: Patient) -> int:
    files = bed.path("/etc/containers").rglob("*.conf")
    return sum(path.read_bytes().count(b'mount_program = "/home/wrapper"') for path in files)
