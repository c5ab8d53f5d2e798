# SPDX-License-Identifier: Apache-2.0
"""A mounted repository whose server is slow or dead, while the client shows what it has cached."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from podman_cvmfs.doctor.facts import Targets
from podman_cvmfs.doctor.look.targets import look_at_targets
from podman_cvmfs.errors import RepositoryError
from podman_cvmfs.store.reader import read_store
from podman_cvmfs.store.records import StoreContent
from tests.benchmarks.mounted_time import measure
from tests.support.cli import Target, podman_cvmfs
from tests.support.many import REGISTRY, make_repository
from tests.support.mounted import Mounted, mounted
from tests.support.picture import faults

pytestmark = pytest.mark.usefixtures("as_root")

_IMAGES = 30
#: What a server that refuses connections makes each request take, in seconds.
_REFUSED = 1.5
#: What a hanging server makes each request take, in seconds.
_HANGS = 4.0


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Many images."""
    return make_repository(tmp_path_factory.mktemp("many") / "repository", _IMAGES, layers=10)


@pytest.fixture
def target(tmp_path: Path) -> Target:
    """Where syncs of the mounted repository read and write."""
    return Target(tmp_path / "mount", tmp_path / "store", tmp_path / "cache")


@pytest.fixture
def client(repository: Path, target: Target, tmp_path: Path) -> Iterator[Mounted]:
    """The client that shows them; its cache is cold."""
    with mounted(repository, target.repository, tmp_path / "client", remembered=0) as found:
        yield found


def _names(target: Target) -> set[str]:
    return {*(read_store(str(target.store)) or StoreContent()).names}


def _report(target: Target, *args: str) -> tuple[int, dict[str, object], float]:
    """Exit code, report and seconds of a sync."""
    began = time.monotonic()
    done = podman_cvmfs(*target.argv("--offline", "--format", "json", *args))
    seconds = time.monotonic() - began
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout or "{}"), seconds


@pytest.mark.parametrize("delay", [0.0, _REFUSED])
def test_a_dead_server_is_found_out_once(client: Mounted, target: Target, delay: float) -> None:
    client.tell(broken="fetches", delay=delay)
    before = client.requests()
    code, report, seconds = _report(target)
    assert code == RepositoryError.exit_code
    failed = report["failed"]
    assert isinstance(failed, dict) and list(failed) == [str(client.mountpoint)]
    assert "doesn't answer" in failed[str(client.mountpoint)]
    assert client.requests() - before < _IMAGES and seconds < 10
    client.tell()
    # Fetches that were under way fail one after the other, also for others who wait for them.
    until = time.monotonic() + 20
    while _report(target)[0] != 0:
        assert time.monotonic() < until
    assert len(_names(target)) == _IMAGES


@pytest.fixture
def half_cached(repository: Path, target: Target, tmp_path: Path) -> Iterator[Mounted]:
    """A client that has read two images of a synced store, the server down by now, and the
    repository with an image that the store hasn't."""
    places = [repository / top / REGISTRY for top in ("", ".metadata")]
    moves = [
        (place / "project/app5:5", tmp_path / f"aside{number}")
        for number, place in enumerate(places)
    ]
    for path, aside in moves:
        path.rename(aside)
    try:
        with mounted(repository, target.repository, tmp_path / "client"):
            assert _report(target)[0] == 0
    finally:
        for path, aside in moves:
            aside.rename(path)
    with mounted(repository, target.repository, tmp_path / "client") as client:
        for number in (1, 2):
            os.listdir(target.repository / REGISTRY / f"project/app{number}:{number}")
        client.tell(broken="fetches", revision=2, delay=_REFUSED)
        yield client


def test_what_is_cached_stays_when_an_outage_hides_the_rest(
    half_cached: Mounted, target: Target
) -> None:
    before = _names(target)
    assert len(before) == _IMAGES - 1
    code, report, _ = _report(target, "--on-outage", "keep")
    assert (code, report["removed"]) == (RepositoryError.exit_code, [])
    assert _names(target) == before
    # 28 fetches fail one after the other.
    half_cached.tell(broken="fetches", revision=2, delay=0.3, offline=True)
    code, report, _ = _report(target, "--on-outage", "hide")
    assert code == RepositoryError.exit_code
    assert _names(target) == {f"{REGISTRY}/project/app{n}:{n}" for n in (1, 2)}
    half_cached.tell(revision=2)
    assert _report(target, "--on-outage", "hide")[0] == 0
    assert len(_names(target)) == _IMAGES and faults(target.store) == []


@pytest.fixture
def without_files(repository: Path, target: Target, tmp_path: Path) -> Iterator[Mounted]:
    """A client that knows the names of everything, and holds the content of one image's program;
    its server is down."""
    for flat in (repository / ".flat").glob("??/*"):
        (flat / "bin").mkdir(exist_ok=True)
        (flat / "bin/sh").write_text(f"{flat}")
    with mounted(repository, target.repository, tmp_path / "client") as client:
        assert _report(target, "--on-outage", "hide")[0] == 0
        for flat in (target.repository / ".flat").glob("??/*"):
            os.listdir(flat)
        (target.repository / REGISTRY / "project/app3:3/bin/sh").read_text()
        client.tell(broken="fetches", delay=0.01)
        yield client


def test_files_that_are_not_cached_are_an_outage_once_the_client_has_met_it(
    without_files: Mounted, target: Target
) -> None:
    hide, kept = ("--on-outage", "hide"), f"{REGISTRY}/project/app3:3"
    # Nobody has missed anything yet.
    assert _report(target, *hide)[1]["changed"] is False
    with pytest.raises(OSError):
        (target.repository / REGISTRY / "project/app4:4/bin/sh").read_text()
    for _ in range(2):
        code, report, _ = _report(target, *hide)
        failed = report["failed"]
        assert code == RepositoryError.exit_code and isinstance(failed, dict)
        assert "has failed to fetch a file" in failed[str(target.repository)]
        assert _names(target) == {kept}
    without_files.tell()
    assert _report(target, *hide)[0] == 0 and len(_names(target)) == _IMAGES
    assert faults(target.store) == []


def test_a_client_that_is_offline_is_asked_for_files(
    without_files: Mounted, target: Target
) -> None:
    without_files.tell(broken="fetches", offline=True)
    code, report, _ = _report(target, "--on-outage", "hide")
    assert code == RepositoryError.exit_code and len(_names(target)) == 1
    failed = report["failed"]
    assert isinstance(failed, dict)
    assert "can't reach its server" in failed[str(target.repository)]


def test_why_tells_of_files_that_can_not_be_fetched(without_files: Mounted, target: Target) -> None:
    for number, is_down in ((3, False), (4, True)):
        name = f"{REGISTRY}/project/app{number}:{number}"
        places = ("--repository", target.repository, "--store", target.store)
        done = podman_cvmfs("why", *places, name)
        assert ("some of its files can't be reached" in done.stdout) == is_down, done.stdout


def test_doctor_tells_of_files_that_can_not_be_fetched(
    without_files: Mounted, target: Target
) -> None:
    def found() -> dict[str, str]:
        places = ("--repository", target.repository, "--store", target.store)
        done = podman_cvmfs("-q", "doctor", "--format", "json", *places)
        listed = json.loads(done.stdout)["findings"]
        return {each["condition"]: f"{each['found']}; {each['cure']}" for each in listed}

    assert {"fetches-fail", "repository-broken"}.isdisjoint(found())
    without_files.tell(broken="fetches", offline=True)
    told = found()["repository-broken"]
    assert "can't reach its server" in told and f"files of {_IMAGES - 1} names" in told, told
    assert "check network, proxy and server" in told and "umount" not in told
    # Once it is back, all that the store shows gets cached.
    without_files.tell()
    for flat in (target.repository / ".flat").glob("??/*"):
        (flat / "bin/sh").read_text()
    assert {"fetches-fail", "repository-broken"}.isdisjoint(found())
    without_files.tell(broken="fetches", offline=True)
    assert "can't reach its server" in found()["fetches-fail"]
    without_files.tell()
    assert {"fetches-fail", "repository-broken"}.isdisjoint(found())


def test_an_image_that_is_asked_for_fails_under_its_name(
    half_cached: Mounted, target: Target
) -> None:
    before, name = _names(target), f"{REGISTRY}/project/app5:5"
    code, report, _ = _report(target, name)
    failed = report["failed"]
    assert isinstance(failed, dict) and code == RepositoryError.exit_code
    assert name in failed and _names(target) == before


@pytest.mark.parametrize(("number", "watch"), [(signal.SIGINT, False), (signal.SIGTERM, True)])
def test_a_signal_ends_a_sync_whose_reads_hang(
    client: Mounted, target: Target, number: signal.Signals, watch: bool
) -> None:
    client.tell(delay=_HANGS)
    argv = target.argv("--offline", *(["--watch"] if watch else []))
    with subprocess.Popen(
        [sys.executable, "-m", "podman_cvmfs", *argv],
        stderr=subprocess.PIPE,
        text=True,
        # A shell has its background jobs ignore SIGINT, and what they start, too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as sync:
        assert sync.stderr is not None
        # By then eight threads read.
        line = sync.stderr.readline()
        assert line.startswith(f"waiting for an answer: {client.mountpoint}/"), line
        began = time.monotonic()
        sync.send_signal(number)
        # To its end: nothing that goes on may keep the pipe open.
        rest = sync.stderr.read()
        assert time.monotonic() - began < 2, rest
    assert sync.returncode == (0 if watch else 130) and "Traceback" not in rest, rest
    client.tell()
    assert _report(target)[0] == 0
    assert len(_names(target)) == _IMAGES and faults(target.store) == []


def test_requests_of_a_first_sync() -> None:
    """For each image its manifest, its config and the catalogue of its merged root. By layers:
    the description and the catalogue of each of five layers that are the image's own."""
    flat, layers = (measure(20, 0.0, view).requests for view in ("flat", "layers"))
    assert flat <= 20 * 3 + 10
    assert layers <= 20 * 13 + 2 * 5 + 256


def test_files_that_left_the_repository(
    repository: Path, client: Mounted, target: Target, tmp_path: Path
) -> None:
    """podman starts such an image all the same, on an empty root."""
    assert _report(target)[0] == 0
    name = f"{REGISTRY}/project/app3:3"
    flat = (repository / REGISTRY / "project/app3:3").resolve()
    places = ("--store", target.store, "--repository", target.repository)
    flat.rename(tmp_path / "gone")
    try:
        answer = json.loads(podman_cvmfs("why", name, *places, "--format", "json").stdout)
        assert "files-gone" in [each["code"] for each in answer["reasons"]] and not answer["hit"]
        done = podman_cvmfs("verify", "--store", target.store)
        assert done.returncode != 0 and f"{flat.name}, which is gone" in done.stdout + done.stderr
        found = look_at_targets(str(target.store), [str(target.repository)], 20)
        assert found == Targets(gone=(name,))
    finally:
        (tmp_path / "gone").rename(flat)
    assert look_at_targets(str(target.store), [str(target.repository)], 20) == Targets()
    # The client has crashed: then it is not that a file has left.
    client.die(unmounts=False)
    answer = json.loads(podman_cvmfs("why", name, *places, "--format", "json").stdout)
    assert "repository-down" in [each["code"] for each in answer["reasons"]]
    done = podman_cvmfs("verify", "--store", target.store)
    assert "files aren't checked" in done.stdout + done.stderr


_ASK = """
import sys
from podman_cvmfs.podman.pause import is_hidden, pause_root
root = pause_root()
print(root is not None, [is_hidden(each, root) for each in sys.argv[1:]])
"""


def test_a_mount_that_podman_does_not_see() -> None:
    """A process stands for podman's pause process; it has another tree of mounts."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        for name in ("seen", "repository/files", "run/libpod/tmp"):
            (place / name).mkdir(parents=True)
        subprocess.run(["chmod", "-R", "a+rx", place], check=True)
        user = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"]
        hide = f"mount -t tmpfs none {place}/repository; echo ready; exec sleep 60"
        with subprocess.Popen(
            [*user, "unshare", "--user", "--map-root-user", "--mount", "sh", "-c", hide],
            stdout=subprocess.PIPE,
        ) as pause:
            try:
                assert pause.stdout is not None and pause.stdout.readline() == b"ready\n"
                (place / "run/libpod/tmp/pause.pid").write_text(str(pause.pid))
                done = subprocess.run(
                    [
                        *user,
                        sys.executable,
                        "-c",
                        _ASK,
                        f"{place}/repository/files",
                        f"{place}/seen",
                    ],
                    env={**os.environ, "XDG_RUNTIME_DIR": f"{place}/run"},
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                )
            finally:
                pause.kill()
    assert done.stdout.split(" ", 1) == ["True", "[True, False]\n"]


def test_doctor_leaves_a_client_with_a_dead_server_alone(client: Mounted, target: Target) -> None:
    client.tell(broken="all")
    done = podman_cvmfs("doctor", "--repository", target.repository, "--store", target.store)
    assert "repository-broken" in done.stdout + done.stderr
    assert "umount" not in done.stdout + done.stderr
