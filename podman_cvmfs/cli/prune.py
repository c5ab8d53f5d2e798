# SPDX-License-Identifier: Apache-2.0
"""``podman-cvmfs prune``."""

from __future__ import annotations

import json
import logging

import click

from podman_cvmfs.cli.options import DIRECTORY, setting, settings_given, text_or_json
from podman_cvmfs.errors import printable

log = logging.getLogger(__name__)

#: So many reasons are printed; JSON output has all of them.
_SHOWN = 3


@click.command("prune")
@setting("store", "--store", type=DIRECTORY, help="The additional image store.")
@click.option(
    "--dry-run", is_flag=True, help="Only print what would be removed, what would be kept, and why."
)
@click.option(
    "--grace",
    type=click.IntRange(0, 3650),
    metavar="DAYS",
    help="Remove a layer so many days after its image has left the store. Default:"
    " the settings' grace_days.",
)
@click.option(
    "--graphroot",
    "graphroots",
    type=DIRECTORY,
    multiple=True,
    help="Also look for containers and images in this graphroot. Repeat it for more.",
)
@text_or_json
def command(
    dry_run: bool,
    grace: int | None,
    graphroots: tuple[str, ...],
    output: str,
) -> None:
    """Remove layers and records of images that have left the store.

    An image that leaves the store loses its names at once. Its layers stay for a grace period,
    and as long as containers, pulled images, or images built on them need them. The command
    looks for these in the graphroots of root (or the caller), of all users of this machine, in
    graphroots that the settings name, and in the given ones. If the caller's graphroot or a given
    one can't be read, nothing is removed. If another user's can't be read, it is only reported.
    """
    from podman_cvmfs.plan.retirement import grace_of
    from podman_cvmfs.store.store import Store
    from podman_cvmfs.usage.prune import prune

    settings = settings_given()
    target = Store(settings.store)
    seconds = grace_of(settings.grace_days if grace is None else grace)
    report = prune(target, seconds, graphroots, dry_run, patterns=settings.graphroots)
    for path, reason in sorted(report.unreadable.items()):
        log.warning("can't read which layers %s uses: %s", printable(path), printable(reason))
    staying = [each for each in report.verdicts if each.stays]
    going = [each for each in report.verdicts if not each.stays]
    if output == "json":
        data = {
            "store": target.path,
            "dry_run": dry_run,
            "changed": report.changed,
            "graphroots": report.graphroots,
            "unreadable": report.unreadable,
            "retired": [
                {
                    "kind": each.kind,
                    "name": each.name,
                    "retired": each.retired,
                    "vanished": each.vanished,
                    "stays": each.stays,
                    "reasons": list(each.reasons),
                }
                for each in report.verdicts
            ],
        }
        click.echo(json.dumps(data, indent=2))
    elif dry_run:
        for each in report.verdicts:
            what = f"{each.kind} {each.name if each.kind == 'entry' else each.name[:12]}"
            gone = " (the repository has no files for it)" if each.vanished else ""
            click.echo(f"{what}{gone}: {_reasons(each.reasons)}")
    log.info(
        "%s: %d %s, %d kept",
        target.path,
        len(going),
        "would be removed" if dry_run else "removed",
        len(staying),
    )


def _reasons(reasons: tuple[str, ...]) -> str:
    if not reasons:
        return "would be removed"
    more = f", and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
    return f"kept: {', '.join(reasons[:_SHOWN])}{more}"
