# SPDX-License-Identifier: Apache-2.0
"""``podman-cvmfs prune``."""

from __future__ import annotations

import json
import logging

import click

from podman_cvmfs.cli.options import DIRECTORY, setting, settings_given, text_or_json
from podman_cvmfs.errors import printable

log = logging.getLogger(__name__)

_DAY = 24 * 3600
#: So many reasons are printed; JSON has them all.
_SHOWN = 3


@click.command("prune")
@setting("store", "--store", type=DIRECTORY, help="The additional image store.")
@click.option("--dry-run", is_flag=True, help="Only say what stays, why, and what would go.")
@click.option(
    "--grace",
    type=click.IntRange(0, 3650),
    metavar="DAYS",
    help="How long ago images must have left what is to go.",
)
@click.option(
    "--graphroot",
    "graphroots",
    type=DIRECTORY,
    multiple=True,
    help="Also look for containers and images here.",
)
@text_or_json
def command(
    dry_run: bool,
    grace: int | None,
    graphroots: tuple[str, ...],
    output: str,
) -> None:
    """Remove what images have left in the store: their layers, and their records, which lose
    their names at once.

    It stays for a grace period, and as long as containers, pulled images, or images built on them
    need it. These are looked for in the graphroots of root (or the caller), of all users of this
    machine, and in those named. If the caller's own or one that was named can't be read, everything
    stays; another user's is only reported.
    """
    from podman_cvmfs.store.store import Store
    from podman_cvmfs.usage.prune import prune

    settings = settings_given()
    target = Store(settings.store)
    seconds = (settings.grace_days if grace is None else grace) * _DAY
    report = prune(target, seconds, graphroots, dry_run)
    for path, reason in sorted(report.unreadable.items()):
        log.warning("can't tell what %s uses: %s", printable(path), printable(reason))
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
        "%s: %d %s, %d stay",
        target.path,
        len(going),
        "would go" if dry_run else "removed",
        len(staying),
    )


def _reasons(reasons: tuple[str, ...]) -> str:
    if not reasons:
        return "would go"
    more = f", and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
    return f"stays: {', '.join(reasons[:_SHOWN])}{more}"
