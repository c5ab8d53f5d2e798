# SPDX-License-Identifier: Apache-2.0
"""Prints the report of a sync that had something to do, and chooses the final error."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence

import click

from podman_cvmfs.errors import (
    OtherPlatformError,
    PartialError,
    PodmanCvmfsError,
    RegistryError,
    printable,
)
from podman_cvmfs.settings.files import Settings
from podman_cvmfs.sync.report import SyncReport
from podman_cvmfs.util.words import counted

log = logging.getLogger(__name__)

#: When a repository is rebuilt, hundreds of images may leave or fail at once. So many lines are
#: printed for names that have left, and for each other kind.
_MOST_NAMES, _MOST_LINES = 10, 50


def show(report: SyncReport, store: str, warnings: Sequence[str], output: str) -> None:
    """Print the ``report`` as text; for the ``output`` "json" also as JSON."""
    if output == "json":
        click.echo(json.dumps(report.as_data(store), indent=2, sort_keys=True))
    _list(logging.INFO, report.notices if report.changed else (), "notices", _MOST_LINES)
    for name in report.added:
        log.debug("added %s", name)
    for name in report.moved:
        log.debug("moved %s to another image", name)
    removed = [f"removed {printable(name)}" for name in report.removed]
    _list(logging.INFO, removed, "names removed", _MOST_NAMES)
    _list(logging.WARNING, warnings, "warnings", _MOST_LINES)
    _list(logging.WARNING, failures(report), "failures", _MOST_LINES)
    unfit = [f"left out: {error.message}" for error in report.left_out.values()]
    _list(logging.INFO, unfit, "names left out", _MOST_LINES)
    made_up = f", {report.synthesised} with a synthesised config" if report.synthesised else ""
    left_out = report.left_out.values()
    others = sum(isinstance(each, OtherPlatformError) for each in left_out)
    other = f", {others} of another architecture left out" if others else ""
    refused = len(left_out) - others
    other += f", {refused} refused by policy.json left out" if refused else ""
    log.info(
        "%s: %s%s%s; %s added, %d moved, %d removed, %d failed%s",
        store,
        counted(report.images, "image"),
        made_up,
        other,
        counted(len(report.added), "name"),
        len(report.moved),
        len(report.removed),
        len(report.failed),
        "" if report.changed else "; nothing changed",
    )


def _list(level: int, lines: Sequence[str], what: str, most: int) -> None:
    """Print ``lines``, ``most`` of them at most, and how many more of ``what`` there are."""
    shown = lines if len(lines) <= most else lines[: most - 1]
    for line in shown:
        log.log(level, "%s", line)
    for line in lines[len(shown) :]:
        log.debug("%s", line)
    if len(shown) < len(lines):
        more = len(lines) - len(shown)
        log.log(level, "%d more %s", more, what)


def _made_up(number: int) -> str:
    return f"{counted(number, 'name')} with a made-up config or manifest"


def failures(report: SyncReport) -> list[str]:
    """A line for each failure. A registry's silence comes first: it may concern many names."""
    lines = []
    for host, names in report.waiting.items():
        lines.append(f"{_made_up(len(names))}: {report.silent[host]}")
    for name, error in report.failed.items():
        text = error.line
        lines.append(f"failed {text if name in text else f'{printable(name)}: {text}'}")
    return lines


def error_of(
    settings: Settings, images: Sequence[str], report: SyncReport
) -> PodmanCvmfsError | None:
    """The error to end the command with, None if nothing failed. If nothing was done, its exit code
    is that of the first failure."""
    if report.failed:
        first = next(iter(report.failed.values()))
        done = set(report.found.values()) - report.failed.keys() if images else report.images
        if not done and len(report.failed) == 1:
            return first
        down = sum(each in settings.repositories for each in report.failed)
        counts = []
        if down < len(report.failed):
            images_failed = counted(len(report.failed) - down, "image")
            counts.append(f"{images_failed} could not be done")
        if down:
            repositories = counted(down, "repository", "repositories")
            counts.append(f"{repositories} could not be read")
        error = PartialError(", ".join(counts))
        if not done or down == len(settings.repositories):
            error.exit_code = first.exit_code
        return error
    if report.waiting:
        return RegistryError(
            f"{_made_up(sum(map(len, report.waiting.values())))}, "
            f"since {', '.join(map(printable, report.waiting))} didn't answer",
            "sync again when the registry answers; if it never will, sync with --offline",
        )
    return None
