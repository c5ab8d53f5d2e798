# SPDX-License-Identifier: Apache-2.0
"""``podman-cvmfs why``."""

from __future__ import annotations

import json
import shutil
import sys

import click

from podman_cvmfs.cli.options import (
    DIRECTORY,
    arch_option,
    setting,
    settings_given,
    stored_names,
    text_or_json,
)
from podman_cvmfs.errors import printable
from podman_cvmfs.podman.crio_conf import has_crio
from podman_cvmfs.reports.configured import PODMAN, configured_in_crio
from podman_cvmfs.reports.evidence import Evidence, gather
from podman_cvmfs.reports.sources import target_of
from podman_cvmfs.reports.why import Answer, judge


@click.command("why")
@click.argument("image", shell_complete=stored_names)
@setting("store", "--store", type=DIRECTORY, help="The additional image store.")
@setting(
    "repositories",
    "--repository",
    type=DIRECTORY,
    multiple=True,
    help="The repository. Repeat it for more, in order of preference.",
)
@arch_option
@click.option(
    "--crio",
    is_flag=True,
    help="Say what CRI-O will do with it in a pod. Default: on a machine without podman.",
)
@text_or_json
def command(
    image: str,
    crio: bool,
    output: str,
) -> None:
    """Say what 'podman run IMAGE' will do, and why.

    IMAGE is a name, with or without its registry, or an ID, as you would give it to podman. It
    is a hit if podman, run by the same user, starts the image from the store without a pull.
    The answer also says if the tag is stale or the configuration synthesised.

    Exit code 0 for a hit, 1 for a miss.
    """
    settings = target_of(settings_given())
    crio = crio or (has_crio() and shutil.which("podman") is None)
    evidence = gather(image, settings, configured_in_crio(settings.store) if crio else None)
    answer = judge(evidence)
    if output == "json":
        click.echo(json.dumps(_as_data(evidence, answer), indent=2))
    else:
        click.echo(_as_text(image, answer, "CRI-O" if crio else "podman run"))
    # A miss is an answer, not an error, so no error is printed.
    sys.exit(0 if answer.hit else 1)


def _as_text(image: str, answer: Answer, engine: str) -> str:
    lines = [f"{printable(image)}: {'hit' if answer.hit else 'miss'}"]
    for reason in answer.reasons:
        lines.append(f"  - {reason.text}")
        if reason.cure:
            lines.append(f"    -> {reason.cure}")
    lines.append(f"{engine} {answer.podman_run}")
    return "\n".join(lines)


def _as_data(evidence: Evidence, answer: Answer) -> dict[str, object]:
    offer = evidence.offer
    return {
        "image": evidence.asked,
        "hit": answer.hit,
        "id": answer.image_id,
        "names": list(evidence.names),
        "found_as": evidence.found_as or None,
        "store": evidence.store,
        "repository_id": None if offer is None else offer.image.image_id.hex,
        "reasons": [
            {"code": each.code.value, "text": each.text, "cure": each.cure}
            for each in answer.reasons
        ],
        ("podman_run" if evidence.configured.engine == PODMAN else "crio"): answer.podman_run,
    }
