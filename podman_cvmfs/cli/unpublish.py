# SPDX-License-Identifier: Apache-2.0
"""``podman-cvmfs unpublish``: remove images from a repository."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, replace

import click

from podman_cvmfs.cli.options import DIRECTORY, settings_given, text_or_json
from podman_cvmfs.errors import InputError, RepositoryError, printable
from podman_cvmfs.names.reference import parse_name, parse_repository_path
from podman_cvmfs.names.spec import ImageSpec
from podman_cvmfs.publish.open_repository import OpenRepository
from podman_cvmfs.publish.removal import Removal, chosen_names, remove_images
from podman_cvmfs.publish.targets import changing
from podman_cvmfs.sync.fetch_lists import ListFetcher
from podman_cvmfs.sync.wish_list import read_wish_list
from podman_cvmfs.util.words import counted

log = logging.getLogger(__name__)

_DAY = 24 * 3600


@click.command("unpublish")
@click.argument("images", metavar="[IMAGE]...", nargs=-1)
@click.option("--repository", required=True, type=DIRECTORY, help="The repository.")
@click.option(
    "--not-in",
    "wish_lists",
    metavar="FILE",
    multiple=True,
    help="Remove all images that this wish list doesn't want. Repeat it for several lists: an "
    "image stays if one of them wants it.",
)
@click.option(
    "--grace",
    type=click.IntRange(0, 3650),
    metavar="DAYS",
    default=14,
    show_default=True,
    help="Remove the files of an image so many days after its last name has gone.",
)
@click.option("--dry-run", is_flag=True, help="Only print what would be removed.")
@text_or_json
def command(
    images: tuple[str, ...],
    repository: str,
    wish_lists: tuple[str, ...],
    grace: int,
    dry_run: bool,
    output: str,
) -> None:
    """Remove images from a repository that publish has filled.

    The names of IMAGEs are removed at once. Without IMAGE and --not-in no name is removed. Each
    run also removes the files of images that have had no name for the grace period. Only images
    that podman-cvmfs has published are removed. Images that DUCC or somebody else has published
    stay.
    """
    names = [parse_name(image) for image in images]
    is_unwanted = _unwanted(wish_lists) if wish_lists else lambda path: False
    try:
        with (
            contextlib.nullcontext() if dry_run else changing(repository),
            OpenRepository(repository) as opened,
        ):
            chosen = set(chosen_names(opened, names))
            done = remove_images(
                opened,
                lambda path: path in chosen or is_unwanted(path),
                grace * _DAY,
                int(time.time()),
                dry_run,
            )
    except OSError as err:
        shown = printable(os.path.abspath(repository))
        raise RepositoryError(f"can't change {shown}: {err.strerror}") from None
    if output == "json":
        click.echo(json.dumps({"dry_run": dry_run, **asdict(done)}, indent=1))
        return
    _print(done, dry_run)


def _unwanted(wish_lists: tuple[str, ...]) -> Callable[[str], bool]:
    """Whether no list wants the image at a public link. Raises InputError."""
    settings = replace(settings_given(), wish_lists=wish_lists)
    for warning in ListFetcher(settings).refresh():
        log.warning("%s", warning)
    # By the repositories of registries: each of thousands of images is looked up.
    specs: defaultdict[tuple[str, str], list[ImageSpec]] = defaultdict(list)
    for place in wish_lists:
        wishes = read_wish_list(place, settings.cache)
        if wishes.problems:
            problem = wishes.problems[0]
            raise InputError(
                "nothing was removed, because an entry of a wish list isn't understood: "
                + problem.message,
                problem.hint,
            )
        for spec in wishes.specs:
            specs[spec.registry, spec.repository].append(spec)

    def is_unwanted(path: str) -> bool:
        name = parse_repository_path(path).canonical
        wished = specs.get((name.registry, name.repository), ())
        return not any(spec.matches(name) for spec in wished)

    return is_unwanted


def _print(done: Removal, dry_run: bool) -> None:
    word = "would be removed" if dry_run else "removed"
    for name in done.names:
        click.echo(f"{printable(name)}: {word}")
    click.echo(
        f"{counted(len(done.names), 'name')}, {counted(len(done.images), 'image')} and "
        f"{counted(len(done.layers), 'layer')} {word}; images that wait for the end of the grace "
        f"period: {len(done.waiting)}"
    )
