# SPDX-License-Identifier: Apache-2.0
"""``podman-cvmfs images``."""

from __future__ import annotations

import json
import logging

import click

from podman_cvmfs.cli.options import DIRECTORY, arch_option, setting, settings_given, stored_names
from podman_cvmfs.cli.table import show_table
from podman_cvmfs.reports.images import Row, State, catalogue, counts
from podman_cvmfs.reports.sources import (
    content_of,
    known_platform,
    offers_of,
    selection_of,
    target_of,
)
from podman_cvmfs.repository.offers import Offer
from podman_cvmfs.settings.files import Settings

log = logging.getLogger(__name__)

_HEADINGS = ("NAME", "IMAGE ID", "VIEW", "CONFIG", "MANIFEST", "STATE")
_COLOURS = {
    State.IN_STORE.value: "green",
    State.STALE.value: "yellow",
    State.GONE.value: "yellow",
    State.NOT_ASKED.value: "dim",
    State.UNKNOWN.value: "red",
    State.NOT_SYNCED.value: "cyan",
    State.NOT_WISHED.value: "dim",
    State.OTHER_PLATFORM.value: "dim",
    State.REFUSED.value: "red",
    "synthesised": "yellow",
    "unanswered": "yellow",
    "converted": "yellow",
    "moved": "yellow",
}


@click.command("images")
@click.argument("pattern", required=False, shell_complete=stored_names)
@setting("store", "--store", type=DIRECTORY, help="The additional image store.")
@setting(
    "repositories",
    "--repository",
    type=DIRECTORY,
    multiple=True,
    help="The repository. Repeat it for more, in order of preference.",
)
@arch_option
@click.option("--registry", is_flag=True, help="Also ask the registries whether tags have moved.")
@click.option(
    "--format",
    "output",
    type=click.Choice(["table", "json"]),
    default="table",
    help="Print a table, or a JSON array of objects.",
)
def command(
    pattern: str | None,
    registry: bool,
    output: str,
) -> None:
    """List the images of the repository and of the store.

    PATTERN is a glob on the names as podman writes them. Its * also matches slashes
    ('*/atlas/*').

    The state of a name is "in store", or one of these. In the store: "stale tag" if the
    repository now has another image under the name, and "gone from repository". In the
    repository only: "not synced", "not wished", "refused by policy" (podman's policy.json), and
    "other architecture". The name's repository can be "unreadable", or "not asked" if it is another
    one than the given ones.

    With --registry, the tag in the registry is the "same" as in the repository, or has "moved".
    """
    settings = target_of(settings_given())
    content = content_of(settings)
    selection = selection_of(settings)
    offers = offers_of(settings, content, selection)

    def runs(offer: Offer) -> bool:
        # Few wanted images aren't in the store. There may be 10,000 others, and a cold CernVM-FS
        # would fetch their configs one by one.
        known = known_platform(settings, offer, not selection.wants(offer.image.name))
        return known is None or settings.platform.runs(known)

    rows = catalogue(content, offers, selection, pattern, runs)
    upstream = _upstream(settings, rows) if registry else None
    if output == "json":
        data = [_as_data(row) for row in rows]
        for entry, state in zip(data, upstream or ()):
            entry["registry"] = state
        click.echo(json.dumps(data, indent=2))
    elif rows:
        headings, cells = list(_HEADINGS), [list(_cells(row)) for row in rows]
        if upstream is not None:
            headings.append("REGISTRY")
            cells = [[*row, state] for row, state in zip(cells, upstream)]
        click.echo(show_table(headings, cells, _COLOURS))
    for rule in sorted({row.refusal for row in rows if row.refusal}):
        log.info("%s", rule)
    log.info("%s", ", ".join(f"{n} {state.value}" for state, n in counts(rows).items()) or "none")


def _upstream(settings: Settings, rows: list[Row]) -> list[str]:
    from podman_cvmfs.registry.client import RegistryClient
    from podman_cvmfs.reports.upstream import upstream

    patience = settings.registries

    def client() -> RegistryClient:
        return RegistryClient(
            timeout=patience.timeout, retries=patience.retries, max_pause=patience.max_pause
        )

    return [state.value for state in upstream(rows, client, settings.platform)]


def _cells(row: Row) -> tuple[str, ...]:
    image = row.stored
    view, manifest = ("", "") if image is None else (image.view, image.manifest_origin)
    cells = (row.name, row.image_id[:12], view, row.config, manifest, row.state.value)
    return tuple(cell or "-" for cell in cells)


def _as_data(row: Row) -> dict[str, object]:
    image, offer = row.stored, row.offer
    return {
        "name": row.name,
        "state": row.state.value,
        "refusal": row.refusal or None,
        "id": row.image_id,
        "repository": row.repository,
        "repository_id": None if offer is None else offer.image.image_id.hex,
        "source_id": None if image is None else image.source_id,
        "architecture": (image.platform or None) if image is not None else None,
        "view": None if image is None else image.view,
        "config": row.config or None,
        "config_origin": None if image is None else image.config_origin,
        "manifest": None if image is None else image.manifest_origin,
    }
