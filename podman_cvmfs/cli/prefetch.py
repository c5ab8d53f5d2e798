# SPDX-License-Identifier: Apache-2.0
"""``podman-cvmfs prefetch``."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import asdict

import click

from podman_cvmfs.cli.options import DIRECTORY, setting, settings_given, stored_names, text_or_json
from podman_cvmfs.errors import PartialError, PodmanCvmfsError, printable
from podman_cvmfs.profiles.choose import Chosen, choose
from podman_cvmfs.profiles.prefetch import Limits, Prefetched, prefetch
from podman_cvmfs.profiles.started import image_of_layer, only_once
from podman_cvmfs.settings.files import Settings
from podman_cvmfs.store.reader import read_store
from podman_cvmfs.store.records import StoreContent, StoredImage
from podman_cvmfs.util.apart import apart

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
    type=DIRECTORY,
    help="Take the image of the container with this layer, which podman has made. The hook of "
    "setup --prefetch uses it.",
)
@text_or_json
def command(
    images: tuple[str, ...], size: int, seconds: float, layer: str | None, output: str
) -> None:
    """Read early what images of the store open when they start.

    The files are read from the repository, 8 at a time. Then CernVM-FS's client has them in its
    cache, and a container starts without waiting for each. The image's profile says which files
    these are. Without a profile they are guessed.
    """
    if bool(images) == bool(layer):
        raise click.UsageError("name IMAGEs, or a --layer")
    settings = settings_given()
    if layer is not None:
        content = read_store(settings.store) or StoreContent()
        started = image_of_layer(settings.store, content, layer)
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
        raise PartialError("some files can't be read", "podman-cvmfs doctor looks for the cause")


def read_early(
    settings: Settings, content: StoreContent, image: StoredImage, limits: Limits
) -> dict[str, object] | None:
    """Read an image of the settings' store, and log what was done; return that as JSON has it, or
    None if another process reads the image just now. Raises PodmanCvmfsError if the store is
    damaged."""
    with only_once(settings.store, image) as is_first:
        if not is_first:
            log.info("%s: another process reads it already", image.image_id[:12])
            return None

        def read() -> tuple[Chosen, Prefetched]:
            chosen = choose(settings.store, content, image, settings.profiles, settings.cache)
            what = f"reading {image.image_id[:12]}"
            return chosen, prefetch(chosen.shown, chosen.uses, limits, what)

        # Threads that wait for a dead server would keep this process from ending.
        chosen, done = apart(read)
    _tell(image, chosen, done)
    return {"image": image.image_id, "origin": chosen.origin, **asdict(done)}


def read_new(settings: Settings, names: Iterable[str]) -> None:
    """Read the images of these names after a sync. Failures are logged."""
    content = read_store(settings.store) or StoreContent()
    for image_id in dict.fromkeys(content.names[name] for name in names if name in content.names):
        try:
            read_early(settings, content, content.images[image_id], Limits())
        except PodmanCvmfsError as err:
            log.warning("%s is not read early: %s", image_id[:12], err.line)


def _named(
    settings: Settings, names: tuple[str, ...]
) -> tuple[Settings, StoreContent, list[StoredImage]]:
    """The settings with the store to look at, what it holds, and the images of these names."""
    # A container that starts waits for nothing that only names need.
    from podman_cvmfs.reports.find import find, no_such_image
    from podman_cvmfs.reports.sources import content_of, target_of

    settings = target_of(settings)
    content = content_of(settings)
    found = []
    for name in names:
        image = find(content, name)
        if image is None:
            raise no_such_image(settings.store, name)
        found.append(image)
    return settings, content, found


def _tell(image: StoredImage, chosen: Chosen, done: Prefetched) -> None:
    name = printable(min(image.published, default=image.image_id[:12]))
    log.info("%s: %d files, %d bytes read, by %s", name, done.files, done.size, chosen.origin)
    if done.fetched is not None:
        log.info("  the client fetched %d objects meanwhile", done.fetched)
    if done.missing:
        log.info("  %d files of the profile are not in the image", done.missing)
    if done.left:
        log.warning("  %d files were left out: see --size and --seconds", done.left)
    if done.failed:
        log.warning("  %d files can't be read", done.failed)
