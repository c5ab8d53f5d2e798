# SPDX-License-Identifier: Apache-2.0
"""Publishing what wish lists want, from a real registry."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from tests.support.cli import Target, podman_cvmfs, succeed
from tests.support.images import Image, build, push, push_index, renamed
from tests.support.layers import sha256
from tests.support.podman import Host, running
from tests.support.registry import Registry

IMAGE = Image("t/app:1.0", ["base", "app"], {"Cmd": ["true"]})


def statuses(output: str) -> dict[str, str]:
    return {entry["name"] or entry["source"]: entry["status"] for entry in json.loads(output)}


def test_a_list_is_published_and_then_skipped(
    registry: Registry, tmp_path: Path, podman_host: Host
) -> None:
    built = build(IMAGE)
    names = [push(renamed(built, f"t/app:{tag}"), registry) for tag in ("1.0", "1.1", "2.0")]
    several = replace(IMAGE, name="t/several:1")
    names.append(push_index({"s390x": build(several, "s390x"), "amd64": build(several)}, registry))
    wishes = tmp_path / "wishes.yaml"
    wishes.write_text(
        "version: 1\ninput:\n"
        f"  - http://{registry.address}/t/app:1.*\n"
        f"  - http://{names[1]}\n"
        f"  - http://{registry.address}/t/several:1\n"
    )
    target = Target(tmp_path / "repository", tmp_path / "store", tmp_path / "cache")
    command = ("publish", "--wish-list", wishes, "--repository", target.repository)
    mark = len(registry.requests())
    first = podman_cvmfs(*command)
    assert first.returncode == 0, first.stderr
    assert first.stderr.endswith("3 published, 0 unchanged, 0 failed\n")
    blobs = [request.path for request in registry.since(mark) if request.is_blob]
    # Each layer is fetched once, whatever images have it.
    layers = [path for path in blobs if any(path.endswith(sha256(b.data)) for b in built.blobs)]
    assert len(layers) == len(set(layers)) == len(built.blobs)

    mark = len(registry.requests())
    again = succeed(*command, "--format", "json")
    assert set(statuses(again).values()) == {"unchanged"}
    asked = [request.path for request in registry.since(mark)]
    assert [path for path in asked if "/blobs/" in path] == []
    # The tags of the pattern, and each of three tags once.
    assert len([path for path in asked if "/manifests/" in path]) == 3
    assert len([path for path in asked if "/tags/" in path]) == 1

    target.sync("--offline")
    with running(tmp_path / "podman", stores=[target.store], on=podman_host) as podman:
        for name in (*names[:2], names[3]):
            podman.run("run", "--rm", "--pull=never", name)
        assert podman.run("image", "exists", names[2], check=False).returncode == 1


def test_one_bad_wish_stops_no_other(registry: Registry, tmp_path: Path) -> None:
    name = push(build(IMAGE), registry)
    wishes = tmp_path / "wishes.txt"
    wishes.write_text(
        f"{registry.address}/t/none:1\n{registry.address}/t/app:9*\n{name}\n"
        "http://198.51.100.1/t/app:1\n"
    )
    repository = tmp_path / "repository"
    done = podman_cvmfs("publish", "--wish-list", wishes, "--repository", repository)
    assert done.returncode == 7
    assert "1 published, 0 unchanged, 3 failed" in done.stderr
    assert "the registry has no tag that matches" in done.stderr
    assert "http:// is only for registries on this machine" in done.stderr
    assert (repository / name).is_symlink()


def test_a_watch_publishes_what_is_pushed(registry: Registry, tmp_path: Path) -> None:
    first = push(build(IMAGE), registry)
    wishes = tmp_path / "wishes.txt"
    wishes.write_text(f"{registry.address}/t/app:*\n")
    repository = tmp_path / "repository"
    argv = [sys.executable, "-m", "podman_cvmfs", "publish", "--assume-nosuid"]
    argv += ["--wish-list", str(wishes), "--repository", str(repository), "--watch", "1"]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_for(repository / first)
            second = push(renamed(build(IMAGE), "t/app:3"), registry)
            wait_for(repository / second)
        finally:
            process.send_signal(signal.SIGTERM)
            said = process.communicate(timeout=20)[1]
    assert process.returncode == 0, said
    assert "unchanged" not in said


def wait_for(link: Path) -> None:
    deadline = time.monotonic() + 60
    while not link.is_symlink():
        assert time.monotonic() < deadline, f"{link} isn't published"
        time.sleep(0.05)
