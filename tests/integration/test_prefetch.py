# SPDX-License-Identifier: Apache-2.0
"""Recording, reading early, and podman's hook, with a real podman on the emulated client."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from podman_cvmfs.profiles.profile import Profile, parse_profile, render_profile
from podman_cvmfs.profiles.record import profile_of
from tests.support.cli import podman_cvmfs
from tests.support.cold import Stage
from tests.support.images import IMAGES, build
from tests.support.mounted import Mounted

pytestmark = pytest.mark.usefixtures("as_root")

APP, OTHER = build(IMAGES[2]), build(IMAGES[0])
COMMAND = ["sh", "-c", "cat /opt/odd/*e /opt/links/absolute; exit 7"]
OPENED = {"bin/busybox", "opt/odd/with space", "opt/odd/new\nline", "opt/links/one"}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return Stage(tmp_path_factory.mktemp("stage"), [APP, OTHER])


@pytest.fixture
def client(stage: Stage) -> Iterator[Mounted]:
    """The mount, cold, its server 5 ms away."""
    with stage.cold(0.005) as found:
        yield found


@pytest.fixture
def profile(stage: Stage) -> Iterator[Profile]:
    """A profile of APP in the site's directory: more files than podman opens."""
    root = stage.repository / ".flat" / APP.image_id[:2] / APP.image_id
    files = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
    with stage.cold(0):
        made = profile_of(stage.shown(APP), stage.stored(APP)[1], files)
    stage.profile(APP).write_bytes(render_profile(made))
    yield made
    stage.profile(APP).unlink()


def _names(directory: Path) -> str:
    """All that is in a directory. No link is followed, to the repository for example."""
    return subprocess.run(["find", directory], stdout=subprocess.PIPE, encoding="utf-8").stdout


def settled(client: Mounted, wanted: int) -> int:
    """The requests to the server, soon after they are as many as ``wanted``."""
    deadline = time.monotonic() + 30
    while client.requests() < wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.2)
    return client.requests()


def test_what_a_container_opens_is_recorded(stage: Stage, client: Mounted) -> None:
    with stage.podman() as podman:
        arguments = [stage.name(APP), "--cache", str(stage.root / "c"), "--", *COMMAND]
        output = stage.run(podman, "profile", *arguments)
        assert podman.json("ps", "--all", "--format", "json") == []
    assert output == "newline\nspace\nlinked\n"
    (file,) = (stage.root / "c/profiles").glob("*/*")
    found = parse_profile(file.read_bytes(), APP.image_id, "it")
    assert {use.path for use in found.files} >= OPENED
    assert not any(use.path.startswith(("dev", "proc", "etc/hosts")) for use in found.files)


def test_a_container_that_does_not_end_is_ended(stage: Stage, client: Mounted) -> None:
    with stage.podman() as podman:
        began = time.monotonic()
        arguments = ["--seconds", "1", "--output", str(stage.root / "slow.json")]
        stage.run(podman, "profile", stage.name(OTHER), *arguments, "--", "sleep", "300")
        assert time.monotonic() - began < 30
        assert podman.json("ps", "--all", "--format", "json") == []
    assert "bin/busybox" in (stage.root / "slow.json").read_text()


def test_what_was_read_early_is_not_waited_for(
    stage: Stage, profile: Profile, client: Mounted
) -> None:
    with stage.podman() as podman:
        said = json.loads(stage.run(podman, "prefetch", stage.name(APP), "--format", "json"))
        assert (said[0]["files"], said[0]["failed"]) == (len(profile.files), 0)
        # The catalogue of the merged root as well.
        assert said[0]["fetched"] == len(profile.files) + 1
        before = client.requests()
        assert podman.run("run", "--rm", stage.name(APP)).stdout == APP.image.prints
        assert client.requests() == before


def test_the_hook_reads_early_and_leaves_nothing(
    stage: Stage, profile: Profile, client: Mounted
) -> None:
    hooks = f"--hooks-dir={stage.add_hook()}"
    with stage.podman() as podman:
        before = _names(stage.target.store)
        assert podman.run(hooks, "run", "--rm", stage.name(APP)).stdout == APP.image.prints
        wanted = len(profile.files) + 1
        assert settled(client, wanted) == wanted
        assert _names(stage.target.store) == before
    processes = subprocess.run(["ps", "-eo", "args"], stdout=subprocess.PIPE, encoding="utf-8")
    assert str(stage.target.store) not in processes.stdout


def test_many_containers_at_once_fetch_once(
    stage: Stage, profile: Profile, client: Mounted
) -> None:
    hooks = f"--hooks-dir={stage.add_hook()}"
    with stage.podman() as podman, ThreadPoolExecutor(16) as threads:
        run = [hooks, "run", "--rm", stage.name(APP)]
        said = list(threads.map(lambda _: podman.run(*run).stdout, range(16)))
        assert said == [APP.image.prints] * 16
        wanted = len(profile.files) + 1
        assert settled(client, wanted) == wanted


@pytest.mark.parametrize("hostile", ["names", "many", "pipe", "broken"])
def test_a_hostile_profile_does_no_harm(stage: Stage, client: Mounted, hostile: str) -> None:
    place = stage.repository / ".podman-cvmfs/profiles" / APP.image_id[:2] / APP.image_id
    place.parent.mkdir(parents=True, exist_ok=True)
    if hostile == "pipe":
        os.mkfifo(place)
    else:
        names = [f"none/{number}" for number in range(10_000)]
        files = {"names": ["../../../etc/shadow", "bin/busybox"], "many": names, "broken": []}
        document = {"format": 1, "image": APP.image_id}
        entries = [{"path": path} for path in files[hostile]]
        place.write_text("{" if hostile == "broken" else json.dumps({**document, "files": entries}))
    hooks = f"--hooks-dir={stage.add_hook()}"
    try:
        with stage.podman() as podman:
            assert podman.run(hooks, "run", "--rm", stage.name(APP)).stdout == APP.image.prints
            # Also when the container is gone.
            time.sleep(1)
            assert podman.run("run", "--rm", stage.name(APP)).stdout == APP.image.prints
    finally:
        place.unlink()


def test_a_dead_server_does_not_keep_anybody(
    stage: Stage, profile: Profile, client: Mounted
) -> None:
    with stage.podman() as podman:
        podman.run("run", "--rm", stage.name(OTHER), "true")
        client.tell(broken="fetches", delay=0.2)
        began = time.monotonic()
        hooks = f"--hooks-dir={stage.add_hook()}"
        podman.run(hooks, "run", "--rm", stage.name(OTHER), "true")
        assert time.monotonic() - began < 10


def test_a_sync_reads_the_images_of_wish_lists(stage: Stage, client: Mounted) -> None:
    wishes, settings = stage.root / "wishes", stage.root / "reads.toml"
    wishes.write_text(f"{stage.name(APP)}\n")
    settings.write_text(f'offline = true\nprefetch = true\nwish_lists = ["{wishes}"]\n')
    options = ("--store", stage.root / "other", "--repository", stage.target.repository)
    done = podman_cvmfs("sync", *options, "--cache", stage.root / "c", settings=settings)
    assert (done.returncode, "files," in done.stderr) == (0, True), done.stderr
    files = client.counts()["file"]
    # Nothing is new, and so nothing is read.
    done = podman_cvmfs("sync", *options, "--cache", stage.root / "c", settings=settings)
    assert (done.returncode, "files," in done.stderr) == (0, False), done.stderr
    wishes.write_text(f"{stage.name(OTHER)}\n")
    podman_cvmfs("sync", *options, "--cache", stage.root / "c", settings=settings)
    assert client.counts()["file"] > files
