# SPDX-License-Identifier: Apache-2.0
"""A repository that goes away or changes under a sync, clocks that jump, file systems that can't do
all that a local disk does."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.calls import MODIFYING, READING, Call
from tests.crash.failures import offered
from tests.crash.stage import LATER, NOW, SCENARIOS, Stage, stage
from tests.crash.supervise import SKIP, Verdict, supervise
from tests.support.picture import documents, faults
from tests.support.podman import Host, running

_FIRST, _CHANGE, _PRUNE = SCENARIOS


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, podman_host: Host) -> Iterator[Stage]:
    """A repository, and the stores before and after a change of it."""
    with stage(tmp_path_factory.mktemp("outage")) as made:
        yield made


def _sync(place: Stage, now: int = NOW, *options: str) -> tuple[int, str]:
    done = supervise(place.command(now, *options), calls=["syncfs"], decide=lambda call: SKIP)
    assert "Traceback" not in done.output and not done.hung, done.output
    if (place.target.repository / ".layers").exists():
        assert faults(place.target.store) == []
    return done.code, done.output


@contextlib.contextmanager
def _away(place: Stage, how: str) -> Iterator[None]:
    """The repository is gone meanwhile: unmounted, or a mount point of autofs that is empty yet."""
    kept = place.root / "kept"
    place.target.repository.rename(kept)
    if how == "empty":
        place.target.repository.mkdir()
    try:
        yield
    finally:
        if how == "empty":
            place.target.repository.rmdir()
        kept.rename(place.target.repository)


@pytest.mark.parametrize("how", ["unmounted", "empty"])
def test_while_it_is_away_podman_keeps_its_images_or_pulls_them(
    place: Stage, tmp_path: Path, how: str
) -> None:
    place.begin(_CHANGE)
    place.show(after=False)
    before = offered(place.target.store)
    name = f"{place.registry}/t/single:1"
    with running(
        tmp_path / "podman", stores=[place.target.store], insecure=[place.registry]
    ) as podman:

        def is_ours() -> bool:
            images = podman.json("images", "--format", "json")
            return any(each["ReadOnly"] for each in images if name in (each["Names"] or []))

        with _away(place, how):
            code, output = _sync(place, NOW, "--on-outage=keep")
            assert code == 4 and str(place.target.repository) in output
            assert offered(place.target.store) == before and is_ours()
            code, output = _sync(place, NOW, "--on-outage=hide")
            assert code == 4 and str(place.target.repository) in output
            assert offered(place.target.store) == {} and not is_ours()
            done = podman.run("run", "--rm", "--pull=missing", name)
            assert done.stdout == place.kept[name]
            assert _sync(place, NOW, "--on-outage=hide")[0] == 4
            podman.run("rmi", name)
        assert _sync(place, NOW, "--on-outage=hide")[0] == 0
        assert offered(place.target.store) == before and is_ours()
        assert podman.run("run", "--rm", "--pull=never", name).stdout == place.kept[name]


def test_a_revision_that_changes_in_mid_sync(place: Stage) -> None:
    """What is in both revisions is never lost, and the next sync sees the new one by itself.

    The change comes at each seventh read of the repository.
    """
    place.begin(_CHANGE)
    old = offered(place.target.store)
    assert _sync(place)[0] == 0
    new = offered(place.target.store)
    repository = str(place.target.repository)
    for at in itertools.count(1, 7):
        place.restore(_CHANGE.start)
        place.show(after=False)
        place.forget()
        seen = 0

        def change(call: Call, at: int = at) -> Verdict:
            nonlocal seen
            if call.reads and call.path().startswith(repository):
                seen += 1
                if seen == at:
                    place.show(after=True)
            return SKIP if call.name == "syncfs" else None

        done = supervise(place.command(NOW), calls=READING | {"syncfs"}, decide=change)
        assert done.code in (0, 4, 7) and "Traceback" not in done.output, done.output
        if seen < at:
            break
        assert faults(place.target.store) == []
        now = offered(place.target.store)
        assert old.keys() & new.keys() <= now.keys(), (at, done.output)
        assert all(now[name] in (old.get(name), new.get(name)) for name in now), (at, now)
        place.show(after=True)
        assert _sync(place)[0] == 0
        assert offered(place.target.store) == new, at
    assert at > 50


@pytest.mark.parametrize("times", [(NOW, 0), (NOW, NOW - 3600), (LATER, NOW), (1 << 40, NOW)])
def test_a_clock_that_jumps_back(place: Stage, times: tuple[int, int]) -> None:
    """Nothing is lost, and what has left goes in time."""
    place.begin(_CHANGE)
    for now in times:
        assert _sync(place, now)[0] == 0
    wanted = offered(place.target.store)
    assert wanted == offered(place.saved("after"))
    # A time of 1970 is not believed: then the grace begins at the first sync of another year.
    for weeks in (5, 10):
        assert _sync(place, max(times) + weeks * 7 * 24 * 3600)[0] == 0
    assert offered(place.target.store) == wanted
    images = documents(place.target.store)[0].decode()
    assert "retired" not in images


_LACKS = {
    # NFS without a lock service; with root squashed; without extended attributes.
    "locks": (("fcntl",), errno.ENOLCK, (5,)),
    "owners": (("chown", "fchown", "lchown", "fchownat"), errno.EPERM, (0, 5)),
    "attributes": (("setxattr", "lsetxattr", "fsetxattr"), errno.EOPNOTSUPP, (0, 5)),
    "devices": (("mknod", "mknodat"), errno.EPERM, (5,)),
    "hard links": (("link", "linkat"), errno.EPERM, (5,)),
    # Files that are removed while somebody reads them stay for a while as .nfsXXXX.
    "removal": (("rmdir", "unlinkat"), errno.ENOTEMPTY, (0,)),
    "syncfs": (("syncfs",), errno.EIO, (5,)),
}


@pytest.mark.parametrize("lack", _LACKS)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.name)
def test_a_file_system_without(place: Stage, scenario: object, lack: str) -> None:
    """The sync does without, or says in one line that it can't; then the store is as it was."""
    names, error, codes = _LACKS[lack]
    place.begin(scenario)  # type: ignore[arg-type]
    now = scenario.now  # type: ignore[attr-defined]
    old = documents(place.target.store)
    assert _sync(place, now)[0] == 0
    new = documents(place.target.store)
    place.begin(scenario)  # type: ignore[arg-type]
    refused = 0

    def refuse(call: Call) -> Verdict:
        nonlocal refused
        if call.name in names and place.watches(call.path()):
            if call.name == "unlinkat" and not call.arguments[2] & _REMOVEDIR:
                return None
            if call.name != "fcntl" or call.modifies:
                refused += 1
                return error
        return SKIP if call.name == "syncfs" else None

    done = supervise(place.command(now), calls=MODIFYING, decide=refuse)
    assert done.code in (codes if refused else (0,)), done.output
    errors = [x for x in done.output.splitlines() if x.startswith("podman-cvmfs: error: ")]
    assert len(errors) == (done.code != 0) and "Traceback" not in done.output, done.output
    assert all(os.strerror(error) in each for each in errors)
    assert faults(place.target.store) == []
    if done.code:
        assert documents(place.target.store) == old or not all(old)
    else:
        assert documents(place.target.store) == new
    assert _sync(place, now)[0] == 0
    assert documents(place.target.store) == new


_REMOVEDIR = 0x200
