# SPDX-License-Identifier: Apache-2.0
"""The file system that stands for CernVM-FS's client shows what such a client does."""

from __future__ import annotations

import errno
import functools
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from podman_cvmfs.sync.stamp import revision_of
from tests.support.ducc_losses import PUBLISHED, PUBLISHER, lossy_copy
from tests.support.layers import CAPABILITY
from tests.support.mounted import Mounted, is_mounted, mounted

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
    (root / "dir/4").chmod(0o4755)
    (root / "dir/4-link").symlink_to("$(ABSENT:-4)")
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
        lambda: os.rename(root / "dir/1", root / "dir/new"),
        lambda: os.setxattr(root / "dir/1", "user.x", b"x"),
        lambda: (root / "dir/1").open("r+"),
    ):
        assert _error(change) == errno.EROFS
    assert os.readlink(root / "dir/4-link") == "4"


def test_setuid_bits_are_shown_but_mean_nothing(client: Mounted) -> None:
    assert (client.mountpoint / "dir/4").stat().st_mode & 0o7777 == 0o4755
    assert os.statvfs(client.mountpoint).f_flag & os.ST_NOSUID


def test_owners_can_be_their_own(repository: Path, tmp_path: Path) -> None:
    os.chown(repository / "dir/1", 1234, 1235)
    with mounted(repository, tmp_path / "m", tmp_path / "client", owner=None) as client:
        found = (client.mountpoint / "dir/1").stat()
        assert (found.st_uid, found.st_gid) == (1234, 1235)


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
    assert os.getxattr(root, "user.fqrn") == b"unpacked.example.org"
    assert os.getxattr(root / "dir/1", "user.hash") == os.getxattr(root / "linked", "user.hash")
    process = os.getxattr(root, "user.pid").decode()
    assert Path(f"/proc/{process}/cwd").resolve() == client.cache.resolve()


def test_attributes_can_be_hidden(repository: Path, tmp_path: Path) -> None:
    with mounted(repository, tmp_path / "m", tmp_path / "client", attributes=False) as client:
        assert os.listxattr(client.mountpoint) == []
        assert revision_of(str(client.mountpoint)) is None


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


def test_each_file_and_catalogue_is_one_request(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    root = repository / ".flat/ab/abcd"
    layer = repository / ".layers/ab/abcd"
    for directory in (root / "etc", layer / "layerfs", layer / ".metadata"):
        directory.mkdir(parents=True)
    (root / "etc/passwd").write_text("x")
    (layer / ".metadata/layers.json").write_text("[]")
    with mounted(repository, tmp_path / "m", tmp_path / "client") as client:
        there = client.mountpoint
        os.listdir(there)
        assert client.requests() == 0
        (there / ".layers/ab/abcd/.metadata/layers.json").read_text()
        assert client.counts()["catalogue"] == 2 and client.counts()["file"] == 1
        os.listdir(there / ".layers/ab/abcd/layerfs")
        assert client.requests() == 4
        (there / ".flat/ab/abcd").stat()
        assert client.requests() == 4
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(Path.read_text, [there / ".flat/ab/abcd/etc/passwd"] * 8))
        assert client.requests() == 6
    # A new client has nothing; a server that is down is met where a catalogue is missing.
    with mounted(repository, tmp_path / "m", tmp_path / "client") as client:
        client.tell(broken="fetches")
        assert sorted(os.listdir(there)) == [".flat", ".layers"]
        assert (there / ".flat/ab/abcd").is_dir()
        assert _error(lambda: (there / ".flat/ab/abcd/etc").stat()) == errno.EIO
        assert revision_of(str(there)) is not None


def test_the_kernel_remembers(client: Mounted) -> None:
    file = client.mountpoint / "dir/1"
    file.read_text()
    before = client.counts()
    for _ in range(20):
        assert file.stat().st_size and file.read_text()
    after = client.counts()
    assert after["lookup"] == before["lookup"] and after["read"] == before["read"]


def test_a_crash_leaves_a_mount_that_answers_nothing(client: Mounted) -> None:
    (client.mountpoint / "dir/1").read_text()
    client.die(unmounts=False)
    assert _error((client.mountpoint / "dir/1").read_text) == errno.ENOTCONN
    assert is_mounted(client.mountpoint)


def test_a_crashed_client_is_unmounted_except_for_who_uses_it(client: Mounted) -> None:
    used = os.open(client.mountpoint / "dir", os.O_RDONLY)
    try:
        client.die()
        assert not is_mounted(client.mountpoint) and os.listdir(client.mountpoint) == []
        assert _error(lambda: os.listdir(used)) == errno.ENOTCONN
    finally:
        os.close(used)


def test_the_client_tells_of_its_failures(client: Mounted) -> None:
    def told() -> tuple[int, int, str]:
        names = ("nioerr", "timestamp_last_ioerr", "logbuffer")
        errors, last, log = (os.getxattr(client.mountpoint, f"user.{name}") for name in names)
        return int(errors), int(last), log.decode()

    assert told() == (0, 0, "")
    client.tell(broken="fetches", delay=0.3)
    began = time.time()
    with ThreadPoolExecutor(4) as pool:
        files = [client.mountpoint / f"dir/{number}" for number in range(4)]
        assert all(pool.map(lambda each: _error(each.read_text) == errno.EIO, files))
    assert time.time() - began > 1.2, "one after the other"
    errors, last, log = told()
    assert errors == 4 and int(began) <= last <= time.time() and "EIO (06) on /dir/3" in log
    client.tell(broken="fetches", offline=True)
    assert told()[0] == 5 and told()[2].endswith("entering offline mode\n")
    client.tell()
    assert told()[2].endswith("recovered from offline mode\n")


def test_a_mount_goes_away_under_who_uses_it(client: Mounted) -> None:
    with (client.mountpoint / "dir/1").open() as file:
        assert not client.abort()
        assert _error(lambda: os.listdir(client.mountpoint)) == errno.ENOTCONN
        client.close()
        assert not is_mounted(client.mountpoint)
        file.close()
    assert os.listdir(client.mountpoint) == []


_LEFT = """
import os, sys
from pathlib import Path
from tests.support.mounted import Mounted
where = Path(sys.argv[1])
Mounted(where / "repository", where / "left", where / "place")
print("mounted", flush=True)
sys.stdin.read()
"""


def test_nothing_is_left_of_a_test_that_was_killed(repository: Path, tmp_path: Path) -> None:
    test = subprocess.Popen(
        [sys.executable, "-c", _LEFT, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert test.stdout is not None and test.stdout.readline() == b"mounted\n"
    assert is_mounted(tmp_path / "left")
    test.send_signal(signal.SIGKILL)
    test.communicate()
    deadline = time.monotonic() + 20
    while is_mounted(tmp_path / "left"):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_what_ducc_loses(tmp_path: Path) -> None:
    repository = tmp_path / "published"
    root, layer = repository / ".flat/ab/abcd", repository / ".layers/cd/cdef/layerfs"
    for top in (root, layer):
        (top / "etc").mkdir(parents=True)
        (top / "empty").mkdir(0o1777)
        (top / "etc/resolv.conf").write_text("nameserver\n")
        for name, mode in (("suid", 0o4755), ("none", 0), ("plain", 0o640)):
            (top / name).touch()
            os.chown(top / name, 1234, 1234)
            (top / name).chmod(mode)
        os.setxattr(top / "plain", "user.own", b"x")
        os.link(top / "plain", top / "linked")
        (top / "link").symlink_to("plain")
        (top / "empty").chmod(0o1777)
        for path in (*top.rglob("*"), top):
            os.utime(path, (5, 5), follow_symlinks=False)
        top.chmod(0o700)
    lossy_copy(repository, tmp_path / "copy")
    root, layer = tmp_path / "copy/.flat/ab/abcd", tmp_path / "copy/.layers/cd/cdef/layerfs"
    assert _modes(root) == {
        ".": 0o755, ".cvmfscatalog": 0o644, "suid": 0o755, "none": 0o600, "plain": 0o640,
        "linked": 0o640, "empty": 0o777, "etc": 0o755, "etc/resolv.conf": 0o644, "link": 0o777,
    }  # fmt: skip
    assert _modes(layer) == {
        **_modes(root), ".": 0o700, ".cvmfscatalog": 0o664, "suid": 0o4755, "none": 0,
        "empty": 0o1777,
    }  # fmt: skip
    assert (root / "suid").stat().st_uid == 1234
    assert {path.lstat().st_uid for path in layer.rglob("*")} == {PUBLISHER[0]}
    assert (layer / "suid").stat().st_uid == PUBLISHER[0]
    assert (root / "etc/resolv.conf").read_text() == ""
    assert (layer / "etc/resolv.conf").read_text() == "nameserver\n"
    for top in (root, layer):
        assert os.listxattr(top / "plain") == [] and (top / "plain").stat().st_nlink == 1
    published = {path.name for path in root.rglob("*") if path.lstat().st_mtime == PUBLISHED}
    assert published == {".cvmfscatalog", "etc", "link"}
    assert (layer / "link").lstat().st_mtime == 5


def _modes(top: Path) -> dict[str, int]:
    return {
        str(path.relative_to(top)): stat.S_IMODE(path.lstat().st_mode)
        for path in (top, *top.rglob("*"))
    }
