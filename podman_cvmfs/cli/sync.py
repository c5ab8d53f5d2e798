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
from typing import TYPE_CHECKING

import click

from podman_cvmfs.cli.options import FILE, store_options, text_or_json
from podman_cvmfs.errors import (
    PartialError,
    PodmanCvmfsError,
    RegistryError,
    StoreError,
    printable,
)
from podman_cvmfs.settings import OnOutage, Settings, load_settings
from podman_cvmfs.stamp import Stamp, is_current, stamp_path

if TYPE_CHECKING:
    from podman_cvmfs.registry_access import RegistrySource
    from podman_cvmfs.wishes import SyncReport, Wishes

log = logging.getLogger(__name__)

#: How often a registry that hasn't had an image's config is asked again, in seconds.
_ASK_AGAIN = 24 * 3600
_FOR_EVER = 1 << 62


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
    settings = load_settings(
        {
            "repositories": list(repository) or None,
            "store": store,
            "cache": cache,
            "view": view,
            "reuse": reuse,
            "overlay": overlay,
            "arch": arch,
            "offline": offline,
            "on_outage": on_outage,
        }
    )
    for warning in settings.warnings:
        log.warning("%s", warning)
    if watch:
        _follow(settings, images, interval, notification_file)
    else:
        _run(settings, images, output)


def _follow(
    settings: Settings, images: tuple[str, ...], interval: float, notification_file: str | None
) -> None:
    """Sync again and again; a failure is reported once, and the next attempt made in time."""
    from podman_cvmfs.watch import follow

    follow(lambda: _run(settings, images, "quiet"), interval, notification_file)


def _run(settings: Settings, images: tuple[str, ...], output: str) -> None:
    now = int(time.time())
    wishes = _wishes_text(settings)
    if not images and all(
        is_current(settings.cache, settings.store, root, wishes, now)
        for root in settings.repositories
    ):
        if output == "json":
            click.echo(json.dumps({"store": settings.store, "changed": False}))
        elif output == "text":
            log.info("%s: nothing has changed", settings.store)
        return
    stamps = [Stamp(root) for root in settings.repositories]
    report = _sync(settings, images, now)
    if not (images or report.failed or report.waiting):
        _keep_stamps(stamps, settings, wishes, report, now)
    _print(settings, report, output)
    if report.failed:
        errors = list(report.failed.values())
        if len(errors) == 1 and (images or not report.images):
            raise errors[0]
        raise PartialError(f"{len(errors)} of the images could not be done")
    if report.waiting:
        raise RegistryError(
            f"{sum(map(len, report.waiting.values()))} names have a made-up config, since "
            f"{', '.join(map(printable, report.waiting))} didn't answer",
            "sync again when they do, or with --offline if they never will",
        )


def _sync(settings: Settings, images: tuple[str, ...], now: int) -> SyncReport:
    from podman_cvmfs.sync import sync

    wishes = _wishes(settings, images)
    report = sync(wishes)
    if not images:
        for spec in wishes.selection.unmatched():
            log.warning("wished for but not in the repository: %s", printable(str(spec)))
    return report


def _wishes(settings: Settings, images: tuple[str, ...]) -> Wishes:
    from podman_cvmfs.blobcache import BlobCache
    from podman_cvmfs.selection import Selection
    from podman_cvmfs.store.store import Store
    from podman_cvmfs.wishes import Wishes

    specs = None
    if settings.wish_lists:
        from podman_cvmfs.wishlist import read_wish_list

        lists = [read_wish_list(path) for path in settings.wish_lists]
        for each in lists:
            for text in (*each.warnings, *(problem.message for problem in each.problems)):
                log.warning("%s", text)
        specs = [spec for each in lists for spec in each.specs]
    return Wishes(
        repositories=settings.repositories,
        store=Store(settings.store),
        cache=BlobCache(settings.cache),
        registry=None if settings.offline else lambda: _registry(settings),
        requested=images,
        selection=Selection(specs, settings.include, settings.exclude),
        platform=settings.platform,
        policy=settings.policy,
        grace=settings.grace_days * 24 * 3600,
        hide_outage=settings.on_outage is OnOutage.HIDE,
    )


def _registry(settings: Settings) -> RegistrySource:
    from podman_cvmfs.registry import RegistryClient

    return RegistryClient(
        timeout=settings.registries.timeout,
        retries=settings.registries.retries,
        max_pause=settings.registries.max_pause,
    )


def _wishes_text(settings: Settings) -> str:
    """What a stamp remembers of everything that decides what a sync does."""
    digest = hashlib.sha256(json.dumps(settings.values(), sort_keys=True).encode())
    for path in settings.wish_lists:
        # A list that can't be read is named when it is really needed.
        with contextlib.suppress(OSError), open(path, "rb") as file:
            digest.update(hashlib.sha256(file.read()).digest())
    return f"1 {os.geteuid()} {settings.platform} {digest.hexdigest()}"


def _keep_stamps(
    stamps: list[Stamp], settings: Settings, wishes: str, report: SyncReport, now: int
) -> None:
    from podman_cvmfs.files import write_whole

    expires = _FOR_EVER if report.next_due is None else report.next_due
    if report.synthesised and not settings.offline:
        expires = min(expires, now + _ASK_AGAIN)
    for stamp in stamps:
        try:
            data = stamp.content(settings.store, wishes, now, expires)
            if data is not None:
                path = stamp_path(settings.cache, settings.store, stamp.repository)
                write_whole(path, data, inside=settings.cache)
        except OSError as err:
            raise StoreError(
                f"can't write to the cache {printable(settings.cache)}: {err.strerror}",
                "name another directory with --cache DIR",
            ) from err


def _print(settings: Settings, report: SyncReport, output: str) -> None:
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
    for name, error in report.failed.items():
        text = _as_text(error)
        log.warning("failed %s", text if name in text else f"{printable(name)}: {text}")
    for error in report.left_out.values():
        log.info("left out: %s", error.message)
    for host, names in report.waiting.items():
        log.warning("%d names have a made-up config: %s", len(names), report.silent[host])
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
        "silent": dict(report.silent),
        "waiting": report.waiting,
        "left_out": {name: err.message for name, err in report.left_out.items()},
        "failed": {name: _as_text(err) for name, err in report.failed.items()},
    }


def _as_text(error: PodmanCvmfsError) -> str:
    return f"{error.message} ({error.hint})" if error.hint else error.message
