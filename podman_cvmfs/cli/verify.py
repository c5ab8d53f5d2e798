# SPDX-License-Identifier: Apache-2.0
"""``podman-cvmfs verify``."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from podman_cvmfs.cli.options import setting, settings_given, store_options, text_or_json
from podman_cvmfs.errors import PartialError, PodmanCvmfsError, StoreError, printable
from podman_cvmfs.reports.sources import target_of
from podman_cvmfs.settings import advice
from podman_cvmfs.settings.files import Settings
from podman_cvmfs.util.words import counted
from podman_cvmfs.verify.broken import broken_users
from podman_cvmfs.verify.fault import Fault, Kind, Severity
from podman_cvmfs.verify.store import Verdict, verify

if TYPE_CHECKING:
    from podman_cvmfs.sync.report import SyncReport

log = logging.getLogger(__name__)


@click.command("verify")
@store_options
@click.option("--repair", is_flag=True, help="Repair the store, from the repository if necessary.")
@setting("offline", "--offline", is_flag=True, default=None, help="With --repair: ask no registry.")
@click.option(
    "--merged-roots",
    is_flag=True,
    help="Also compare the merged roots that images are shown by with their layers.",
)
@click.option("--native", is_flag=True, help="Also ask the library that podman itself uses.")
@text_or_json
def command(
    repair: bool,
    merged_roots: bool,
    native: bool,
    output: str,
) -> None:
    """Check the whole store, without podman and without changing anything.

    Root's store is checked if an ordinary user has no own store. Each error and warning is
    printed with its path and its cure. Errors end the command with exit code 5. Warnings don't.

    The command also finds images and containers of users that show the files of one layer as
    their whole root. Stores of earlier versions caused that.

    --merged-roots finds files that the publisher has lost while it merged an image's layers.

    --repair keeps what is right and makes the rest anew from the repository. All other options
    except --store, --merged-roots and --native are for --repair. The layout of the store stays as
    it is, if it can still be read. The remaining errors are printed.
    """
    settings = settings_given()
    if not repair:
        settings = target_of(settings)
    verdict = verify(settings.store)
    report = None
    if repair and verdict.findings:
        for finding in verdict.findings:
            log.info("found %s: %s: %s", finding.severity.value, finding.path, finding.what)
        report = _repair(settings, verdict)
        verdict = verify(settings.store)
    findings = [
        *verdict.findings,
        *broken_users(settings.store, settings.graphroots),
        *(_compare(settings) if merged_roots else ()),
        *(_ask_library(settings.store) if native else ()),
    ]
    _print(settings.store, findings, report, output)
    errors = sum(finding.severity is Severity.ERROR for finding in findings)
    if errors:
        raise StoreError(f"{counted(errors, 'error')} in the store {printable(settings.store)}")
    if report is not None and report.failed:
        raise PartialError(f"{counted(len(report.failed), 'image')} could not be restored")


def _repair(settings: Settings, verdict: Verdict) -> SyncReport:
    from podman_cvmfs.sync.from_settings import request_of
    from podman_cvmfs.verify.repair import repair

    request, warnings = request_of(settings, ())
    for warning in warnings:
        log.warning("%s", warning)
    report = repair(verdict, request)
    for name, error in report.failed.items():
        log.warning("lost %s: %s", printable(name), error.message)
    return report


def _compare(settings: Settings) -> Iterator[Fault]:
    from podman_cvmfs.lists.catalogues import Catalogues
    from podman_cvmfs.lists.kept import KeptLists
    from podman_cvmfs.reports.sources import content_of
    from podman_cvmfs.verify.merged_roots import compare_merged_roots

    kept = KeptLists(settings.cache, settings.lists_budget)
    content = content_of(settings)
    return compare_merged_roots(settings.store, content, kept, Catalogues(settings.cache))


def _ask_library(store: str) -> list[Fault]:
    """The faults that the real library finds. Raises Unavailable without the library."""
    from podman_cvmfs.storage_native import Unavailable
    from podman_cvmfs.verify.native import verify_native

    try:
        _, sentences = verify_native(store)
    except Unavailable:
        raise
    except PodmanCvmfsError as err:
        # The library can't load the store.
        sentences = [err.message]
    place = printable(store)
    return [
        Fault(Severity.ERROR, Kind.NATIVE, place, printable(text), advice.repair_of(store))
        for text in sentences
    ]


def _print(store: str, findings: list[Fault], report: SyncReport | None, output: str) -> None:
    if output == "json":
        document: dict[str, object] = {
            "store": store,
            "findings": [asdict(finding) for finding in findings],
        }
        if report is not None:
            document["repaired"] = True
            document["lost"] = sorted(report.failed)
        click.echo(json.dumps(document, indent=2))
        return
    for each in findings:
        click.echo(f"{each.severity.value}: {each.path}: {each.what}\n  cure: {each.cure}")
    warnings = sum(each.severity is Severity.WARNING for each in findings)
    done = "" if report is None else "mended; "
    log.info(
        "%s: %s%s, %s",
        printable(store),
        done,
        counted(len(findings) - warnings, "error"),
        counted(warnings, "warning"),
    )
