# SPDX-License-Identifier: Apache-2.0
"""``podman-cvmfs cache``: files, pipes, and errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from podman_cvmfs.sync.stamp import stamp_path
from tests.support.caches import BLOBS, GENUINE, IMAGE, exported, files, filled
from tests.support.cli import podman_cvmfs


def test_command(tmp_path: Path) -> None:
    filled(tmp_path / "a")
    archive = tmp_path / "cache.tar"
    done = podman_cvmfs("cache", "export", archive, "--cache", tmp_path / "a", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"blobs": 5, "bytes": sum(map(len, BLOBS)), "broken": 0}
    assert archive.stat().st_mode & 0o777 == 0o644
    done = podman_cvmfs("cache", "import", archive, "--cache", tmp_path / "b", "--format", "json")
    assert json.loads(done.stdout) == {"blobs": 5, "bytes": sum(map(len, BLOBS)), "new": 5}
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_notes_alone_wake_the_next_sync_too(tmp_path: Path) -> None:
    cache, other = filled(tmp_path / "a"), filled(tmp_path / "b", [*BLOBS, GENUINE])
    cache.keep_manifests(IMAGE, GENUINE, None)
    (tmp_path / "x.tar").write_bytes(exported(cache))
    stamp = Path(stamp_path(other.directory, "/store", "/repository"))
    for is_there in (False, True):
        stamp.parent.mkdir(exist_ok=True)
        stamp.touch()
        done = podman_cvmfs("cache", "import", tmp_path / "x.tar", "--cache", other.directory)
        assert done.returncode == 0, done.stderr
        # The second time there is nothing to be looked for.
        assert stamp.exists() == is_there


def test_command_in_a_pipe(tmp_path: Path) -> None:
    filled(tmp_path / "a")
    command = [sys.executable, "-m", "podman_cvmfs", "cache"]
    line = '"$@" export - --cache a | "$@" import - --cache b'
    subprocess.run(
        ["bash", "-o", "pipefail", "-c", line, "bash", *command], check=True, cwd=tmp_path
    )
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_command_errors(tmp_path: Path) -> None:
    filled(tmp_path / "a")
    archive = tmp_path / "x.tar"
    archive.write_bytes(b"not a tar" * 100)
    done = podman_cvmfs("cache", "import", archive, "--cache", tmp_path / "b")
    assert done.returncode == 3
    assert f"{archive}: not an exported cache" in done.stderr
    assert not (tmp_path / "b").exists()
    done = podman_cvmfs("cache", "import", tmp_path / "none.tar", "--cache", tmp_path / "b")
    assert (done.returncode, "No such file" in done.stderr) == (3, True)
    done = podman_cvmfs("cache", "export", tmp_path / "no/x.tar", "--cache", tmp_path / "a")
    assert (done.returncode, "can't write" in done.stderr) == (3, True)
    done = podman_cvmfs("cache", "export", "-", "--format", "json", "--cache", tmp_path / "a")
    assert done.returncode == 2
    # A cache that can't be read fails the export and leaves the file as it was.
    (tmp_path / "f/sha256").parent.mkdir()
    (tmp_path / "f/sha256").write_text("a file")
    done = podman_cvmfs("cache", "export", archive, "--cache", tmp_path / "f")
    assert (done.returncode, "can't read the cache" in done.stderr) == (5, True)
    assert archive.read_bytes() == b"not a tar" * 100
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "f", "x.tar"]
