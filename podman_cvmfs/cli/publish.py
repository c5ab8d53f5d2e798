# SPDX-License-Identifier: Apache-2.0
"""``podman-cvmfs publish``: unpack images into a repository in DUCC's layout."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import click

from podman_cvmfs.cli.options import DIRECTORY, FILE, arch_option, settings_given
from podman_cvmfs.errors import InputError, PartialError, printable
from podman_cvmfs.names.reference import parse_name
from podman_cvmfs.names.spec import ImageSpec
from podman_cvmfs.oci.platform import Platform
from podman_cvmfs.profiles.profile import MAX_PROFILE, parse_profile, render_profile
from podman_cvmfs.publish.batch import Outcome, Wanted, publish_all, wanted_by_lists
from podman_cvmfs.publish.source.budget import parse_size
from podman_cvmfs.publish.source.open import open_source
from podman_cvmfs.publish.targets import Target, target_for
from podman_cvmfs.registry.client import RegistryClient
from podman_cvmfs.settings.files import Settings
from podman_cvmfs.settings.paths import default_staging
from podman_cvmfs.sync.fetch_lists import ListFetcher
from podman_cvmfs.sync.watch import follow
from podman_cvmfs.sync.wish_list import read_wish_list
from podman_cvmfs.util.foreign_file import read_bounded

log = logging.getLogger(__name__)


@click.command("publish")
@click.argument("sources", metavar="[SOURCE]...", nargs=-1)
@click.option(
    "--wish-list",
    "wish_lists",
    metavar="FILE",
    multiple=True,
    help="Publish all images that this list wants. A file, or an https:// address.",
)
@click.option(
    "--watch",
    "interval",
    metavar="SECONDS",
    type=click.FloatRange(min=1),
    help="With --wish-list: keep running, and look at the registries this often.",
)
@click.option(
    "--repository",
    required=True,
    type=DIRECTORY,
    help="The repository. A plain directory is made if it is missing. /cvmfs/NAME is published by "
    "cvmfs_server, in one transaction.",
)
@click.option(
    "--staging",
    type=DIRECTORY,
    help="Where images for /cvmfs/NAME are unpacked. Default: /var/lib/podman-cvmfs/publish; an "
    "ordinary user's is ~/.local/share/podman-cvmfs/publish.",
)
@click.option(
    "--name", metavar="NAME", help="The name of the image, for example example.org/app:1."
)
@arch_option
@click.option(
    "--assume-nosuid",
    is_flag=True,
    help="Publish even where other users reach the repository and setuid files work. Give it "
    "only if users reach the repository by a mount with nosuid and nodev alone.",
)
@click.option(
    "--max-size",
    metavar="SIZE",
    help="How much an image may take unpacked, e.g. 20G. Default: 512M, and 100 times its "
    "compressed size.",
)
@click.option(
    "--profile",
    "profiles",
    type=FILE,
    multiple=True,
    help="Publish this start-up profile with its image. podman-cvmfs profile --output writes one.",
)
@click.option(
    "--format",
    "output",
    type=click.Choice(["text", "json"]),
    default="text",
    help="With json: print a list of the results on standard output.",
)
def command(
    sources: tuple[str, ...],
    wish_lists: tuple[str, ...],
    interval: float | None,
    staging: str | None,
    repository: str,
    name: str | None,
    assume_nosuid: bool,
    max_size: str | None,
    profiles: tuple[str, ...],
    output: str,
) -> None:
    """Unpack images into a repository in DUCC's layout.

    A SOURCE is one of these: an image in a registry (https://registry/repository:tag, or
    http:// for a registry on this machine); an OCI layout (oci:PATH[:TAG]) or a tar file of one
    (oci-archive:PATH[:TAG]); a file from "podman save" or "docker save" (docker-archive:PATH).
    For a layout or a file the PATH alone is enough.

    A wish list names images in registries. It has one image a line, or it is a recipe in DUCC's
    form, whose name ends in .yaml. A tag may be a pattern: reg.example.org/group/app:2.*

    If an image is for several architectures, the one for --arch is published. If you publish an
    image again, nothing changes. A new image under an old name replaces the old one.
    """
    if not sources and not wish_lists:
        raise click.UsageError("give a SOURCE, or --wish-list")
    if name is not None and (len(sources) > 1 or wish_lists):
        raise InputError("--name is for a single SOURCE", "publish them one by one")
    if interval is not None and (not wish_lists or output == "json"):
        raise click.UsageError("--watch needs --wish-list, and can't print JSON")
    given = parse_name(name) if name is not None else None
    settings = replace(settings_given(), wish_lists=wish_lists)
    size = None if max_size is None else parse_size(max_size)
    known = dict(map(_profile, profiles))
    fetcher = ListFetcher(settings)

    def work(target: Target) -> list[Outcome]:
        patience = settings.registries
        client = RegistryClient(
            timeout=patience.timeout, retries=patience.retries, max_pause=patience.max_pause
        )
        with client:
            wanted = [
                Wanted(
                    text,
                    partial(open_source, text, given, client, settings.platform, target.max_size),
                )
                for text in sources
            ]
            specs = _specs(settings, fetcher)
            wanted += wanted_by_lists(specs, client, settings.platform, target)
            outcomes = []
            for outcome in publish_all(wanted, target):
                _tell(outcome, settings.platform, is_quiet=interval is not None)
                outcomes.append(outcome)
        return outcomes

    with target_for(repository, staging or default_staging(), assume_nosuid, size) as target:
        target.profiles = known
        if interval is not None:
            follow(lambda: _raise_failures(work(target)), interval, what="publishing")
            return
        outcomes = work(target)
    if output == "json":
        click.echo(json.dumps([_as_json(outcome) for outcome in outcomes], indent=1))
    elif len(outcomes) > 1:
        log.info("%s", _summary(outcomes))
    _raise_failures(outcomes)


def _profile(path: str) -> tuple[str, bytes]:
    """A profile's image, and its bytes. Raises InputError."""
    try:
        data = read_bounded(path, MAX_PROFILE)
    except OSError as err:
        raise InputError(f"can't read {printable(path)}: {err.strerror}") from None
    profile = parse_profile(data, None, printable(path))
    return profile.image, render_profile(profile)


def _specs(settings: Settings, fetcher: ListFetcher) -> Iterator[ImageSpec]:
    """What the wish lists want. Raises InputError for one that can't be read."""
    warnings = [*fetcher.refresh()]
    for place in settings.wish_lists:
        wishes = read_wish_list(place, settings.cache)
        warnings += [*wishes.warnings, *(problem.message for problem in wishes.problems)]
        yield from wishes.specs
    for warning in warnings:
        log.warning("%s", warning)


def _tell(outcome: Outcome, platform: Platform, is_quiet: bool) -> None:
    """Log what was done for an image. A quiet one says nothing of unchanged images."""
    image, done = outcome.image, outcome.published
    if image is None or done is None:
        return
    its, before = image.config.platform, outcome.before
    if (done.changed or not is_quiet) and not platform.runs(its):
        log.warning(
            "%s is for %s, not for %s: syncs on this architecture leave it out",
            image.name,
            printable(str(its)),
            platform,
        )
    if before is not None and before.architecture != its.architecture:
        log.warning(
            "%s was for %s and is now for %s: a repository has one image for each name",
            image.name,
            printable(str(before)),
            printable(str(its)),
        )
    if done.changed:
        log.info("%s: published, %d of %d layers new", image.name, done.new_layers, done.layers)
    elif not is_quiet:
        log.info("%s: unchanged", image.name)


def _status(outcome: Outcome) -> str:
    if outcome.published is None:
        return "failed"
    return "published" if outcome.published.changed else "unchanged"


def _as_json(outcome: Outcome) -> dict[str, Any]:
    image, done = outcome.image, outcome.published
    document: dict[str, Any] = {
        "source": outcome.source,
        "name": str(image.name) if image else None,
        "image_id": image.config.digest.hex if image else None,
        "layers": done.layers if done else 0,
        "new_layers": done.new_layers if done else 0,
        "status": _status(outcome),
    }
    if outcome.error is not None:
        document["error"] = outcome.error.message
    return document


def _summary(outcomes: Sequence[Outcome]) -> str:
    counts = Counter(map(_status, outcomes))
    return ", ".join(f"{counts[word]} {word}" for word in ("published", "unchanged", "failed"))


def _raise_failures(outcomes: Sequence[Outcome]) -> None:
    """Raise the error of a single failure; log several and raise a summary."""
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    if not errors:
        return
    first = errors[0]
    if len(outcomes) == 1:
        raise first
    for outcome in outcomes:
        if outcome.error is not None:
            log.error("%s: %s", printable(outcome.source), outcome.error.message)
            if outcome.error.hint:
                log.error("  hint: %s", outcome.error.hint)
    summary = f"{len(errors)} of {len(outcomes)} images were not published"
    if len(errors) < len(outcomes):
        raise PartialError(summary)
    raise type(first)(summary)
