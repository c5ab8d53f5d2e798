# SPDX-License-Identifier: Apache-2.0
"""``podman-cvmfs status``."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import datetime, timezone

import click

from podman_cvmfs.cli.options import DIRECTORY, setting, settings_given, text_or_json
from podman_cvmfs.cli.table import plain_table
from podman_cvmfs.errors import printable
from podman_cvmfs.reports.sources import content_of, target_of
from podman_cvmfs.reports.status import RepositoryStatus, Status, status_of
from podman_cvmfs.settings.advice import on_store
from podman_cvmfs.settings.policy import Policy
from podman_cvmfs.util.words import counted


@click.command("status")
@setting("store", "--store", type=DIRECTORY, help="The additional image store.")
@setting(
    "repositories",
    "--repository",
    type=DIRECTORY,
    multiple=True,
    help="The repository. Repeat it for more.",
)
@setting("cache", "--cache", type=DIRECTORY, help="The cache. It holds notes of the last sync.")
@text_or_json
def command(output: str) -> None:
    """Show the store's last sync, revisions, counts, and the next change that is due.

    To find errors in a store, use 'podman-cvmfs verify'.
    """
    settings = target_of(settings_given())
    status = status_of(settings, content_of(settings))
    if output == "json":
        click.echo(json.dumps(_as_data(status), indent=2))
    else:
        click.echo(_as_text(status, int(time.time())))


def _as_text(status: Status, now: int) -> str:
    rows = [["store", status.store]]
    if status.changed is None:
        rows.append(["", f"nothing has been synced yet: run '{on_store(status.store, 'sync')}'"])
    else:
        rows.append(
            ["last change", f"{_when(status.changed, now)}, to generation {_number(status)}"]
        )
    rows += _count_rows(status.counts)
    if status.changed is not None:
        other = status.policy != status.policy_wanted
        wanted = f"; the next sync lays out everything anew for: {_policy(status.policy_wanted)}"
        rows.append(["policy", _policy(status.policy) + (wanted if other else "")])
    if status.metadata or status.not_exact:
        rows.append(["exact view", status.not_exact or f"{status.metadata} bytes of metadata"])
    for each in status.repositories:
        rows.append(["repository", f"{each.path}: {_repository(each, status.cache, now)}"])
    if status.lists:
        allowed = f"of {_megabytes(status.lists_budget)} allowed"
        rows.append(["file lists", f"{_megabytes(status.lists)} {allowed}"])
    for due in status.due:
        rows.append(["due", f"{_when(due.when, now)}: {due.what}"])
    return plain_table([[printable(cell) for cell in row] for row in rows])


def _count_rows(counts: Mapping[str, int]) -> list[list[str]]:
    by_layers = counts["images"] - counts["flat"] - counts["exact"]
    views = f"{counts['flat']} by merged root, {by_layers} by layers"
    views += f", {counts['exact']} exactly" if counts["exact"] else ""
    made_up = f"{counts['synthesised']} with a synthesised config"
    rebuilt = f"{counts['rebuilt_manifests']} with a rebuilt manifest"
    images, layers = (
        counted(counts["retired_images"], "image"),
        counted(counts["retired_layers"], "layer"),
    )
    directories = counted(counts["retired_entries"], "directory", "directories")
    return [
        ["images", f"{counts['images']} with {counted(counts['names'], 'name')}; {views}"],
        ["", f"{made_up}, {rebuilt}"],
        ["layers", f"{counts['layers']}, {counts['advertised_layers']} of them found by pulls"],
        ["retired", f"{images}, {layers}, {directories}"],
    ]


def _repository(status: RepositoryStatus, cache: str, now: int) -> str:
    parts = [counted(status.images, "image")]
    if status.problem:
        parts.append(f"can't be read: {status.problem}")
    elif status.revision is not None:
        parts.append(f"revision {status.revision}")
    if status.synced is None:
        parts.append(f"the cache {cache} has no record of a complete sync")
    else:
        seen = "" if status.synced_revision is None else f" at revision {status.synced_revision}"
        parts.append(f"complete sync {_when(status.synced, now)}{seen}")
    return ", ".join(parts)


def _megabytes(size: int) -> str:
    return f"{-(-size // 1_000_000)} MB"


def _number(status: Status) -> str:
    return status.generation or "unknown"


def _policy(text: str) -> str:
    """A policy without the number of the layout."""
    policy = Policy.parse(text)
    return (text or "none") if policy is None else policy.choices


def _iso(seconds: int | None) -> str | None:
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return None


def _when(seconds: int, now: int) -> str:
    """A time in UTC and its distance from now."""
    distance = abs(now - seconds)
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if distance >= length:
            span = counted(distance // length, unit)
            break
    else:
        span = "less than a minute"
    return f"{_iso(seconds)} ({span} ago)" if seconds <= now else f"{_iso(seconds)} (in {span})"


def _as_data(status: Status) -> dict[str, object]:
    return {
        "store": status.store,
        "changed": _iso(status.changed),
        "generation": status.generation or None,
        "policy": status.policy,
        "policy_wanted": status.policy_wanted,
        "counts": dict(status.counts),
        "metadata_bytes": status.metadata,
        "repositories": [
            {
                "path": each.path,
                "images": each.images,
                "readable": not each.problem,
                "problem": each.problem or None,
                "revision": each.revision,
                "synced": _iso(each.synced),
                "synced_revision": each.synced_revision,
            }
            for each in status.repositories
        ],
        "lists": {"bytes": status.lists, "budget": status.lists_budget},
        "due": [{"when": _iso(each.when), "what": each.what} for each in status.due],
    }
