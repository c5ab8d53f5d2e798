# SPDX-License-Identifier: Apache-2.0
"""Let each call of a sync fail with each error: what it writes, and what it reads."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable
from pathlib import Path

from tests.crash.calls import MODIFYING, READING, Call
from tests.crash.kills import BEGUN, Counter, Result, modifies
from tests.crash.stage import Scenario, Stage
from tests.crash.supervise import Outcome, supervise
from tests.support.picture import differences, documents, faults, picture

#: What writing to a disk can end with, and reading from a network's file system.
WRITE_ERRORS = ("ENOSPC", "EDQUOT", "EROFS", "EIO", "EACCES", "EINTR")
READ_ERRORS = ("EIO", "ENOTCONN", "ESTALE", "EACCES", "ENOENT")

_STORE_ERROR = 5
_RETIRED = "retired.podman-cvmfs.invalid/"
#: Some images failed, or all did; the repository can't be read.
_REPOSITORY_CODES = (0, 4, 5, 7)


def _told_badly(outcome: Outcome) -> list[str]:
    """What is wrong with how an error is told: it must be one line, with one for a hint."""
    lines = [f"it hung: {outcome.output}"] if outcome.hung else []
    errors = [x for x in outcome.output.splitlines() if x.startswith("podman-cvmfs: error: ")]
    if "Traceback" in outcome.output or len(errors) != (outcome.code != 0):
        lines.append(f"exit code {outcome.code} and this output: {outcome.output}")
    return lines


def fail_writes(
    stage: Stage, scenario: Scenario, errors: Iterable[str], *, step: int = 1, onwards: bool = False
) -> Result:
    """Let the sync of a scenario fail at every modifying call, or each ``step``-th, with each error
    in turn; ``onwards`` lets all later ones fail, too.

    It must say so and leave the store as it was, or go on and do all; the next sync must do the
    rest.
    """
    stage.begin(scenario)
    old = documents(stage.target.store)
    code, output = stage.sync_here(scenario.now)
    assert code == 0, output
    wanted, new = picture(stage.target.store), documents(stage.target.store)
    # What an error leaves of an empty directory: the frame of a store, without a generation.
    stage.begin(scenario)
    untouched = _part_that_counts(stage.target.store)
    result = Result(f"{scenario.name}, errors{' onwards' if onwards else ''}")
    rotation = list(errors)
    while True:
        hit = False
        # With a step, the errors take turns; else each call gets each of them.
        turn = result.runs % len(rotation)
        for error in [rotation[turn]] if step > 1 else rotation:
            stage.begin(scenario)
            number = getattr(errno, error)
            counter = Counter(modifies(stage), result.calls + step, number, onwards=onwards)
            outcome = supervise(stage.command(scenario.now), calls=MODIFYING, decide=counter)
            hit = hit or bool(counter.hit)
            if not counter.hit:
                continue
            result.runs += 1
            found = _told_badly(outcome) + faults(stage.target.store)
            seen = documents(stage.target.store)
            if outcome.code == 0 and seen != new:
                found.append("exit code 0, but the store is not the new one")
            if outcome.code != 0:
                if outcome.code != _STORE_ERROR:
                    found.append(f"exit code {outcome.code}: {outcome.output}")
                # A sync may fail after the change: keeping the stamp, telling the result.
                allowed = [new] if "cache" in outcome.output else [old]
                if onwards and not all(old):
                    allowed += BEGUN
                if seen not in allowed:
                    found.append(f"the store has changed: {outcome.output}")
                elif seen == old and not onwards:
                    found += differences(untouched, _part_that_counts(stage.target.store))
            stage.forget()
            code, output = stage.sync_here(scenario.now)
            if code != 0:
                found.append(f"the next sync gives {code}: {output}")
            found += differences(wanted, picture(stage.target.store))
            result.problems += [
                f"{result.calls + step} {error} {counter.hit}: {each}" for each in found
            ]
        if not hit:
            return result
        result.calls += step


def _part_that_counts(store: Path) -> dict[str, tuple[int, int, bytes]]:
    """The picture without what is not part of what the store holds: the frame of directories and
    lock files, and the generation before the current one."""
    parts = ("pool/layers/", "pool/images/", ".current.", "overlay")
    whole = picture(store)
    return {path: each for path, each in whole.items() if path.startswith(parts)}


def fail_reads(
    stage: Stage, scenario: Scenario, errors: Iterable[str], *, step: int = 1, onwards: bool = False
) -> Result:
    """The same for every call that reads the repository: no image may be lost."""
    stage.begin(scenario)
    code, output = stage.sync_here(scenario.now)
    assert code == 0, output
    after = offered(stage.target.store)
    before = offered(stage.saved(scenario.start))
    result = Result(f"{scenario.name}, read errors{' onwards' if onwards else ''}")
    repository = str(stage.target.repository)

    def counts(call: Call) -> bool:
        return call.reads and call.path().startswith(repository)

    rotation = list(errors)
    while True:
        hit = False
        turn = result.runs % len(rotation)
        for error in [rotation[turn]] if step > 1 else rotation:
            stage.begin(scenario)
            number = getattr(errno, error)
            counter = Counter(counts, result.calls + step, number, onwards=onwards)
            outcome = supervise(
                stage.command(scenario.now), calls=READING | {"syncfs"}, decide=counter
            )
            hit = hit or bool(counter.hit)
            if not counter.hit:
                continue
            result.runs += 1
            found = _told_badly(outcome) + faults(stage.target.store)
            if outcome.code not in _REPOSITORY_CODES:
                found.append(f"exit code {outcome.code}: {outcome.output}")
            seen = offered(stage.target.store)
            for name in before.keys() & after.keys() - seen.keys():
                # What vanishes by itself between listing and reading is withdrawn.
                if not (error == "ENOENT" and not onwards and f"/{name})" in counter.hit):
                    found.append(f"{name} is lost: {outcome.output}")
            for name, image in seen.items():
                # A config that isn't there is made up.
                if error != "ENOENT" and image not in (before.get(name), after.get(name)):
                    found.append(f"{name} leads to {image}")
            stage.forget()
            code, output = stage.sync_here(scenario.now)
            if code != 0:
                found.append(f"the next sync gives {code}: {output}")
            seen = offered(stage.target.store)
            if set(seen) != set(after) or (error != "ENOENT" and seen != after):
                found.append(f"the next sync gives {seen}, should be {after}")
            result.problems += [
                f"{result.calls + step} {error} {counter.hit}: {each}" for each in found
            ]
        if not hit:
            return result
        result.calls += step


def offered(store: Path) -> dict[str, str]:
    """Name -> image ID of all that a store offers.

    Not what has left it and stays for a while: it depends on what was made up meanwhile.
    """
    images = json.loads(documents(store)[0] or b"[]")
    names = {name: image["id"] for image in images for name in image["names"]}
    return {name: names[name] for name in names if not name.startswith(_RETIRED)}
