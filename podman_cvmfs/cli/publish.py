# SPDX-License-Identifier: Apache-2.0
"""``podman-cvmfs publish``: unpack images into a repository in DUCC's layout."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Any

import click

from podman_cvmfs.cli.options import DIRECTORY, arch_option, settings_given
from podman_cvmfs.errors import InputError, PartialError, PodmanCvmfsError, printable
from podman_cvmfs.names.reference import ImageName, parse_name
from podman_cvmfs.oci.platform import Platform
from podman_cvmfs.publish.present import present_platform
from podman_cvmfs.publish.publisher import Published, check_directory, publish
from podman_cvmfs.publish.source.budget import parse_size
from podman_cvmfs.publish.source.image import ImageSource, SourceImage
from podman_cvmfs.publish.source.open import open_source
from podman_cvmfs.registry.client import RegistryClient

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Target:
    """What is published into, and what the user vouches for."""

    repository: str
    assume_nosuid: bool
    max_size: int | None


@dataclass(frozen=True)
class _Outcome:
    """The result for one image, or for an unreadable source."""

    source: str
    image: SourceImage | None = None
    published: Published | None = None
    error: PodmanCvmfsError | None = None

    def as_json(self) -> dict[str, Any]:
        if self.published is None:
            status = "failed"
        else:
            status = "published" if self.published.changed else "unchanged"
        document: dict[str, Any] = {
            "source": self.source,
            "name": str(self.image.name) if self.image else None,
            "image_id": self.image.config.digest.hex if self.image else None,
            "layers": self.published.layers if self.published else 0,
            "new_layers": self.published.new_layers if self.published else 0,
            "status": status,
        }
        if self.error is not None:
            document["error"] = self.error.message
        return document


@click.command("publish")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.option(
    "--repository",
    required=True,
    type=DIRECTORY,
    help="The repository. The directory is made if it is missing.",
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
    "--format",
    "output",
    type=click.Choice(["text", "json"]),
    default="text",
    help="With json: print a list of the results on standard output.",
)
def command(
    sources: tuple[str, ...],
    repository: str,
    name: str | None,
    assume_nosuid: bool,
    max_size: str | None,
    output: str,
) -> None:
    """Unpack images into a repository in DUCC's layout.

    A SOURCE is one of these: an image in a registry (https://registry/repository:tag, or
    http:// for a registry on this machine); an OCI layout (oci:PATH[:TAG]) or a tar file of one
    (oci-archive:PATH[:TAG]); a file from "podman save" or "docker save" (docker-archive:PATH).
    For a layout or a file the PATH alone is enough.

    If an image is for several architectures, the one for --arch is published. If you publish an
    image again, nothing changes. A new image under an old name replaces the old one.
    """
    if name is not None and len(sources) > 1:
        raise InputError("--name is for a single SOURCE", "publish them one by one")
    given = parse_name(name) if name is not None else None
    settings = settings_given()
    patience = settings.registries
    check_directory(repository, assume_nosuid)
    target = _Target(repository, assume_nosuid, None if max_size is None else parse_size(max_size))
    outcomes: list[_Outcome] = []
    client = RegistryClient(
        timeout=patience.timeout, retries=patience.retries, max_pause=patience.max_pause
    )
    with client:
        for source in sources:
            outcomes.extend(_publish_source(source, given, target, client, settings.platform))
    if output == "json":
        click.echo(json.dumps([outcome.as_json() for outcome in outcomes], indent=1))
    _raise_failures(outcomes)


def _publish_source(
    text: str,
    name: ImageName | None,
    target: _Target,
    client: RegistryClient,
    platform: Platform,
) -> list[_Outcome]:
    try:
        source = open_source(text, name, client, platform, target.max_size)
    except PodmanCvmfsError as err:
        return [_Outcome(text, error=err)]
    try:
        images = source.images()
        for image in images:
            if not platform.runs(image.config.platform):
                theirs = printable(str(image.config.platform))
                log.warning(
                    "%s is for %s, not for %s: syncs on this architecture leave it out",
                    image.name,
                    theirs,
                    platform,
                )
        return [_publish_image(text, source, image, target) for image in images]
    except PodmanCvmfsError as err:
        return [_Outcome(text, error=err)]
    finally:
        source.close()


def _publish_image(text: str, source: ImageSource, image: SourceImage, target: _Target) -> _Outcome:
    before, its = present_platform(target.repository, image.name), image.config.platform
    try:
        done = publish(
            target.repository,
            image,
            lambda layer: source.layer(image, layer),
            target.assume_nosuid,
            target.max_size,
        )
    except PodmanCvmfsError as err:
        return _Outcome(text, image, error=err)
    if before is not None and before.architecture != its.architecture:
        log.warning(
            "%s was for %s and is now for %s: a repository has one image for each name",
            image.name,
            printable(str(before)),
            printable(str(its)),
        )
    if done.changed:
        log.info("%s: published, %d of %d layers new", image.name, done.new_layers, done.layers)
    else:
        log.info("%s: unchanged", image.name)
    return _Outcome(text, image, done)


def _raise_failures(outcomes: list[_Outcome]) -> None:
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
