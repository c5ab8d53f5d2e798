# SPDX-License-Identifier: Apache-2.0
"""doctor's cures on all kinds of configuration: each is applied as it is printed, and the next look
finds no new error, and the condition gone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from podman_cvmfs.doctor.finding import Finding, Level
from podman_cvmfs.doctor.look.engine import VARIABLES
from podman_cvmfs.podman.storage_conf.generation import Generation
from tests.support.conf_corpus import KINDS
from tests.support.sickbed import RefusedError, Sickbed, State
from tests.support.storage_confs import NEW, OLD

_MIDDLE = Generation("5.4.2", drop_ins=False, appends=True)
_FUSE = "fuse-overlayfs"
STATES = {
    "well": State(),
    "not named": State(named=False),
    "laid out for fuse": State(laid_out=_FUSE),
    "laid out for the kernel": State(laid_out="kernel"),
    "wants fuse": State(laid_out="kernel", wanted=_FUSE),
    "wants fuse, no device": State(laid_out=_FUSE, wanted=_FUSE, has_fuse=False),
    "namespace": State(userns="keep-id", laid_out="kernel"),
    "strangers": State(strangers=True, laid_out="kernel"),
    "strangers, no device": State(strangers=True, has_fuse=False),
    "no device": State(has_fuse=False),
    "no store": State(has_store=False),
    "no options": State(storage_opts=""),
    "options of the session": State(storage_opts="overlay.imagestore=@gone@"),
    "options, not named": State(named=False, storage_opts="overlay.mount_program=@gone@"),
}
_ALL = list(itertools.product(STATES, (OLD, _MIDDLE, NEW), (0, 1000)))
#: More rounds than there are conditions that one file can have.
_ROUNDS = 12


def _cases() -> Iterator[object]:
    """Each kind in a few of the situations, and in all."""
    for number, kind in enumerate(KINDS):
        # All situations have their turn.
        few = [_ALL[(number * 2 + step) % len(_ALL)] for step in (0, 1)]
        yield pytest.param(kind, few, id=f"few-{kind}")
        yield pytest.param(kind, _ALL, id=f"all-{kind}")


@pytest.mark.parametrize(("kind", "situations"), list(_cases()))
def test_cures_cure(
    kind: str,
    situations: list[tuple[str, Generation, int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in (*VARIABLES, "PODMAN_USERNS"):
        monkeypatch.delenv(name, raising=False)
    for number, (state, generation, uid) in enumerate(situations):
        print(kind, state, generation.version, uid)  # pytest shows it if the test fails
        try:
            bed = Sickbed(tmp_path / str(number), KINDS[kind], generation, uid, STATES[state])
        except RefusedError:
            continue  # no set-up has ever been
        _cure(bed)


def _cure(bed: Sickbed) -> None:
    """Apply one cure after the other until none is left."""
    programs = _own_programs(bed)
    refused: set[str] = set()
    for _ in range(_ROUNDS):
        found = bed.findings()
        chosen = next(
            (each for each in found if _is_command(each) and each.cure not in refused), None
        )
        if chosen is None:
            return
        print(chosen.condition.name, chosen.cure)
        # Without a variable, the files show what they are.
        hidden = _errors(bed.without_variable().findings()) if "unset" in chosen.cure else set()
        try:
            bed.apply(chosen.cure)
        except RefusedError as err:
            print("refused:", err)
            refused.add(chosen.cure)
        after = bed.findings()
        new = _errors(after) - _errors(found) - hidden
        assert not new, [each for each in after if each.condition.name in new]
        assert _own_programs(bed) == programs
        assert chosen not in after or chosen.cure in refused
    pytest.fail(f"the cures lead in a circle: {[each.condition.name for each in bed.findings()]}")


def _is_command(finding: Finding) -> bool:
    return bool(finding.cure) and not finding.by_hand


def _errors(findings: list[Finding]) -> set[str]:
    return {each.condition.name for each in findings if each.condition.level is Level.ERROR}


def _own_programs(bed: Sickbed) -> int:
    """How often the files name a program of the site's own."""
    return sum(
        path.read_bytes().count(b'mount_program = "' + name.encode())
        for path in bed.root.rglob("*.conf")
        for name in (f"{bed.root}/bin/wrapper", f"{bed.root}/gone/fuse-1.13")
    )
