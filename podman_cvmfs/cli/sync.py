# SPDX-License-Identifier: Apache-2.0
"""``podman-cvmfs sync``."""

from __future__ import annotations

import json
import logging

import click

from podman_cvmfs import paths
from podman_cvmfs.blobcache import BlobCache
from podman_cvmfs.config_ladder import ConfigSource
from podman_cvmfs.errors import PartialError, PodmanCvmfsError, printable
from podman_cvmfs.policy import Overlay, Policy, Reuse, View
from podman_cvmfs.store.store import Store
from podman_cvmfs.sync import SyncReport, sync
from podman_cvmfs.unpacked import Repository

log = logging.getLogger(__name__)


@click.command("sync")
@click.argument("images", metavar="[IMAGE]...", nargs=-1)
@click.option(
    "--repository",
    metavar="DIR",
    default=paths.REPOSITORY,
    show_default=True,
    help="The unpacked repository.",
)
@click.option("--store", metavar="DIR", help="The additional image store to write.")
@click.option("--cache", metavar="DIR", help="Where blobs fetched from registries are kept.")
@click.option(
    "--view",
    type=click.Choice([each.value for each in View]),
    default=View.AUTO.value,
    show_default=True,
    help="Show images by the merged root, by their layers, or by what there is.",
)
@click.option(
    "--reuse",
    type=click.Choice([each.value for each in Reuse]),
    default=Reuse.BASE.value,
    show_default=True,
    help="Which layers pulls of other images may take from the store.",
)
@click.option(
    "--overlay",
    type=click.Choice([each.value for each in Overlay]),
    default=Overlay.KERNEL.value,
    show_default=True,
    help="What podman mounts the store's layers with.",
)
@click.option("--offline", is_flag=True, help="Ask no registry.")
@click.option(
    "--format",
    "output",
    type=click.Choice(["text", "json"]),
    default="text",
    help="Print what was done as JSON on standard output.",
)
def command(
    images: tuple[str, ...],
    repository: str,
    store: str | None,
    cache: str | None,
    view: str,
    reuse: str,
    overlay: str,
    offline: bool,
    output: str,
) -> None:
    """Generate the additional image store: for all images of the repository, which then is all
    the store holds, or to add the IMAGEs named.

    podman finds the images once the store is among the additionalimagestores in storage.conf.
    """
    target = Store(store or paths.default_store())
    report = sync(
        Repository(repository),
        target,
        BlobCache(cache or paths.default_cache()),
        None if offline else _registry,
        images,
        Policy(View(view), Reuse(reuse), Overlay(overlay)),
    )
    if output == "json":
        click.echo(json.dumps(_as_data(report, target), indent=2, sort_keys=True))
    _tell(report, target)
    if report.failed:
        errors = list(report.failed.values())
        done = report.images or report.changed
        if len(errors) == 1 and (images or not done):
            raise errors[0]
        raise PartialError(f"{len(errors)} of the images could not be done")


def _registry() -> ConfigSource:
    from podman_cvmfs.registry import RegistryClient

    return RegistryClient()


def _as_data(report: SyncReport, store: Store) -> dict[str, object]:
    return {
        "store": store.path,
        "images": report.images,
        "synthesised": report.synthesised,
        "changed": report.changed,
        "added": list(report.added),
        "removed": list(report.removed),
        "moved": list(report.moved),
        "failed": {name: _as_text(err) for name, err in report.failed.items()},
    }


def _as_text(error: PodmanCvmfsError) -> str:
    return f"{error.message} ({error.hint})" if error.hint else error.message


def _tell(report: SyncReport, store: Store) -> None:
    for name in report.added:
        log.debug("added %s", name)
    for name in report.moved:
        log.debug("moved %s to another image", name)
    for name in report.removed:
        log.info("removed %s", name)
    for name, error in report.failed.items():
        text = _as_text(error)
        log.warning("failed %s", text if name in text else f"{printable(name)}: {text}")
    made_up = f", {report.synthesised} with a synthesised config" if report.synthesised else ""
    log.info(
        "%s: %d images%s; %d names added, %d moved, %d removed, %d failed%s",
        store.path,
        report.images,
        made_up,
        len(report.added),
        len(report.moved),
        len(report.removed),
        len(report.failed),
        "" if report.changed else "; nothing changed",
    )
