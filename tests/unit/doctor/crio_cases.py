# SPDX-License-Identifier: Apache-2.0
"""Conditions of CRI-O, and of podman's own repair."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from podman_cvmfs.doctor.facts import Crio, Engine, Facts
from tests.support.doctor_facts import ROOT, SETUP, Case

CURE = f"{SETUP} --crio && systemctl restart crio"


def crio(facts: Facts = ROOT, **changes: Any) -> Facts:
    return replace(facts, crio=Crio(is_there=True, **changes))


CRIO_CASES: list[Case] = [
    ("crio-conf-broken", crio(problem="/etc/crio/x:1: bad", hint="mend"), "x:1: bad", "# mend"),
    ("crio-conf-broken", crio(problem="no answer"), "no answer", "# see what CRI-O says"),
    ("crio-store-missing", crio(missing=("/srv/x",)), "/srv/x isn't there", "# take it out"),
    ("crio-cut-off", crio(has_store=False, shares=True), "the same directory", CURE),
    ("crio-not-configured", crio(has_store=False), "doesn't have the store", CURE),
    (
        "crio-not-configured",
        crio(replace(ROOT, is_configured=False, engine=Engine(is_missing=True)), has_store=False),
        "doesn't have the store",
        CURE,
    ),
    ("crio-repairs", crio(repairs=True), "internal_repair", CURE),
    ("crio-unpinned", crio(unpinned=("r/a:1", "r/b:1")), "2 names, such as r/a:1", CURE),
    ("crio-pause", crio(pause="r/pause:1"), "r/pause:1", "# put r/pause:1 into exclude"),
    (
        "repair-removes",
        replace(ROOT, engine=Engine("5.4.2"), standing=("r/x:1",)),
        "1 image, such as r/x:1",
        "",
    ),
]
