# SPDX-License-Identifier: Apache-2.0
"""A sync with nothing to do, and what must wake it."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.cli.sync import _wishes_text
from podman_cvmfs.errors import InputError, PartialError, RegistryError, RepositoryError
from podman_cvmfs.settings.files import Settings
from podman_cvmfs.settings.policy import Policy
from podman_cvmfs.store.reader import read_store
from podman_cvmfs.store.records import StoreContent
from podman_cvmfs.sync import stamp as stamp_module
from podman_cvmfs.sync.stamp import Stamp, directories_of, is_current, stamp_path
from podman_cvmfs.sync.watch import follow
from tests.support.cli import Target, podman_cvmfs, succeed
from tests.support.http import Server, give
from tests.support.many import REGISTRY, make_repository


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository in which nothing has happened for a while."""
    root = make_repository(tmp_path / "repository", 3, layers=2, shared=1)
    _age(root)
    return root


def _age(root: Path) -> None:
    old = time.time() - 60
    for directory, _, files in os.walk(root):
        for name in ("", *files):
            os.utime(os.path.join(directory, name), (old, old), follow_symlinks=False)


def _target(tmp_path: Path, repository: Path) -> Target:
    return Target(repository, tmp_path / "store", tmp_path / "cache")


def _sync(target: Target, *args: str) -> dict[str, object]:
    done = podman_cvmfs(*target.argv("--offline", "--format", "json", *args))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert isinstance(report, dict)
    return report


def _is_skipped(target: Target, *args: str) -> bool:
    """Whether the next sync is over after one check."""
    done = podman_cvmfs(*target.argv("--offline", *args))
    assert done.returncode == 0, done.stderr
    return "nothing has changed" in done.stderr


def test_the_second_sync_reads_nothing(tmp_path: Path, repository: Path) -> None:
    target = _target(tmp_path, repository)
    _sync(target)
    # Whoever read a manifest now would fail.
    for path in repository.glob(".metadata/**/manifest.json"):
        path.write_text("{")
    assert _is_skipped(target)


def test_a_sync_with_nothing_to_do_reports_what_others_do(tmp_path: Path, repository: Path) -> None:
    target = _target(tmp_path, repository)
    first = _sync(target)
    assert len(first["added"]) == 3  # type: ignore[arg-type]
    assert _is_skipped(target)
    assert _sync(target) == {**first, "changed": False, "added": []}


def test_what_an_import_brings_is_looked_for(tmp_path: Path, repository: Path) -> None:
    target = _target(tmp_path, repository)
    archive, other = tmp_path / "blobs.tar", BlobCache(str(tmp_path / "other"))
    other.put(b"{}")
    succeed("cache", "export", archive, "--cache", other.directory)
    _sync(target)
    succeed("cache", "import", archive, "--cache", target.cache)
    assert not _is_skipped(target)
    succeed("cache", "import", archive, "--cache", target.cache)
    assert _is_skipped(target), "nothing new came in"


def test_a_version_that_lays_stores_out_otherwise_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings()
    before = _wishes_text(settings)
    monkeypatch.setattr(Policy, "__str__", lambda policy: "another layout")
    assert _wishes_text(settings) != before


def test_a_cache_that_cannot_be_written_costs_a_warning(tmp_path: Path, repository: Path) -> None:
    target = _target(tmp_path, repository)
    target.cache.mkdir()
    (target.cache / "stamps").touch()
    done = podman_cvmfs(*target.argv("--offline", "--format", "json"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["images"] == 3
    assert f"can't write to the cache {target.cache}: " in done.stderr
    assert not _is_skipped(target)


@pytest.mark.parametrize("above", [0, 1, 2], ids=["files", "layer", "prefix"])
def test_a_link_in_the_place_of_files_is_seen(tmp_path: Path, repository: Path, above: int) -> None:
    """In a plain directory no time that is known tells of it, and times can be set back."""
    target = _target(tmp_path, repository)
    _sync(target, "--view", "layers")
    assert _is_skipped(target, "--view", "layers")
    shared = hashlib.sha256(b"blob 0").hexdigest()
    layers = repository.glob(".layers/*/*/layerfs")
    place = next(each for each in layers if not each.parent.name.startswith(shared[:2]))
    place = (place, *place.parents)[above]
    times = place.parent.stat()
    place.rename(tmp_path / "aside")
    place.symlink_to(tmp_path / "aside")
    os.utime(place.parent, ns=(times.st_atime_ns, times.st_mtime_ns))
    done = podman_cvmfs(*target.argv("--offline", "--view", "layers"))
    assert done.returncode == 7, done.stderr
    assert f"{place} is a symbolic link" in done.stderr
    content = read_store(str(target.store)) or StoreContent()
    assert sum(bool(each.published) for each in content.images.values()) == 2
    done = podman_cvmfs(*target.argv("--offline", "--view", "layers"))
    assert done.returncode == 7, "as long as it is there"
    place.unlink()
    (tmp_path / "aside").rename(place)
    assert _sync(target, "--view", "layers")["images"] == 3


@pytest.mark.parametrize("change", ["link", "new", "gone", "metadata", "deeper"])
def test_a_change_in_a_directory_is_seen(tmp_path: Path, repository: Path, change: str) -> None:
    target = _target(tmp_path, repository)
    _sync(target)
    assert _is_skipped(target)
    names = repository / REGISTRY / "project"
    link = names / "app1:1"
    if change == "link":
        (names / "new").symlink_to(os.readlink(names / "app2:2"))
        (names / "new").rename(link)
    elif change == "new":
        (names / "other:1").symlink_to(os.readlink(link))
    elif change == "gone":
        link.unlink()
    elif change == "metadata":
        (repository / f".metadata/{REGISTRY}/project/other:1").mkdir()
    else:
        (names / "below").mkdir()
    assert not _is_skipped(target)


@pytest.mark.parametrize("change", ["renamed", "rewritten", "first"])
def test_the_manifest_of_an_image_without_public_link_is_looked_at(
    tmp_path: Path, repository: Path, change: str
) -> None:
    """A new one is all that tells that its tag has moved."""
    described = repository / f".metadata/{REGISTRY}/project"
    (repository / REGISTRY / "project/app1:1").unlink()
    manifest = described / "app1:1/manifest.json"
    if change == "first":
        manifest.unlink()
    _age(repository)
    target = _target(tmp_path, repository)
    _sync(target)
    assert _is_skipped(target)
    new = (described / "app2:2/manifest.json").read_text()
    if change == "rewritten":
        manifest.write_text(new)
    else:
        (described / "app1:1/new").write_text(new)
        (described / "app1:1/new").rename(manifest)
    assert not _is_skipped(target)


@pytest.mark.parametrize(
    "args", [["--view", "layers"], ["--reuse", "none"], ["--on-outage", "hide"]]
)
def test_other_wishes_are_seen(tmp_path: Path, repository: Path, args: list[str]) -> None:
    target = _target(tmp_path, repository)
    _sync(target)
    assert not _is_skipped(target, *args)
    assert _is_skipped(target, *args)


def test_a_store_that_somebody_else_changed_is_seen(tmp_path: Path, repository: Path) -> None:
    target = _target(tmp_path, repository)
    _sync(target)
    podman_cvmfs(*target.argv("--offline", "--reuse", "all"))
    assert not _is_skipped(target)
    (target.store / ".current").unlink()
    with_no_current = podman_cvmfs(*target.argv("--offline"))
    assert "nothing has changed" not in with_no_current.stderr


def test_failures_are_tried_again(tmp_path: Path, repository: Path) -> None:
    target = _target(tmp_path, repository)
    manifest = next(repository.glob(".metadata/**/manifest.json"))
    good = manifest.read_text()
    manifest.write_text("{")
    assert podman_cvmfs(*target.argv("--offline")).returncode == PartialError.exit_code
    manifest.write_text(good)
    assert len(_sync(target)["added"]) == 1  # type: ignore[arg-type]


def test_manifests_that_wait_for_their_registry_leave_no_stamp(
    tmp_path: Path, repository: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All configs are there; so nothing else would make the next sync ask for the manifests."""
    conf = tmp_path / "registries.conf"
    conf.write_text(f'[[registry]]\nprefix = "{REGISTRY}"\nlocation = "{server.address}"\n')
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(conf))
    target = _target(tmp_path, repository)
    server.answers["/v2/"] = give(b"", 429, Retry_After="3600")
    for _ in range(2):
        done = podman_cvmfs(*target.argv("--format", "json"))
        assert done.returncode == RegistryError.exit_code
        assert "3 names have a made-up config or manifest: " in done.stderr
        assert "HTTP 429" in done.stderr
        assert len(json.loads(done.stdout)["waiting"][REGISTRY]) == 3
    server.answers["/v2/"] = give(b"", 404)
    assert json.loads(target.sync("--format", "json"))["waiting"] == {}
    asked = len(server.requests)
    assert "nothing has changed" in podman_cvmfs(*target.argv()).stderr
    assert len(server.requests) == asked


def test_a_directory_changed_just_now_is_not_trusted(repository: Path) -> None:
    assert directories_of(str(repository)) is not None
    os.utime(repository / REGISTRY)
    assert directories_of(str(repository)) is None


def test_revision_of_a_mount(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CernVM-FS played by two attributes: nothing but them counts, and listing comes first."""
    calls: list[str] = []
    values = {"user.revision": b"7", "user.root_hash": b"ab"}
    real = os.listdir

    def listdir(path: str) -> list[str]:
        calls.append("list")
        return real(path)

    def getxattr(path: str, name: str) -> bytes:
        calls.append(name)
        return values[name]

    monkeypatch.setattr(os, "listdir", listdir)
    monkeypatch.setattr(os, "getxattr", getxattr, raising=False)
    store, cache = tmp_path / "store", tmp_path / "cache"
    store.mkdir()
    (store / ".current").symlink_to("generations/1")
    path = Path(stamp_path(str(cache), str(store), str(repository)))
    path.parent.mkdir(parents=True)

    def current(now: int = 100) -> bool:
        return is_current(str(cache), str(store), str(repository), "wishes", now)

    assert not current()
    content = Stamp(str(repository)).content(str(store), "wishes", 100, 200, {})
    assert content is not None
    path.write_bytes(content)
    calls.clear()
    assert current()
    assert calls == ["list", "user.revision", "user.root_hash"]
    assert not current(now=200), "something was due"
    assert not current(now=99), "the clock was set back"
    values["user.revision"] = b"8"
    assert not current()
    values["user.revision"] = b"7"
    assert current()
    for broken in (b"", b"{", b"[]", b'{"format": 1}'):
        path.write_bytes(broken)
        assert not current()
    assert stamp_module.revision_of(str(repository)) == ["7", "ab"]


def test_watch_sees_changes_and_outages(tmp_path: Path, repository: Path) -> None:
    target = _target(tmp_path, repository)
    argv = [sys.executable, "-m", "podman_cvmfs", *target.argv("--offline", "--watch")]

    def names() -> int:
        content = read_store(str(target.store)) or StoreContent()
        return sum(len(image.published) for image in content.images.values())

    def wait_for(number: int) -> None:
        end = time.monotonic() + 20
        while names() != number and time.monotonic() < end:
            time.sleep(0.05)
        assert names() == number

    with subprocess.Popen([*argv, "--interval", "0.1"], stderr=subprocess.PIPE, text=True) as watch:
        try:
            wait_for(3)
            (repository / REGISTRY / "project/app1:1").unlink()
            described = repository / f".metadata/{REGISTRY}/project/app1:1"
            described.rename(tmp_path / "described")
            wait_for(2)
            repository.rename(tmp_path / "away")
            time.sleep(0.5)
            assert names() == 2 and watch.poll() is None
            (tmp_path / "away").rename(repository)
            (tmp_path / "described").rename(described)
            wait_for(3)
            watch.send_signal(signal.SIGTERM)
            _, errors = watch.communicate(timeout=20)
        finally:
            # Whatever failed above: leaving the block waits for the process.
            watch.kill()
    assert watch.returncode == 0
    assert errors.count("no such repository") == 1


def test_watch_says_each_failure_once(caplog: pytest.LogCaptureFixture) -> None:
    calls = 0

    def work() -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        if calls < 3:
            raise RepositoryError("it is down", "mount it")

    assert threading.current_thread() is threading.main_thread()
    with caplog.at_level(logging.INFO, "podman_cvmfs.sync.watch"):
        follow(work, 0.001)
    assert [record.message for record in caplog.records] == ["it is down (mount it)", "works again"]


@pytest.mark.parametrize("named", [False, True])
def test_watch_says_once_what_stays_as_it_is(tmp_path: Path, repository: Path, named: bool) -> None:
    """Be it a failure of one image or, with names, the summary: later syncs print nothing."""
    target = _target(tmp_path, repository)
    names = [f"{REGISTRY}/project/app{number}:{number}" for number in (1, 2)]
    (repository / f".metadata/{names[0]}/manifest.json").write_text("{")
    argv = target.argv("--offline", "--watch", "--interval", "0.1", *(names if named else ()))
    log = tmp_path / "log"
    with log.open("w") as errors:
        watch = subprocess.Popen([sys.executable, "-m", "podman_cvmfs", *argv], stderr=errors)
    try:
        end = time.monotonic() + 20
        while "could not be done" not in log.read_text() and time.monotonic() < end:
            time.sleep(0.05)
        # After a failure the pauses grow: 0.2 s, 0.4 s.
        time.sleep(1)
        watch.send_signal(signal.SIGTERM)
        assert watch.wait(20) == 0
    finally:
        watch.kill()
    text = log.read_text()
    assert text.count("is not valid JSON") == text.count("names added") == 1, text


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["--watch", "--format", "json"], "--format json"),
        (["--interval", "9"], "--interval"),
        (["--notification-file", "/dev/null"], "--notification-file"),
    ],
)
def test_options_that_do_not_go_together(
    tmp_path: Path, repository: Path, args: list[str], word: str
) -> None:
    done = podman_cvmfs(*_target(tmp_path, repository).argv("--offline", *args))
    assert done.returncode == 2
    assert word in done.stderr


def test_a_notification_wakes_the_watch(tmp_path: Path) -> None:
    notified = tmp_path / "notifications"
    times: list[float] = []

    def work() -> None:
        times.append(time.monotonic())
        if len(times) == 1:
            threading.Timer(0.3, lambda: notified.write_text('{"action": "done"}\n')).start()
        else:
            os.kill(os.getpid(), signal.SIGTERM)

    follow(work, 60, str(notified))
    assert times[1] - times[0] < 10


def test_a_notification_file_is_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[None] = []

    def work() -> None:
        calls.append(None)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    follow(work, 0.001, str(tmp_path / "none"))
    said = [record.message for record in caplog.records]
    assert said == [f"the notification file {tmp_path}/none isn't there yet; it is waited for"]
    with pytest.raises(InputError, match="is a directory"):
        follow(work, 0.001, str(tmp_path))
    assert len(calls) == 3


def test_a_signal_may_come_at_any_moment() -> None:
    """Also when the wait is amid something: here it comes at each line that a wait runs."""

    def hangs(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"a signal at line {at} of the wait hangs it")

    before, handler = sys.gettrace(), signal.signal(signal.SIGALRM, hangs)
    signal.setitimer(signal.ITIMER_REAL, 10)
    try:
        for at in itertools.count():
            if _passes(at):
                break
    finally:
        sys.settrace(before)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    assert at > 0


def _passes(at: int) -> bool:
    """Have SIGTERM come at so manieth a line; whether the wait has ended before that."""
    lines = calls = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal lines
        if event == "line":
            if lines == at:
                signal.raise_signal(signal.SIGTERM)
            lines += 1
        return trace

    def work() -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            sys.settrace(trace)
        else:
            sys.settrace(None)
            signal.raise_signal(signal.SIGTERM)

    follow(work, 0.001)
    sys.settrace(None)
    return calls > 1
