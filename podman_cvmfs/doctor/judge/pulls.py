# SPDX-License-Identifier: Apache-2.0
"""Judges what pulls and syncs ask: registries.conf, policy.json, the blob sources. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from podman_cvmfs.doctor.conditions import CONDITIONS
from podman_cvmfs.doctor.facts import Facts
from podman_cvmfs.doctor.finding import Finding
from podman_cvmfs.errors import printable
from podman_cvmfs.util.words import counted

_NO_OTHERS = "a sync puts no such image into the store"


def registries(facts: Facts) -> Iterator[Finding]:
    """registries.conf."""
    conf = facts.registries
    if conf.problem:
        hint = conf.hint or "correct the file"
        yield Finding(CONDITIONS["registries-conf-broken"], conf.problem, hint, by_hand=True)
    if conf.blocked:
        name = next(iter(conf.blocked))
        yield Finding(
            CONDITIONS["registry-blocked"],
            f"{counted(len(conf.blocked), 'name')} of the store, such as {printable(name)}",
            "nothing, if registries.conf should block this registry; otherwise change that file",
            by_hand=True,
        )


def policy(facts: Facts) -> Iterator[Finding]:
    """policy.json: a sync refuses the images that podman wouldn't pull."""
    rules = facts.policy
    if rules.problem:
        hint = rules.hint or "correct the file"
        yield Finding(CONDITIONS["policy-json-broken"], rules.problem, hint, by_hand=True)
        return
    path = printable(rules.path)
    change = f"if podman should take these images, change {path}; otherwise run 'podman-cvmfs sync'"
    ignore = f'put signatures = "ignored" into {printable(rules.settings_file)}, or change {path}'
    for name, refused, others, cure in (
        ("images-rejected", rules.rejected, rules.rejects_others, change),
        ("images-unsigned", rules.unsigned, rules.mistrusts_others, ignore),
    ):
        if refused:
            yield Finding(CONDITIONS[name], _refused(refused), cure, by_hand=True)
        elif others and not facts.contents.images:
            yield Finding(CONDITIONS[name], others, cure, by_hand=True, here=_NO_OTHERS)


def _refused(rules: Mapping[str, str]) -> str:
    name, rule = next(iter(rules.items()))
    return f"{counted(len(rules), 'name')} of the store, such as {printable(name)}: {rule}"


def blob_sources(facts: Facts) -> Iterator[Finding]:
    """Whether the site's blob sources answer, and have the right bytes."""
    for each in facts.blob_sources:
        place = printable(each.place)
        if each.problem:
            cure = "mend the server or mount the directory, or take it out of blob_sources"
            found = f"{place}: {each.problem}"
            yield Finding(CONDITIONS["blob-source-down"], found, cure, by_hand=True)
        elif each.wrong:
            cure = "remove that file there, and export a cache there again"
            found = f"{place} has another content under the digest {each.wrong[0]}"
            yield Finding(CONDITIONS["blob-source-wrong"], found, cure, by_hand=True)
