# SPDX-License-Identifier: Apache-2.0
"""Puts all judges together, the causes before what follows from them. Pure."""

from __future__ import annotations

from podman_cvmfs.doctor import judge_engine, judge_machine, judge_store
from podman_cvmfs.doctor.facts import Facts
from podman_cvmfs.doctor.finding import Finding, worst_first

_JUDGES = (
    judge_store.session,
    judge_engine.configuration,
    judge_engine.mounting,
    judge_store.places,
    judge_engine.user,
    judge_machine.repositories,
    judge_machine.clients,
    judge_store.contents,
    judge_store.layout,
    judge_machine.cut_off,
    judge_machine.registries,
    judge_machine.disks,
    judge_engine.native,
    judge_machine.units,
    judge_engine.engine,
)


def judge(facts: Facts) -> list[Finding]:
    """All that is to be said of a machine, the worst first."""
    return worst_first(finding for judges in _JUDGES for finding in judges(facts))
