# SPDX-License-Identifier: Apache-2.0
"""``podman-cvmfs lists``."""

from __future__ import annotations

import functools
import json
import logging
from typing import TYPE_CHECKING

import click

from podman_cvmfs.cli.options import DIRECTORY, setting, settings_given, stored_names, text_or_json
from podman_cvmfs.errors import InputError, PartialError, PodmanCvmfsError, StoreError, printable
from podman_cvmfs.settings.files import Settings
from podman_cvmfs.store.records import StoredImage

if TYPE_CHECKING:
    from podman_cvmfs.lists.kept import KeptLists
    from podman_cvmfs.registry.client import RegistryClient

log = logging.getLogger(__name__)


@click.command("lists")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, shell_complete=stored_names)
@setting("store", "--store", type=DIRECTORY, help="The additional image store.")
@setting("cache", "--cache", type=DIRECTORY, help="The cache, which gets the lists.")
@text_or_json
def command(images: tuple[str, ...], output: str) -> None:
    """Make exact lists of the files of images, from their registries.

    Each layer is downloaded once. The list of its files and its tar-split stay in the cache, the
    files don't. The next sync can then show the images exactly, with every attribute and hard link.
    """
    from podman_cvmfs.lists.kept import KeptLists
    from podman_cvmfs.registry.client import RegistryClient
    from podman_cvmfs.reports.find import required
    from podman_cvmfs.reports.sources import content_of, target_of
    from podman_cvmfs.sync.stamp import forget

    settings = target_of(settings_given())
    if settings.offline:
        raise InputError(
            "lists are made from registries, and offline = true is set",
            "set offline = false",
        )
    content = content_of(settings)
    wanted = [required(content, settings.store, name) for name in images]
    kept = KeptLists(settings.cache, settings.lists_budget)
    limits = settings.registries
    made: list[dict[str, object]] = []
    failures: list[PodmanCvmfsError] = []
    with RegistryClient(
        timeout=limits.timeout, retries=limits.retries, max_pause=limits.max_pause
    ) as client:
        for image in wanted:
            try:
                made.append(_listed(settings, image, kept, client))
            except StoreError:
                raise
            except PodmanCvmfsError as err:
                log.warning("%s: %s", image.image_id[:12], err.line)
                failures.append(err)
    if made:
        # The next sync has something to do, although no repository has changed.
        forget(settings.cache)
    if output == "json":
        click.echo(json.dumps(made, indent=2))
    if failures and not made:
        raise failures[0]
    if failures:
        raise PartialError(f"{len(failures)} of {len(wanted)} images have no lists")


def _listed(
    settings: Settings, image: StoredImage, kept: KeptLists, client: RegistryClient
) -> dict[str, object]:
    """Make the lists of an image's layers, and return what JSON has of it. Raises RegistryError,
    InputError, StoreError."""
    from podman_cvmfs.lists.source import from_registry
    from podman_cvmfs.names.reference import parse_name
    from podman_cvmfs.reports.image import config_of
    from podman_cvmfs.sync.newly_listed import blobs_of

    name = parse_name(min(image.published, default=""))
    layers = blobs_of(settings.store, image)
    diff_ids = config_of(settings.store, image).diff_ids
    if len(layers) != len(diff_ids):
        raise StoreError(f"the manifest and the config of {name} have different layers")
    found = []
    for layer, diff_id in zip(layers, diff_ids):
        digest = from_registry(kept, layer, diff_id, functools.partial(client.blob_stream, name))
        count = sum(1 for _ in kept.entries(digest))
        log.info("%s: %s: %d files", printable(str(name)), layer.digest.hex[:12], count)
        found.append({"layer": str(layer.digest), "list": digest, "files": count})
    return {"image": image.image_id, "name": str(name), "layers": found}
