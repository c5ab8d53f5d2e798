# SPDX-License-Identifier: Apache-2.0
"""``podman-cvmfs prefetch``."""

from __future__ import annotations

import json
import logging

import click

from podman_cvmfs.cli.early import read_early
from podman_cvmfs.cli.options import (
    DIRECTORY,
    FILE,
    setting,
    settings_given,
    stored_names,
    text_or_json,
)
from podman_cvmfs.errors import PartialError
from podman_cvmfs.profiles.prefetch import Limits
from podman_cvmfs.profiles.started import drop_mark, image_of_link, put_mark
from podman_cvmfs.settings.files import Settings
from podman_cvmfs.store.reader import read_store
from podman_cvmfs.store.records import StoreContent, StoredImage

log = logging.getLogger(__name__)

_MEGABYTE = 1024 * 1024


@click.command("prefetch")
@click.argument("images", metavar="[IMAGE]...", nargs=-1, shell_complete=stored_names)
@setting("store", "--store", type=DIRECTORY, help="The additional image store.")
@setting("cache", "--cache", type=DIRECTORY, help="The cache, which may hold profiles.")
@setting(
    "profiles", "--profiles", type=DIRECTORY, help="The site's profiles. Default: the settings'."
)
@click.option(
    "--size",
    type=click.IntRange(1, 1 << 20),
    default=1024,
    show_default=True,
    metavar="MB",
    help="How much to read of an image at most.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, 3600),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to read an image at most.",
)
@click.option(
    "--layer",
    metavar="LINK",
    help="Take the image whose top layer has this name in the store's overlay/l. The hook of "
    "setup --prefetch uses it: a container's own layer may be gone soon.",
)
@click.option(
    "--mark",
    type=FILE,
    help="With --layer: give this file a time in the future. The hook doesn't read the image again "
    "until then.",
)
@text_or_json
def command(
    images: tuple[str, ...],
    size: int,
    seconds: float,
    layer: str | None,
    mark: str | None,
    output: str,
) -> None:
    """Read early what images of the store open when they start.

    The files are read from the repository, 8 at a time. Then CernVM-FS's client has them in its
    cache, and a container starts without waiting for each. The image's profile says which files
    these are. Without a profile they are guessed.
    """
    if bool(images) == bool(layer):
        raise click.UsageError("name IMAGEs, or a --layer")
    if mark and not layer:
        raise click.UsageError("--mark is for --layer")
    settings = settings_given()
    if layer is not None:
        if mark is not None:
            # Containers that start at the same moment leave it to this one.
            put_mark(mark)
        content = read_store(settings.store) or StoreContent()
        started = image_of_link(settings.store, content, layer)
        wanted = [] if started is None else [started]
    else:
        settings, content, wanted = _named(settings, images)
    limits = Limits(size * _MEGABYTE, seconds)
    reports = []
    has_failed = False
    for image in wanted:
        report = read_early(settings, content, image, limits)
        if report is not None:
            has_failed = has_failed or bool(report["failed"])
            reports.append(report)
    if output == "json":
        click.echo(json.dumps(reports, indent=2))
    if has_failed:
        if mark is not None:
            drop_mark(mark)
        raise PartialError("some files can't be read", "podman-cvmfs doctor looks for the cause")


def _named(
    settings: Settings, names: tuple[str, ...]
) -> tuple[Settings, StoreContent, list[StoredImage]]:
    """The settings with the store to look at, what it holds, and the images of these names."""
    # A container that starts waits for nothing that only names need.
    from podman_cvmfs.reports.find import required
    from podman_cvmfs.reports.sources import content_of, target_of

    settings = target_of(settings)
    content = content_of(settings)
    return settings, content, [required(content, settings.store, name) for name in names]
