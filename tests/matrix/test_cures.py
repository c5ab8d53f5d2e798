# SPDX-License-Identifier: Apache-2.0
"""doctor's cures on many kinds of storage.conf, on every podman whose root is present."""

from __future__ import annotations

from typing import Any

import pytest

from tests.matrix.bench import Bench
from tests.matrix.patient import Patient
from tests.support.conf_corpus import KINDS
from tests.support.required import required

_FEW = ("gone program and mask",)
_ALL = [name for name, kind in KINDS.items() if set(kind) == {"storage.conf"} and name not in _FEW]
#: More rounds than one file needs.
_ROUNDS = 8


def _cases() -> list[Any]:
    few = [pytest.param(kind, id=f"few-{kind}") for kind in _FEW]
    return few + [pytest.param(kind, id=f"all-{kind}") for kind in _ALL]


@pytest.mark.parametrize("kind", _cases())
def test_cures_cure(bench: Bench, tools: Any, kind: str) -> None:
    site, image = bench.site, bench.site.name("t/single:1")
    store = site.data / f"cures-{bench.version}"
    if not store.exists():
        site.sync(
            site.repository("root"), store, image, "--shared", user=None, version=bench.version
        )
    with bench.fresh() as podman:
        patient = Patient(podman, store, tools, image)
        place = podman.root / "tmp"
        if podman.machine.run(["test", "-w", "/dev/fuse"], check=False).returncode:
            required("/dev/fuse can't be opened")
        patient.sh(
            f"mkdir {place}/there {place}/home; ln -s /usr/bin/fuse-overlayfs {place}/link; "
            f"printf '#!/bin/sh\\nexec fuse-overlayfs \"$@\"\\n' > {place}/wrapper; "
            f"chmod 0755 {place}/wrapper"
        )
        text = KINDS[kind]["storage.conf"].decode("latin-1")
        for word, name in {
            "@fuse@": "/usr/bin/fuse-overlayfs",
            "@link@": f"{place}/link",
            "@site@": f"{place}/wrapper",
            "@there@": f"{place}/there",
            "@gone@": f"{place}/gone",
            "@home@": f"{place}/home",
            "/var/lib/containers/storage": str(podman.graphroot),
            "/run/containers/storage": "/run/storage",
        }.items():
            text = text.replace(word, name)
        patient.conf.write_bytes(text.encode("latin-1"))
        _cure(patient)


def _cure(patient: Patient) -> None:
    def works() -> bool:
        return bool(patient.podman.run("ps", check=False).returncode == 0)

    worked = works()
    found = patient.findings()
    programs = patient.conf.read_bytes().count(b"/wrapper")
    refused: set[str] = set()
    for _ in range(_ROUNDS):
        commands = [str(each["cure"]) for each in found.values() if each["is_command"]]
        cure = next((each for each in commands if each not in refused), None)
        if cure is None:
            break
        path = f"PATH={patient.tools}:$PATH; "
        done = patient.podman.tool("sh", "-c", path + cure, check=False)
        print(cure, done.stderr)
        if done.returncode:
            refused.add(cure)
        after = patient.findings()
        new = _errors(after) - _errors(found)
        assert not new, {name: after[name] for name in new}
        found = after
    else:
        pytest.fail(f"the cures lead in a circle: {sorted(found)}")
    print(found)
    assert patient.conf.read_bytes().count(b"/wrapper") == programs
    if not _errors(found):
        assert patient.works()
        return
    assert works() or not worked
    # Where podman still fails, doctor says what a person has to do.
    assert refused or not all(found[name]["is_command"] for name in _errors(found))


def _errors(found: dict[str, dict[str, Any]]) -> set[str]:
    return {name for name, each in found.items() if each["level"] == "error"}
