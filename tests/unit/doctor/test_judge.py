# SPDX-License-Identifier: Apache-2.0
"""Conclusions from facts: for healthy machines, for exit codes, and in their order."""

from __future__ import annotations

from dataclasses import replace

import pytest

from podman_cvmfs.doctor.facts import Engine, Facts, Place, Presence, Registries
from podman_cvmfs.doctor.finding import Level, failure, worst_first
from podman_cvmfs.doctor.judge.judges import judge
from tests.support.doctor_facts import (
    EFFECTIVE,
    FORMER,
    NAMED,
    ROOT,
    SHARED,
    STORE,
    USER,
    client,
    conf,
    contents,
    counts,
    options,
    other,
    repository,
    store,
)


@pytest.mark.parametrize(
    "facts",
    [conf(contents(by_layers=2), userns="keep-id"), contents(repository(USER, owners=(999,)))],
    ids=["namespace", "strange files"],
)
@pytest.mark.parametrize("laid_out", ["kernel", "fuse-overlayfs"])
def test_no_cure_takes_fuse_overlayfs_away_where_it_is_needed(facts: Facts, laid_out: str) -> None:
    facts = contents(facts, overlay=laid_out, by_layers=2)
    for used in ({}, {"mount_program": "/f"}):
        for each in judge(options(facts, **used)):
            assert "kernel" not in each.cure, each
    assert judge(options(contents(facts, overlay="fuse-overlayfs"), mount_program="/f")) == []


@pytest.mark.parametrize(
    "facts",
    [
        client(),
        client(one_directory=True, own=("/g",), others=("/h",)),
        options(client(own=("/g",)), mount_program="/f"),
    ],
    ids=["another file system", "one directory", "fuse-overlayfs"],
)
def test_starts_that_cannot_hang(facts: Facts) -> None:
    assert "starts-may-hang" not in {each.condition.name for each in judge(facts)}


def test_a_namespace_on_strange_files_is_no_fault() -> None:
    """A user's own store has local directories wherever a start writes."""
    found = judge(conf(repository(USER, owners=(999,)), userns="keep-id:uid=5"))
    assert {each.condition.name for each in found} == {"owner-kept"}


_PRIVATE = store(closed_at=(STORE,))
_HEALTHY = {
    "root": ROOT,
    "user": USER,
    "root alone": _PRIVATE,
    "shared": store(SHARED, is_open=True),
    "named": store(NAMED, is_open=True),
    # Nobody gets to it.
    # The policy tells it.
    "of a former layout": contents(faults=(FORMER,)),
    "open in a closed directory": store(is_open=True, closed_at=("/var",)),
    "root's, seen by a user": store(USER, is_open=True, owner=0),
}


@pytest.mark.parametrize("facts", _HEALTHY.values(), ids=_HEALTHY)
def test_the_healthy(facts: Facts) -> None:
    assert judge(facts) == []
    assert failure([]) is None


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        (replace(ROOT, engine=Engine(problem="none")), 1),
        (replace(ROOT, is_configured=False), 3),
        (repository(presence=Presence.MISSING), 4),
        (other(presence=Presence.MISSING), 5),
        (replace(ROOT, registries=Registries("bad")), 6),
        (counts(images=0), 7),
        (counts(retired_images=1), None),
        # Of several the first counts: what is to be cured first.
        (other(replace(ROOT, is_configured=False), presence=Presence.MISSING), 3),
    ],
)
def test_exit_code(facts: Facts, code: int | None) -> None:
    error = failure(judge(facts))
    assert (None if error is None else error.exit_code) == code


def test_a_session_older_than_the_end_of_its_store() -> None:
    """What a set-up that was undone since has told a session of comes before all else."""
    gone = Place("/gone", Presence.MISSING)
    session = {"STORAGE_OPTS": "overlay.imagestore=/gone"}
    effective = replace(EFFECTIVE, inherited=True, stores=("/gone",))
    facts = conf(USER, effective=effective, environment=session, profile="/etc/profile.d/p.sh")
    found = judge(replace(facts, is_configured=False, others=(gone,)))
    assert [(each.condition.name, each.cure) for each in found[:2]] == [
        ("store-missing", "unset STORAGE_OPTS"),
        ("login-needed", ". /etc/profile.d/p.sh"),
    ]
    (only,) = judge(replace(facts, store=replace(gone, owner=0)))
    assert (only.condition.name, only.cure) == ("store-missing", "unset STORAGE_OPTS")


@pytest.mark.parametrize(
    ("facts", "means"),
    [
        (repository(presence=Presence.MISSING), "containers of its images don't start"),
        (
            repository(contents(repositories=()), presence=Presence.MISSING),
            "podman pulls its images",
        ),
        (
            repository(contents(problem="?", repositories=()), presence=Presence.MISSING),
            "containers of its images don't start",
        ),
        (repository(contents(repositories=("/o",)), problem="I/O"), "podman pulls its images"),
    ],
)
def test_what_the_loss_of_a_repository_means(facts: Facts, means: str) -> None:
    (found,) = (each for each in judge(facts) if each.condition.name.startswith("repository-"))
    assert found.means.startswith(means)


def test_the_worst_comes_first() -> None:
    facts = counts(repository(presence=Presence.MISSING), images=0, retired_images=1)
    levels = [each.condition.level for each in worst_first(judge(facts))]
    assert levels == [Level.ERROR, Level.WARNING, Level.NOTE]


def test_images_that_are_hidden_while_their_repository_is_away_are_not_to_be_pruned() -> None:
    facts = repository(counts(retired_images=1), empty=True)
    (found,) = [each for each in judge(facts) if each.condition.name == "images-retired"]
    assert "prune" not in found.cure and "can't be read" in found.cure
    assert "shows them again" in found.means
