# SPDX-License-Identifier: Apache-2.0
"""Publishers that are killed, and publishers at one time."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.memory_images import Images, put
from tests.support.published import BASE, TOP, leftovers


def test_documents_are_on_the_disk_before_they_have_their_names(
    repository: Path, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a power cut could leave them empty."""
    put(repository, images, images.image("example.org/a:1", BASE))
    fsync, replace_ = os.fsync, os.replace
    safe, placed = set(), []

    def fsync_noted(fd: int) -> None:
        fsync(fd)
        safe.add(os.fstat(fd).st_ino)

    def replace_checked(source: str, target: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        status = os.lstat(source, dir_fd=src_dir_fd)
        if not stat.S_ISLNK(status.st_mode):
            assert status.st_ino in safe, target
            placed.append(target)
        replace_(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "fsync", fsync_noted)
    monkeypatch.setattr(os, "replace", replace_checked)
    put(repository, images, images.image("example.org/b:1", BASE, other=1))
    assert {"origin.json", "manifest.json"} < set(placed)


KILLED = """
import os, signal, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from tests.support.memory_images import Images, put
from tests.support.published import BASE, TOP
from podman_cvmfs.publish import workspace
left = int(sys.argv[2])
def die(call):
    def wrapped(*args, **kwargs):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **kwargs)
    return wrapped
os.rename, os.replace, os.mkdir = die(os.rename), die(os.replace), die(os.mkdir)
images = Images()
image = images.image("example.org/a:1", BASE, TOP)
put(Path(sys.argv[1]), images, image)
"""


_RECORDS = ".podman-cvmfs/published/*/*"


def made_by(repository: Path) -> set[str]:
    """The images that anything in the repository was made for."""
    made = {path.name for path in repository.glob(".flat/*/*")}
    for path in repository.glob(".layers/*/*/.metadata/origin.json"):
        made.update(each[7:] for each in json.loads(path.read_bytes())["origin"])
    return made


def test_killed_anywhere(repository: Path, images: Images) -> None:
    """Before each rename and each new directory: no half image, and the next run cleans up."""
    code = KILLED.format(root=str(Path(__file__).parents[3]))
    old = images.image("example.org/a:1", BASE)
    new = images.image("example.org/a:1", BASE, TOP)
    survived = False
    for steps in range(200):
        subprocess.run(["rm", "-rf", repository], check=True)
        put(repository, images, old)
        done = subprocess.run([sys.executable, "-c", code, repository, str(steps)])
        seen = (repository / "example.org/a:1/opt/app").exists()
        assert (repository / "example.org/a:1/etc/passwd").exists()
        for layer in repository.glob(".layers/*/*"):
            assert (layer / ".metadata/layers.json").exists()
        if done.returncode == 0:
            assert seen
            survived = True
            break
        assert done.returncode == -signal.SIGKILL
        assert not seen
        assert made_by(repository) <= {path.name for path in repository.glob(_RECORDS)}
        put(repository, images, new)
        assert leftovers(repository) == []
        assert (repository / "example.org/a:1/opt/app").exists()
    assert survived and steps > 10


def test_a_living_publisher_s_workspace_is_left_alone(repository: Path, images: Images) -> None:
    repository.mkdir()
    other = repository / ".podman-cvmfs-tmp-other"
    other.mkdir()
    with open(other / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        put(repository, images, images.image("example.org/a:1", BASE))
        assert other.exists()
    put(repository, images, images.image("example.org/b:1", BASE))
    assert not other.exists()


def test_two_publishers_at_once(repository: Path, images: Images) -> None:
    from concurrent.futures import ThreadPoolExecutor

    wanted = [images.image(f"example.org/a:{n}", BASE, TOP, number=n % 3) for n in range(12)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda image: put(repository, images, image), wanted))
    assert len(list((repository / "example.org").iterdir())) == 12
    assert len(list(repository.glob(".flat/*/*"))) == 3
    [origin] = [
        json.loads(p.read_bytes())["origin"]
        for p in repository.glob(".layers/*/*/.metadata/origin.json")
    ][:1]
    assert len(origin) == 3
    assert leftovers(repository) == []
