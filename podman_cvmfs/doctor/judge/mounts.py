# SPDX-License-Identifier: Apache-2.0
"""Judges the program that mounts the layers, and the options that go with it. Pure.

A program that isn't fuse-overlayfs is the site's own, and ``force_mask`` needs a program: no cure
takes either away.
"""

from __future__ import annotations

from collections.abc import Iterator

from podman_cvmfs.doctor import cures, edits
from podman_cvmfs.doctor.conditions import CONDITIONS
from podman_cvmfs.doctor.facts import Facts
from podman_cvmfs.doctor.finding import Finding
from podman_cvmfs.doctor.mounting import fuse_options, is_given, mount_program, needs_fuse
from podman_cvmfs.errors import printable

#: Kernel overlayfs for ordinary users: Linux 5.13 (with SELinux; without, 5.11).
_ROOTLESS_OVERLAY = (5, 13)


def mounting(facts: Facts) -> Iterator[Finding]:
    """The program that mounts the layers, and options that don't work with a read-only store."""
    conf = facts.configuration
    options = conf.effective.options
    if conf.problem:
        return
    program = mount_program(facts)
    if program and program in conf.missing_programs:
        yield _no_program(facts, program)
    elif program:
        yield from _fuse(facts, program)
    if options.get("use_composefs") == "true" and (facts.engine.major or 5) >= 5:
        missing = [each for each in conf.missing_programs if each != program]
        found = "use_composefs is set"
        if not facts.is_root:
            found += ", which podman refuses for ordinary users"
        elif missing:
            found += f", and there is no {printable(missing[0])}"
        name = "composefs-unusable" if missing or not facts.is_root else "composefs"
        yield Finding(CONDITIONS[name], found, *_unset(facts, "use_composefs"))
    unfit = fuse_options(facts)
    if unfit and not program:
        path = printable(conf.set_in.get("mountopt") or "STORAGE_OPTS")
        found = f"mountopt has {printable(','.join(unfit))}, which only fuse-overlayfs knows"
        cure = f"take {printable(','.join(unfit))} out of mountopt in {path}"
        yield Finding(CONDITIONS["mount-options"], found, cure, by_hand=True)
    if options.get("force_mask") and not program:
        found = "force_mask is set, but the kernel mounts layers"
        yield Finding(CONDITIONS["force-mask"], found, *_unset(facts, "force_mask"))


def _no_program(facts: Facts, program: str) -> Finding:
    conf = facts.configuration
    name = printable(program)
    finding = CONDITIONS["mount-program-missing"]
    found = f"mount_program is {name}, which isn't there or can't be run"
    if is_given(facts) or needs_fuse(facts):
        file = printable(conf.set_in.get("mount_program") or "STORAGE_OPTS")
        cure = f"install {name}, or correct mount_program in {file}"
        return Finding(finding, found, cure, by_hand=True)
    return Finding(finding, found, cures.use_kernel(facts))


def _fuse(facts: Facts, program: str) -> Iterator[Finding]:
    if not facts.configuration.has_fuse:
        yield Finding(
            CONDITIONS["fuse-device-closed"],
            f"podman mounts with {printable(program)}, but /dev/fuse can't be opened",
            *cures.open_fuse(facts),
        )
    fit = facts.is_root or (facts.is_own and facts.user.kernel >= _ROOTLESS_OVERLAY)
    is_chosen = bool(facts.configuration.effective.options.get("mount_program"))
    if fit and is_chosen and not (is_given(facts) or needs_fuse(facts)):
        yield Finding(
            CONDITIONS["fuse-overlayfs-slow"],
            f"podman mounts with {printable(program)} although the kernel could mount",
            cures.use_kernel(facts),
        )


def _unset(facts: Facts, option: str) -> tuple[str, bool]:
    """How an option stops counting, and whether that is to be done by hand."""
    conf = facts.configuration
    path = conf.set_in.get(option)
    if not path:
        return "unset STORAGE_OPTS", False
    if option in conf.fixed:
        return f"take {option} out of {printable(path)}", True
    return edits.comment_out(option, path), False
