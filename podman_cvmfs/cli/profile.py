# SPDX-License-Identifier: Apache-2.0
"""``podman-cvmfs profile``."""

from __future__ import annotations

import logging
import os

import click

from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.cli.options import DIRECTORY, FILE, setting, settings_given, stored_names
from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.profiles.find import with_cached
from podman_cvmfs.profiles.profile import Profile, merge, parse_profile, render_profile
from podman_cvmfs.profiles.record import profile_of, record
from podman_cvmfs.profiles.shown import ShownImage, shown_image
from podman_cvmfs.profiles.trace import read_trace
from podman_cvmfs.reports.find import required
from podman_cvmfs.reports.sources import content_of, target_of
from podman_cvmfs.store.records import StoredImage
from podman_cvmfs.util.files import write_whole
from podman_cvmfs.util.words import counted

log = logging.getLogger(__name__)


@click.command("profile")
@click.argument("image", metavar="IMAGE", shell_complete=stored_names)
@click.argument("arguments", metavar="[COMMAND]...", nargs=-1, type=click.UNPROCESSED)
@setting("store", "--store", type=DIRECTORY, help="The additional image store.")
@setting("cache", "--cache", type=DIRECTORY, help="The cache, which keeps the profile.")
@click.option(
    "--output",
    type=FILE,
    help="Write the profile to this file instead of the cache.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, 3600),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="End the container after so long, if it still runs.",
)
@click.option(
    "--trace",
    type=FILE,
    help="Run nothing: take the files from this trace of CernVM-FS's client.",
)
def command(
    image: str, arguments: tuple[str, ...], output: str | None, seconds: float, trace: str | None
) -> None:
    """Record which files of IMAGE a container opens when it starts.

    It runs a new container with the image's own command, or with COMMAND. Nothing changes for the
    container. The profile is merged with the one recorded before. This needs root.
    """
    if trace is not None and arguments:
        raise click.UsageError("--trace runs no COMMAND")
    settings = target_of(settings_given())
    content = content_of(settings)
    found = required(content, settings.store, image)
    shown = shown_image(settings.store, content, found)
    if trace is not None:
        profile = profile_of(shown, found, read_trace(trace, found.repository, shown))
    else:
        profile = _recorded(shown, found, arguments, seconds)
    if not profile.files:
        raise InputError("no file of the image was opened, so there is no profile")
    cache = BlobCache(settings.cache)
    if output is None:
        whole = with_cached(profile, cache)
        cache.keep_profile(Digest(found.source_id), render_profile(whole))
    else:
        whole = _with_former(profile, output)
        _write(output, render_profile(whole))
    where = f"the cache {cache.directory}" if output is None else output
    log.info(
        "%s recorded; the profile in %s has %d",
        counted(len(profile.files), "file"),
        printable(where),
        len(whole.files),
    )


def _recorded(
    shown: ShownImage, image: StoredImage, arguments: tuple[str, ...], seconds: float
) -> Profile:
    found = record(shown, image, arguments, seconds)
    if found.code is None:
        log.info("the container was ended after %g seconds", seconds)
    elif found.code:
        log.warning("the container ended with exit code %d", found.code)
    if found.is_incomplete:
        log.warning("some files were missed: record once more")
    return found.profile


def _with_former(profile: Profile, path: str) -> Profile:
    """Merged with the profile in the file, if there is one. Raises InputError if the file is
    something else."""
    try:
        with open(path, "rb") as file:
            former = file.read()
    except FileNotFoundError:
        return profile
    return merge([parse_profile(former, profile.image, printable(path)), profile])


def _write(path: str, data: bytes) -> None:
    try:
        write_whole(os.path.abspath(path), data)
    except OSError as err:
        raise InputError(f"can't write {printable(path)}: {err.strerror}") from None
