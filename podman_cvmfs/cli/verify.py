# SPDX-License-Identifier: Apache-2.0
"""``podman-cvmfs verify``."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence

import click

from podman_cvmfs.cli.options import text_or_json
from podman_cvmfs.errors import StoreError, printable
from podman_cvmfs.settings import load_settings
from podman_cvmfs.verify.finding import Finding, Severity
from podman_cvmfs.verify.store import verify

log = logging.getLogger(__name__)


@click.command("verify")
@click.option("--store", metavar="DIR", help="The additional image store to examine.")
@text_or_json
def command(store: str | None, output: str) -> None:
    """Examine the whole store, without podman and without changing anything.

    Each thing that is wrong is printed with its path and what cures it. Errors end the command with
    exit code 5; warnings don't.
    """
    settings = load_settings({"store": store})
    verdict = verify(settings.store)
    _print(settings.store, verdict.findings, output)
    if verdict.errors:
        raise StoreError(f"{verdict.errors} errors in the store {printable(settings.store)}")


def _print(store: str, findings: Sequence[Finding], output: str) -> None:
    if output == "json":
        data = [
            {
                "severity": each.severity.value,
                "path": each.path,
                "what": each.what,
                "cure": each.cure,
            }
            for each in findings
        ]
        click.echo(json.dumps({"store": store, "findings": data}, indent=2))
        return
    for each in findings:
        click.echo(f"{each.severity.value}: {each.path}: {each.what}\n  cure: {each.cure}")
    warnings = sum(each.severity is Severity.WARNING for each in findings)
    log.info("%s: %d errors, %d warnings", printable(store), len(findings) - warnings, warnings)
