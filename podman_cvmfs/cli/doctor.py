# SPDX-License-Identifier: Apache-2.0
"""``podman-cvmfs doctor``."""

from __future__ import annotations

import json
import logging
import os

import click

from podman_cvmfs.cli.options import DIRECTORY, setting, settings_given, text_or_json
from podman_cvmfs.cli.table import plain_table
from podman_cvmfs.doctor.facts import Facts, Presence
from podman_cvmfs.doctor.finding import Finding, Level, count, failure
from podman_cvmfs.doctor.judge.judges import judge
from podman_cvmfs.doctor.look.gather import gather
from podman_cvmfs.doctor.mounting import mount_program
from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.reports.sources import target_of
from podman_cvmfs.util.words import counted

log = logging.getLogger(__name__)


@click.command("doctor")
@click.option(
    "--user/--system",
    "for_user",
    default=None,
    help="Examine your own store, or the whole machine's. Default: your own if "
    "there is one. Root always examines the machine's.",
)
@setting("store", "--store", type=DIRECTORY, help="The additional image store to examine.")
@setting(
    "repositories",
    "--repository",
    type=DIRECTORY,
    multiple=True,
    help="The repository. Repeat it for more.",
)
@setting("cache", "--cache", metavar="DIR", help="The cache. It holds notes of the last sync.")
@click.option(
    "--wait",
    "seconds",
    metavar="SECONDS",
    type=click.FloatRange(0.1, 600),
    default=10,
    show_default=True,
    help="How long to wait for each file system before it counts as hanging.",
)
@text_or_json
def command(
    for_user: bool | None,
    seconds: float,
    output: str,
) -> None:
    """Find why podman fails or is slow with the store, and print the command that cures it.

    It looks at podman, its configuration, the store, the repositories and the machine, as the
    user who runs it. It changes nothing. For each finding it prints the meaning and the cure.
    To examine the store itself in full, use 'podman-cvmfs verify'.

    Exit code: 0 if there are only notes, 7 if there are warnings and no errors. With errors it
    is the code of the worst one: 1 podman or the machine, 3 podman's configuration, 4 a
    repository, 5 a store, 6 registries.conf.
    """
    if for_user and os.geteuid() == 0:
        raise InputError(
            "root examines the whole machine", "run it as the user whose podman you mean"
        )
    settings = target_of(settings_given(), for_user)
    facts = gather(settings, seconds)
    findings = judge(facts)
    if output == "json":
        click.echo(json.dumps(_as_data(facts, findings), indent=2))
    else:
        click.echo(_as_text(facts, findings))
    log.info("%s", _summary(findings))
    error = failure(findings)
    if error is not None:
        raise error


def _as_text(facts: Facts, findings: list[Finding]) -> str:
    rows = [[printable(cell) for cell in row] for row in _overview(facts)]
    lines = [plain_table(rows)]
    for each in findings:
        kind = each.condition
        lines.append(f"{kind.level.value}: {kind.name}: {each.found}\n  means: {each.means}")
        if each.cure:
            lines.append(f"  cure: {printable(each.cure)}")
    return "\n".join(lines)


def _overview(facts: Facts) -> list[list[str]]:
    """The examined things, in a few lines."""
    conf, engine = facts.configuration, facts.engine
    library = facts.native.version or ("1.63 or later" if engine.drop_ins else "before 1.63")
    version = f"{engine.version}, containers/storage {library}" if engine.version else "none"
    mounts = mount_program(facts) or "the kernel"
    rows = [
        ["podman", version],
        *([["CRI-O", _crio(facts)]] if facts.crio.is_there else []),
        ["configuration", ", ".join(conf.effective.files) or "podman's built-in defaults"],
        ["driver", f"{engine.driver or conf.driver}, mounted by {mounts}"],
        *(["variable", f"{name}={value}"] for name, value in conf.environment.items()),
        ["store", f"{facts.store.path}: {_state(facts)}"],
    ]
    rows += [["other store", f"{each.path}: {each.presence.value}"] for each in facts.others]
    for each in facts.repositories:
        parts = [each.problem or each.presence.value]
        if each.revision is not None:
            parts.append(f"revision {each.revision}")
        if each.owners:
            parts.append(f"files belong to user {' and '.join(map(str, each.owners))}")
        rows.append(["repository", f"{each.path}: {', '.join(parts)}"])
    native = facts.native.problem or f"asked ({facts.native.version})"
    rows.append(["native library", native])
    rows.append(["systemd", _units(facts)])
    return rows


def _crio(facts: Facts) -> str:
    if facts.crio.problem:
        return "its configuration can't be read"
    return "uses the store" if facts.crio.has_store else "doesn't use the store"


def _state(facts: Facts) -> str:
    parts = [facts.store.presence.value]
    if facts.store.presence is Presence.THERE:
        parts.append(counted(facts.contents.images, "image"))
    parts.append("podman uses it" if facts.is_configured else "podman doesn't use it")
    return ", ".join(parts)


def _units(facts: Facts) -> str:
    if not facts.units.known:
        return "doesn't run here, or can't be asked"
    active = (f"{name} {state.get('ActiveState')}" for name, state in facts.units.states.items())
    return ", ".join(active) or "no unit of podman-cvmfs is installed"


def _summary(findings: list[Finding]) -> str:
    counts = (counted(count(findings, level), level.value) for level in Level)
    return ", ".join(counts)


def _as_data(facts: Facts, findings: list[Finding]) -> dict[str, object]:
    conf = facts.configuration
    return {
        "podman": facts.engine.version or None,
        "crio": facts.crio.has_store if facts.crio.is_there else None,
        "storage_library": facts.native.version or None,
        "configuration": list(conf.effective.files),
        "driver": facts.engine.driver or conf.driver,
        "mount_program": mount_program(facts) or None,
        "additional_stores": list(conf.effective.stores),
        "store": {
            "path": facts.store.path,
            "state": facts.store.presence.value,
            "configured": facts.is_configured,
            "images": facts.contents.images,
        },
        "repositories": [
            {
                "path": each.path,
                "state": each.presence.value,
                "problem": each.problem or None,
                "revision": each.revision,
                "synced_revision": each.synced_revision,
                "owners": list(each.owners),
            }
            for each in facts.repositories
        ],
        "findings": [
            {
                "condition": each.condition.name,
                "level": each.condition.level.value,
                "area": each.condition.area.value,
                "found": each.found,
                "means": each.means,
                "cure": each.cure or None,
                "is_command": bool(each.cure) and not each.by_hand,
            }
            for each in findings
        ],
    }
