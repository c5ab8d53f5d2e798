# SPDX-License-Identifier: Apache-2.0
"""Runs all judges, causes before their consequences. Pure."""

from __future__ import annotations

from podman_cvmfs.doctor.facts import Facts
from podman_cvmfs.doctor.finding import Finding, worst_first
from podman_cvmfs.doctor.judge import crio, engine, exact, machine, mounts, pulls, store

_JUDGES = (
    store.session,
    engine.configuration,
    mounts.mounting,
    store.places,
    engine.services,
    engine.user,
    engine.automatic,
    machine.repositories,
    machine.clients,
    machine.targets,
    machine.stuck,
    store.contents,
    store.layout,
    exact.exact,
    machine.cut_off,
    pulls.registries,
    pulls.policy,
    pulls.blob_sources,
    machine.disks,
    engine.native,
    machine.units,
    crio.crio,
    engine.engine,
    crio.repair,
)


def judge(facts: Facts) -> list[Finding]:
    """All findings about a machine, the worst first."""
    return worst_first(finding for judges in _JUDGES for finding in judges(facts))
