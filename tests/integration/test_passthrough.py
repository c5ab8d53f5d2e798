# SPDX-License-Identifier: Apache-2.0
"""The file system that stands for CernVM-FS's client shows what such a client does."""

from __future__ import annotations

import errno
import functools
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from podman_cvmfs.sync.stamp import revision_of
from tests.support.layers import CAPABILITY
from tests.support.mounted import Mounted, mounted

pytestmark = pytest.mark.usefixtures("as_root")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """What is to be shown."""
    root = tmp_path / "repository"
    (root / "dir").mkdir(parents=True)
    for number in range(30):
        (root / f"dir/{number}").write_text(f"file {number}\n")
    os.link(root / "dir/1", root / "linked")
    (root / b"latin-\xe9".decode("utf-8", "surrogateescape")).symlink_to("dir/1")
    os.setxattr(root / "dir/2", "security.capability", CAPABILITY)
    os.setxattr(root / "dir/2", "user.own", b"x")
    (root / "dir/3").chmod(0o600)
    return root


@pytest.fixture
def client(repository: Path, tmp_path: Path) -> Iterator[Mounted]:
    """The same, mounted."""
    with mounted(repository, tmp_path / "mount", tmp_path / "client") as found:
        yield found


def _error(look: Callable[[], object]) -> int | None:
    with pytest.raises(OSError) as failed:
        look()
    return failed.value.errno


def test_files_are_a_stranger_s_and_read_only(client: Mounted) -> None:
    root = client.mountpoint
    assert sorted(os.listdir(root)) == ["dir", b"latin-\xe9".decode("utf-8", "surrogateescape"),
                                        "linked"]  # fmt: skip
    one, linked = (root / "dir/1").lstat(), (root / "linked").lstat()
    assert (one.st_uid, one.st_gid, one.st_nlink) == (999, 995, 1)
    assert one.st_ino != linked.st_ino
    assert one.st_mtime_ns % 1_000_000_000 == 0
    assert (root / "linked").read_text() == "file 1\n"
    assert os.readlink(os.fsencode(root) + b"/latin-\xe9") == b"dir/1"
    assert os.statvfs(root).f_namemax == 0
    for change in (
        lambda: os.chown(root / "dir", 0, 0),
        lambda: (root / "dir").chmod(0o700),
        lambda: (root / "new").mkdir(),
        lambda: (root / "dir/1").unlink(),
    ):
        assert _error(change) == errno.EROFS


def test_permissions_are_checked(client: Mounted) -> None:
    child = os.fork()
    if child == 0:
        # From inside: pytest's directories are closed to others.
        os.chdir(client.mountpoint / "dir")
        os.setgid(1000)
        os.setuid(1000)
        allowed = [os.access(name, os.R_OK) for name in "23"]
        os._exit(0 if allowed == [True, False] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_attributes_are_the_client_s(client: Mounted) -> None:
    root = client.mountpoint
    assert {each.partition(".")[0] for each in os.listxattr(root)} == {"user"}
    assert os.listxattr(root / "dir/2") == []
    for name in ("security.capability", "user.own", "trusted.overlay.opaque"):
        assert _error(functools.partial(os.getxattr, root / "dir/2", name)) == errno.ENODATA
    first = revision_of(str(root))
    assert first is not None and first[0] == "1"
    client.tell(revision=2)
    second = revision_of(str(root))
    assert second is not None and second[0] == "2" and second[1] != first[1]
    process = os.getxattr(root, "user.pid").decode()
    assert Path(f"/proc/{process}/cwd").resolve() == client.cache.resolve()


def test_what_is_cached_outlives_the_server(client: Mounted) -> None:
    file, other = client.mountpoint / "dir/1", client.mountpoint / "dir/2"
    assert file.read_text() == "file 1\n" and client.fetched() == 1
    client.tell(broken="fetches")
    assert file.read_text() == "file 1\n"
    assert _error(other.read_text) == errno.EIO
    client.tell(broken="all")
    assert _error(lambda: os.listdir(client.mountpoint / "dir")) == errno.EIO
    client.tell()
    assert other.read_text() == "file 2\n" and client.fetched() == 2


@pytest.mark.parametrize("threads", [3, 10])
def test_so_many_fetches_at_a_time(repository: Path, tmp_path: Path, threads: int) -> None:
    with mounted(repository, tmp_path / "m", tmp_path / "client", threads=threads) as client:
        client.tell(delay=0.2)
        files = [client.mountpoint / f"dir/{number}" for number in range(30)]
        began = time.monotonic()
        with ThreadPoolExecutor(30) as pool:
            assert len(list(pool.map(Path.read_bytes, files))) == 30
        assert time.monotonic() - began >= 0.2 * 30 / threads
        assert client.fetched() == 30
        # By now all is in the cache.
        began = time.monotonic()
        assert files[0].read_text() == "file 0\n"
        assert time.monotonic() - began < 0.2
