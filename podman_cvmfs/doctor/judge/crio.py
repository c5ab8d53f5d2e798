# SPDX-License-Identifier: Apache-2.0
"""Judges CRI-O, and what check and repair of containers/storage do to images. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from podman_cvmfs.doctor import cures
from podman_cvmfs.doctor.conditions import CONDITIONS
from podman_cvmfs.doctor.facts import Facts
from podman_cvmfs.doctor.finding import Finding
from podman_cvmfs.errors import printable
from podman_cvmfs.util.words import counted

#: podman with the command "system check".
_CHECKS = 5


def crio(facts: Facts) -> Iterator[Finding]:
    """CRI-O with our store."""
    found = facts.crio
    cure = f"{cures.setup(facts, '--crio')} && systemctl restart crio"
    if not found.is_there:
        return
    if found.problem:
        hint = found.hint or "see what CRI-O says: crio config"
        yield Finding(CONDITIONS["crio-conf-broken"], found.problem, hint, by_hand=True)
        return
    for path in found.missing:
        yield Finding(
            CONDITIONS["crio-store-missing"],
            f"{printable(path)} isn't there, and CRI-O's configuration names it",
            "take it out of storage_option in /etc/crio, or out of storage.conf",
            by_hand=True,
        )
    if not found.has_store:
        is_cut_off = found.shares and facts.is_configured and not facts.lacks_podman
        name = "crio-cut-off" if is_cut_off else "crio-not-configured"
        also = ", and podman, which has it, keeps its images in the same directory"
        yield Finding(
            CONDITIONS[name], "CRI-O doesn't have the store" + (also if is_cut_off else ""), cure
        )
        return
    if found.repairs:
        text = "CRI-O checks and repairs its storage after a crash (internal_repair)"
        yield Finding(CONDITIONS["crio-repairs"], text, cure)
    if found.unpinned:
        first = printable(found.unpinned[0])
        text = f"{counted(len(found.unpinned), 'name')}, such as {first}: not in pinned_images"
        yield Finding(CONDITIONS["crio-unpinned"], text, cure)
    if found.pause:
        yield Finding(
            CONDITIONS["crio-pause"],
            f"the store has the pause image {printable(found.pause)}",
            f"put {printable(found.pause)} into exclude of podman-cvmfs.toml, sync, and remove it "
            "with 'podman-cvmfs prune --grace 0'",
            by_hand=True,
        )


def repair(facts: Facts) -> Iterator[Finding]:
    """Images that podman's own repair would remove."""
    if facts.standing and (facts.engine.major or 0) >= _CHECKS:
        first = printable(facts.standing[0])
        text = f"{counted(len(facts.standing), 'image')}, such as {first}, on layers of the store"
        yield Finding(CONDITIONS["repair-removes"], text)
