# SPDX-License-Identifier: Apache-2.0
"""Nearly all images leave a repository in one revision."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Target, podman_cvmfs, succeed
from tests.support.images import IMAGES, build, push
from tests.support.many import make_repository
from tests.support.mounted import Mounted, mounted
from tests.support.podman import Host, running
from tests.support.registry import Registry

pytestmark = pytest.mark.usefixtures("as_root")

#: Images, and how many of them stay.
_ALL, _STAY = 100, 4
#: A sync that takes longer looks at each image several times, in seconds.
_QUICK = 30.0
#: podman's own image.
_RUNS = "t/remade:1"


@contextlib.contextmanager
def _served(repository: Path, root: Path, kind: str) -> Iterator[tuple[Path, Mounted | None]]:
    if kind == "plain":
        yield repository, None
        return
    with mounted(repository, root / "mount", root / "client") as client:
        yield client.mountpoint, client


@pytest.mark.parametrize("kind", ["plain", "mounted"])
def test_most_images_leave_at_once(
    tmp_path: Path, podman_host: Host, registry: Registry, kind: str
) -> None:
    repository = make_repository(tmp_path / "repository", _ALL, layers=3, shared=1)
    name = push(build(next(each for each in IMAGES if each.name == _RUNS)), registry)
    succeed("publish", f"http://{name}", "--repository", repository)
    with _served(repository, tmp_path, kind) as (place, client):
        target = Target(place, tmp_path / "store", tmp_path / "cache")
        target.sync("--offline")
        with running(tmp_path / "podman", stores=[target.store], on=podman_host) as podman:
            podman.run("run", "--detach", "--name=goes-on", "--pull=never", name, "sleep", "1000")
            podman.run("create", "--name=stopped", "--pull=never", name)
            described = [
                *(repository / ".metadata").glob("*/project/*"),
                repository / ".metadata" / name,
            ]
            for each in described[_STAY:]:
                shutil.rmtree(each)
                (repository / each.relative_to(repository / ".metadata")).unlink()
            if client is not None:
                client.tell(revision=2)
            started = time.monotonic()
            done = podman_cvmfs(*target.argv("--offline"))
            assert time.monotonic() - started < _QUICK
            assert done.returncode == 0, done.stderr
            lines = done.stderr.splitlines()
            gone = _ALL + 1 - _STAY
            assert f"{_STAY} images" in lines[-1] and f"{gone} removed, 0 failed" in lines[-1]
            assert lines[-2] == f"{gone - 9} more names removed"
            assert sum(line.startswith("removed ") for line in lines) == 9
            assert len(lines) < 15

            listed = podman.run("images", "--format={{.Repository}}").stdout.split()
            assert sum(not each.startswith("retired.") for each in listed) == _STAY
            assert podman.run("exec", "goes-on", "cat", "/var/lib/old/young").stdout == "new\n"
            assert podman.run("start", "--attach", "stopped").stdout == "new\n"
            done = podman_cvmfs(*target.argv("--offline"))
            assert done.returncode == 0 and "removed" not in done.stderr.replace("0 removed", "")
        succeed("verify", "--store", target.store)
