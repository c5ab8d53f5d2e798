# SPDX-License-Identifier: Apache-2.0
"""``podman-cvmfs sync``.

Modules for a sync with nothing to do are imported first. The others are imported only when there is
something to do.
"""

from __future__ import annotations

import json
import logging
import time
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from podman_cvmfs.cli.options import FILE, setting, settings_given, store_options, text_or_json
from podman_cvmfs.errors import printable
from podman_cvmfs.settings.files import OnOutage, Settings
from podman_cvmfs.settings.sharing import is_open
from podman_cvmfs.sync.stamp import is_current, last_error, last_report, revision_of, wishes_text
from podman_cvmfs.util.web_address import is_web_address

if TYPE_CHECKING:
    from podman_cvmfs.sync.fetch_lists import ListFetcher
    from podman_cvmfs.sync.report import SyncReport

log = logging.getLogger(__name__)


@click.command("sync")
@click.argument("images", metavar="[IMAGE]...", nargs=-1)
@store_options
@setting("offline", "--offline", is_flag=True, default=None, help="Ask no registry.")
@setting(
    "on_outage",
    "--on-outage",
    type=click.Choice([each.value for each in OnOutage]),
    help="What to do with the images of a repository that can't be read. keep: "
    "they stay, and podman fails to start them. hide: they leave the store "
    "until the repository is back, and podman pulls them.",
)
@click.option("--watch", is_flag=True, help="Keep running, and follow the repository's changes.")
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
    help="With --watch: DUCC's notification file. A new line in it makes the command look at once.",
)
@text_or_json
def command(
    images: tuple[str, ...],
    watch: bool,
    interval: float,
    notification_file: str | None,
    output: str,
) -> None:
    """Write the additional image store from the repository.

    Without IMAGE the store gets all images of the repository, or those that wish lists and
    settings select, and loses all others. With IMAGEs these images are added.

    podman finds the images when its configuration names the store: see podman-cvmfs setup.
    """
    given = click.get_current_context().get_parameter_source
    if not watch and given("interval") is ParameterSource.COMMANDLINE:
        raise click.UsageError("--interval is for --watch")
    if not watch and notification_file is not None:
        raise click.UsageError("--notification-file is for --watch")
    settings = settings_given()
    if watch:
        if output == "json":
            raise click.UsageError("--watch makes no report for --format json")
        _follow(settings, images, interval, notification_file)
    else:
        _run(settings, images, output, _fetcher(settings))


def _follow(
    settings: Settings, images: tuple[str, ...], interval: float, notification_file: str | None
) -> None:
    """Sync again and again. A repeated failure is reported only once."""
    from podman_cvmfs.sync.watch import follow

    def revisions() -> list[object]:
        hides = settings.on_outage is OnOutage.HIDE
        return [
            (_revision(root), last_error(root) if hides else 0) for root in settings.repositories
        ]

    told: list[str] = []
    fetcher = _fetcher(settings, is_watch=True)
    what = ", ".join(map(printable, settings.repositories))
    follow(
        lambda: _run(settings, images, "quiet", fetcher, told),
        interval,
        notification_file,
        revisions,
        what,
    )


def _revision(repository: str) -> list[str] | str | None:
    """What tells that a repository has changed, or can be read again."""
    try:
        return revision_of(repository)
    except OSError as err:
        return err.strerror


def _fetcher(settings: Settings, *, is_watch: bool = False) -> ListFetcher | None:
    """Fetches the wish lists that are at web servers; None if no list is there."""
    if not any(map(is_web_address, settings.wish_lists)):
        return None
    from podman_cvmfs.sync.fetch_lists import WATCH_PAUSE, ListFetcher

    return ListFetcher(settings, WATCH_PAUSE if is_watch else 0.0)


def _about_users(settings: Settings) -> list[str]:
    if settings.shared is None:
        return []
    from podman_cvmfs.sync.about_sharing import remarks

    return remarks(settings)


def _run(
    settings: Settings,
    images: tuple[str, ...],
    output: str,
    fetcher: ListFetcher | None,
    told: list[str] | None = None,
) -> None:
    """Sync once, and report. ``told`` are the last run's warnings. This run's replace them. If they
    are equal and nothing has changed, nothing is printed."""
    now = int(time.time())
    about_lists = fetcher.refresh() if fetcher else ()
    remarks = [*_about_users(settings), *about_lists]
    wishes = wishes_text(settings)
    hides = settings.on_outage is OnOutage.HIDE
    as_wished = is_open(settings.store) == settings.policy.shared
    if (
        not images
        and as_wished
        and all(
            is_current(settings.cache, settings.store, root, wishes, now, hides)
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
            for warning in remarks:
                log.warning("%s", warning)
        elif told is not None:
            news = [warning for warning in about_lists if warning not in told]
            for warning in news:
                log.warning("%s", warning)
            told += news
        return
    from podman_cvmfs.cli.sync_report import error_of, failures, show
    from podman_cvmfs.repository.served import lies_on_fuse
    from podman_cvmfs.sync.new_stamp import Stamp, keep_stamps
    from podman_cvmfs.util.apart import apart

    stamps = [Stamp(root) for root in settings.repositories]
    if any(map(lies_on_fuse, settings.repositories)):
        report, warnings = apart(lambda: _sync(settings, images))
    else:
        report, warnings = _sync(settings, images)
    if not (images or report.failed or report.waiting):
        warnings += keep_stamps(stamps, settings, wishes, report, now)
    warnings += [*remarks, *report.warnings]
    said = [*warnings, *failures(report)]
    if told is None or report.changed or said != told:
        show(report, settings.store, warnings, output)
    if told is not None:
        told[:] = said
    if settings.prefetch and settings.wish_lists and not images:
        from podman_cvmfs.cli.early import read_new

        read_new(settings, [*report.added, *report.moved])
    error = error_of(settings, images, report)
    if error is not None:
        raise error


def _sync(settings: Settings, images: tuple[str, ...]) -> tuple[SyncReport, list[str]]:
    """The sync's report, and warnings about wishes."""
    from podman_cvmfs.sync.from_settings import request_of
    from podman_cvmfs.sync.run import sync

    request, warnings = request_of(settings, images)
    report = sync(request)
    if not images:
        warnings += [
            f"in a wish list but not in the repository: {printable(str(spec))}"
            for spec in request.selection.unmatched()
        ]
    return report, warnings
