# SPDX-License-Identifier: Apache-2.0
"""``podman-cvmfs sync``.

What a sync with nothing to do needs is imported first; the rest when there is something to do.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from podman_cvmfs.cli.options import FILE, settings_given, store_options, text_or_json
from podman_cvmfs.errors import (
    PartialError,
    PodmanCvmfsError,
    RegistryError,
    printable,
)
from podman_cvmfs.settings.files import OnOutage, Settings
from podman_cvmfs.settings.sharing import is_open
from podman_cvmfs.sync.stamp import Stamp, is_current, last_report, stamp_path
from podman_cvmfs.util.foreign_file import read_bounded

if TYPE_CHECKING:
    from podman_cvmfs.sync.report import SyncReport

log = logging.getLogger(__name__)

#: How often a registry that hasn't had an image's config is asked again, in seconds.
_ASK_AGAIN = 24 * 3600
_FOR_EVER = 1 << 62
#: No wish list is longer, in bytes.
_MAX_LIST = 1 << 24


@click.command("sync")
@click.argument("images", metavar="[IMAGE]...", nargs=-1)
@store_options
@click.option("--offline", is_flag=True, default=None, help="Ask no registry.")
@click.option(
    "--on-outage",
    type=click.Choice([each.value for each in OnOutage]),
    help="Keep the images of a repository that can't be read, or hide them until it can, so that "
    "podman pulls them.",
)
@click.option("--watch", is_flag=True, help="Go on, and follow the repository's changes.")
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 3600),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="With --watch: how often to look for a change.",
)
@click.option(
    "--notification-file",
    type=FILE,
    help="With --watch: DUCC's notification file; look at once when something is added to it.",
)
@text_or_json
def command(
    images: tuple[str, ...],
    repository: tuple[str, ...],
    store: str | None,
    cache: str | None,
    view: str | None,
    reuse: str | None,
    overlay: str | None,
    shared: bool | None,
    arch: str | None,
    offline: bool | None,
    on_outage: str | None,
    watch: bool,
    interval: float,
    notification_file: str | None,
    output: str,
) -> None:
    """Generate the additional image store: for all images of the repository (or those that wish
    lists and settings select), which then is all the store holds, or to add the IMAGEs named.

    podman finds the images once the store is among the additionalimagestores in storage.conf
    (see podman-cvmfs setup).
    """
    given = click.get_current_context().get_parameter_source
    if not watch and given("interval") is ParameterSource.COMMANDLINE:
        raise click.UsageError("--interval is for --watch")
    if not watch and notification_file is not None:
        raise click.UsageError("--notification-file is for --watch")
    settings = settings_given(
        repository,
        store=store,
        cache=cache,
        view=view,
        reuse=reuse,
        overlay=overlay,
        shared=shared,
        arch=arch,
        offline=offline,
        on_outage=on_outage,
    )
    if watch:
        if output == "json":
            raise click.UsageError("--watch makes no report for --format json")
        _follow(settings, images, interval, notification_file)
    else:
        _run(settings, images, output)


def _follow(
    settings: Settings, images: tuple[str, ...], interval: float, notification_file: str | None
) -> None:
    """Sync again and again; a failure is reported once, and the next attempt made in time."""
    from podman_cvmfs.sync.watch import follow

    told: list[str] = []
    follow(lambda: _run(settings, images, "quiet", told), interval, notification_file)


def _about_users(settings: Settings) -> list[str]:
    if settings.shared is None:
        return []
    from podman_cvmfs.sync.about_sharing import remarks

    return remarks(settings)


def _run(
    settings: Settings, images: tuple[str, ...], output: str, told: list[str] | None = None
) -> None:
    """Sync once, and report. ``told`` are the warnings of the last time, which this one's replace:
    where they are the same and nothing has changed, nothing is printed."""
    now = int(time.time())
    about_users = _about_users(settings)
    wishes = _wishes_text(settings)
    as_wished = is_open(settings.store) == settings.policy.shared
    if (
        not images
        and as_wished
        and all(
            is_current(settings.cache, settings.store, root, wishes, now)
            for root in settings.repositories
        )
    ):
        if output == "json":
            last = last_report(settings.cache, settings.store, settings.repositories[0])
            unchanged = {**last, "store": settings.store, "changed": False}
            click.echo(json.dumps(unchanged, indent=2, sort_keys=True))
        elif output == "text":
            log.info("%s: nothing has changed", settings.store)
        if output != "quiet":
            for warning in about_users:
                log.warning("%s", warning)
        return
    stamps = [Stamp(root) for root in settings.repositories]
    report, warnings = _sync(settings, images)
    if not (images or report.failed or report.waiting):
        warnings += _keep_stamps(stamps, settings, wishes, report, now)
    warnings += [*about_users, *report.warnings, *_failures(report)]
    if told is None or report.changed or warnings != told:
        _print(settings, report, warnings, output)
    if told is not None:
        told[:] = warnings
    error = _error(settings, images, report)
    if error is not None:
        raise error


def _sync(settings: Settings, images: tuple[str, ...]) -> tuple[SyncReport, list[str]]:
    """What the sync did, and what is to be said of wishes."""
    from podman_cvmfs.sync.from_settings import wishes_of
    from podman_cvmfs.sync.run import sync

    wishes, warnings = wishes_of(settings, images)
    report = sync(wishes)
    if not images:
        warnings += [
            f"wished for but not in the repository: {printable(str(spec))}"
            for spec in wishes.selection.unmatched()
        ]
    return report, warnings


def _wishes_text(settings: Settings) -> str:
    """What a stamp remembers of everything that decides what a sync does."""
    digest = hashlib.sha256(json.dumps(settings.values(), sort_keys=True).encode())
    for path in settings.wish_lists:
        # A list that can't be read is named when it is really needed.
        with contextlib.suppress(OSError):
            digest.update(hashlib.sha256(read_bounded(path, _MAX_LIST)).digest())
    # The policy holds the number of the layout that this version writes.
    return f"1 {os.geteuid()} {settings.platform} {settings.policy} {digest.hexdigest()}"


def _keep_stamps(
    stamps: list[Stamp], settings: Settings, wishes: str, report: SyncReport, now: int
) -> list[str]:
    """Let the next sync know that there is nothing to do; returns a warning where that fails."""
    from podman_cvmfs.util.files import write_whole

    expires = _FOR_EVER if report.next_due is None else report.next_due
    if report.synthesised and not settings.offline:
        expires = min(expires, now + _ASK_AGAIN)
    nothing = replace(report, changed=False, added=(), removed=(), moved=())
    unchanged = _as_data(nothing, settings.store)
    try:
        for stamp in stamps:
            data = stamp.content(settings.store, wishes, now, expires, unchanged, report.shown)
            if data is not None:
                path = stamp_path(settings.cache, settings.store, stamp.repository)
                write_whole(path, data, inside=settings.cache)
    except OSError as err:
        # The store is as it should be: all this costs is one comparison.
        problem = f"can't write to the cache {printable(settings.cache)}: {err.strerror}"
        return [f"the next sync compares everything again: {problem}"]
    return []


def _failures(report: SyncReport) -> list[str]:
    """What failed, a line each."""
    lines = []
    for name, error in report.failed.items():
        text = _as_text(error)
        lines.append(f"failed {text if name in text else f'{printable(name)}: {text}'}")
    for host, names in report.waiting.items():
        lines.append(f"{len(names)} names have a made-up config or manifest: {report.silent[host]}")
    return lines


def _error(
    settings: Settings, images: tuple[str, ...], report: SyncReport
) -> PodmanCvmfsError | None:
    """What to end the command with, if anything failed. Where nothing at all was done, it is an
    error of the first failure's kind."""
    if report.failed:
        first = next(iter(report.failed.values()))
        done = set(report.found.values()) - report.failed.keys() if images else report.images
        if not done and len(report.failed) == 1:
            return first
        down = sum(each in settings.repositories for each in report.failed)
        counts = []
        if down < len(report.failed):
            counts.append(f"{len(report.failed) - down} of the images could not be done")
        if down:
            counts.append(f"{down} of the repositories could not be read")
        error = PartialError(", ".join(counts))
        if not done:
            error.exit_code = first.exit_code
        return error
    if report.waiting:
        return RegistryError(
            f"{sum(map(len, report.waiting.values()))} names have a made-up config or manifest, "
            f"since {', '.join(map(printable, report.waiting))} didn't answer",
            "sync again when they do, or with --offline if they never will",
        )
    return None


def _print(settings: Settings, report: SyncReport, warnings: list[str], output: str) -> None:
    if output == "json":
        click.echo(json.dumps(_as_data(report, settings.store), indent=2, sort_keys=True))
    for notice in report.notices if report.changed else ():
        log.info("%s", notice)
    for name in report.added:
        log.debug("added %s", name)
    for name in report.moved:
        log.debug("moved %s to another image", name)
    for name in report.removed:
        log.info("removed %s", printable(name))
    for warning in warnings:
        log.warning("%s", warning)
    for error in report.left_out.values():
        log.info("left out: %s", error.message)
    made_up = f", {report.synthesised} with a synthesised config" if report.synthesised else ""
    other = f", {len(report.left_out)} of another architecture left out" if report.left_out else ""
    log.info(
        "%s: %d images%s%s; %d names added, %d moved, %d removed, %d failed%s",
        settings.store,
        report.images,
        made_up,
        other,
        len(report.added),
        len(report.moved),
        len(report.removed),
        len(report.failed),
        "" if report.changed else "; nothing changed",
    )


def _as_data(report: SyncReport, store: str) -> dict[str, object]:
    return {
        "store": store,
        "images": report.images,
        "synthesised": report.synthesised,
        "changed": report.changed,
        "added": list(report.added),
        "removed": list(report.removed),
        "moved": list(report.moved),
        "notices": list(report.notices),
        "warnings": list(report.warnings),
        "silent": dict(report.silent),
        "waiting": report.waiting,
        "left_out": {name: err.message for name, err in report.left_out.items()},
        "failed": {name: _as_text(err) for name, err in report.failed.items()},
    }


def _as_text(error: PodmanCvmfsError) -> str:
    return f"{error.message} ({error.hint})" if error.hint else error.message
