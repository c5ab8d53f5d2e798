# SPDX-License-Identifier: Apache-2.0
"""containers/storage's lock protocol: a podman that goes on running sees each sync at once and
never half of one."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.crash.calls import MODIFYING, Call
from tests.crash.kills import modifies
from tests.crash.service import Service, service
from tests.crash.stage import SCENARIOS, Stage, stage
from tests.crash.supervise import KILL, Verdict, supervise
from tests.support.picture import documents
from tests.support.podman import Host, Podman, running
from tests.support.processes import started

_CHANGE = SCENARIOS[1]

_HOLD = """
import fcntl, sys
kind = {"read": fcntl.LOCK_SH, "write": fcntl.LOCK_EX}[sys.argv[1]]
files = [open(path, "rb" if kind == fcntl.LOCK_SH else "r+b") for path in sys.argv[2:]]
for file in files:
    fcntl.lockf(file, kind)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, podman_host: Host) -> Iterator[Stage]:
    """A repository, and the stores before and after a change of it."""
    with stage(tmp_path_factory.mktemp("service")) as made:
        yield made


@pytest.fixture
def podman(tmp_path: Path, place: Stage) -> Iterator[Podman]:
    """A podman that uses the store as it is before the change."""
    place.begin(_CHANGE)
    with running(tmp_path, stores=[place.target.store], insecure=[place.registry]) as made:
        yield made


@pytest.fixture
def api(podman: Podman, tmp_path: Path) -> Iterator[Service]:
    """A service that has looked at the store before the change."""
    with service(podman, tmp_path) as made:
        made.names()
        yield made


def _shown(names: Iterable[str]) -> set[str]:
    """The names but those of images that have left and stay through the grace."""
    return {name for name in names if not name.startswith("retired.")}


def _names(place: Stage, *names: str) -> set[str]:
    return {f"{place.registry}/t/{name}" for name in names}


_BEFORE = ("single:1", "app:1", "plain:1", "delete:1", "moving:1")
_AFTER = ("single:1", "app:1", "plain:1", "moving:1", "same-parent:1", "other-parent:1")


def test_the_service_sees_what_a_sync_adds_moves_and_removes(place: Stage, api: Service) -> None:
    before = api.names()
    assert _shown(before) == _names(place, *_BEFORE)
    place.target.sync("--offline")
    after = api.names()
    assert _shown(after) == _names(place, *_AFTER)
    moving, plain, same, added, removed = (
        f"{place.registry}/t/{name}"
        for name in ("moving:1", "plain:1", "same-parent:1", "other-parent:1", "delete:1")
    )
    assert (before[moving], after[moving]) == (before[plain], after[same])
    assert api.ask(f"images/{removed}/exists")[0] == 404
    for name in (added, moving):
        status, answer = api.ask("containers/create", "POST", {"image": name, "command": ["true"]})
        assert status == 201, answer
        container = answer["Id"]
        assert api.ask(f"containers/{container}/mount", "POST")[0] == 200
        assert api.ask(f"containers/{container}?force=true", "DELETE")[0] in (200, 204)


def test_the_service_sees_what_a_killed_sync_has_done(place: Stage, api: Service) -> None:
    """Killed right after the change: nobody would tell the service of it later."""
    counts = modifies(place)
    done: list[Call] = []

    def kill_after_the_flip(call: Call) -> Verdict:
        if not counts(call):
            return None
        if done:
            return KILL
        # That is the link's new place.
        if call.name.startswith("rename") and call.path().endswith("/.current"):
            done.append(call)
        return None

    outcome = supervise(place.command(_CHANGE.now), calls=MODIFYING, decide=kill_after_the_flip)
    assert (outcome.code, len(done)) == (-9, 1)
    assert _shown(api.names()) == _names(place, *_AFTER)


def _listed(podman: Podman) -> set[str]:
    return _shown(
        name for each in podman.json("images", "--format", "json") for name in each["Names"]
    )


@contextlib.contextmanager
def _holding(kind: str, *paths: Path) -> Iterator[None]:
    """Have another process hold locks."""
    argv = [sys.executable, "-c", _HOLD, kind, *map(str, paths)]
    with started(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None and holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        yield
        holder.stdin.close()
        holder.wait(60)


@pytest.mark.parametrize("lock", ["overlay-layers/layers.lock", "overlay-images/images.lock"])
def test_a_sync_waits_for_those_who_read(place: Stage, podman: Podman, lock: str) -> None:
    argv = [sys.executable, "-m", "podman_cvmfs", *place.target.argv("--offline")]
    before = documents(place.target.store)
    with contextlib.ExitStack() as stack:
        with _holding("read", place.target.store / lock):
            sync = stack.enter_context(started(argv))
            with pytest.raises(subprocess.TimeoutExpired):
                sync.wait(2)
            # What they read is still what was there.
            assert documents(place.target.store) == before
        assert sync.wait(60) == 0
    assert _listed(podman) == _names(place, *_AFTER)


def test_others_read_on_while_a_sync_waits(place: Stage, podman: Podman) -> None:
    argv = [sys.executable, "-m", "podman_cvmfs", *place.target.argv("--offline")]
    with contextlib.ExitStack() as stack:
        with _holding("read", place.target.store / "overlay-layers/layers.lock"):
            sync = stack.enter_context(started(argv))
            with pytest.raises(subprocess.TimeoutExpired):
                sync.wait(1)
            assert _listed(podman) == _names(place, *_BEFORE)
        assert sync.wait(60) == 0


@pytest.mark.parametrize("lock", ["overlay-layers/layers.lock", "overlay-images/images.lock"])
def test_podman_waits_for_who_writes(place: Stage, podman: Podman, lock: str) -> None:
    argv = podman.namespace.command(["podman", "images", "--quiet"])
    with contextlib.ExitStack() as stack:
        with _holding("write", place.target.store / lock):
            listing = stack.enter_context(started(argv, env=podman.env, stdout=subprocess.PIPE))
            with pytest.raises(subprocess.TimeoutExpired):
                listing.wait(1.5)
        output, _ = listing.communicate(timeout=60)
    assert listing.returncode == 0 and len(output.split()) == 4
