# SPDX-License-Identifier: Apache-2.0
"""Publishing never makes files that give users of the host rights."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from podman_cvmfs.errors import InputError, RepositoryError
from podman_cvmfs.publish.exposure import check_exposure, make_directory
from podman_cvmfs.publish.publisher import publish
from tests.support.layers import CAPABILITY, directory, file
from tests.support.memory_images import Images, put
from tests.support.required import required
from tests.support.trees import snapshot
from tests.support.users import answer_of

_USER = 12345
_NAME = "example.org/a:1"
#: A setuid-root copy of a program, one with capabilities, and a file and directory of a host user.
_RIGHTS = [
    directory("bin"),
    file("bin/rootsh", "x", 0o4755),
    file("bin/capable", "x", 0o755, xattrs={"security.capability": CAPABILITY}),
    directory("home/app", 0o755, _USER),
    file("home/app/run.sh", "true", 0o755, _USER),
]


@pytest.fixture
def images() -> Images:
    return Images()


@pytest.fixture
def mounted(public_place: Path) -> Iterator[Path]:
    """A file system with nosuid and nodev."""
    path = public_place / "mounted"
    path.mkdir()
    options = ["-o", "nosuid,nodev,mode=0755,size=64m"]
    if subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", path]).returncode:
        required("nothing can be mounted here")
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _reached_by_a_user(path: Path) -> bool:
    """Whether an ordinary user sees anything in the directory."""

    def is_reached() -> bool:
        try:
            return bool(os.listdir(path))
        except OSError:
            return False

    return answer_of(_USER, is_reached)


def test_a_new_repository_is_closed(
    public_place: Path, images: Images, caplog: pytest.LogCaptureFixture
) -> None:
    repository = public_place / "repository"
    put(repository, images, images.image(_NAME, _RIGHTS))
    assert _mode(repository) == 0o700
    assert not _reached_by_a_user(repository)
    assert not _reached_by_a_user(repository / ".flat")
    # The image is whole: root's containers have all of it.
    assert _mode(repository / _NAME / "bin/rootsh") == 0o4755
    assert (repository / _NAME / "home/app").stat().st_uid == _USER
    assert caplog.text.count("mode 0700") == 1
    put(repository, images, images.image("example.org/b:1", _RIGHTS, other=1))
    assert caplog.text.count("mode 0700") == 1 and _mode(repository) == 0o700


def test_an_open_one_is_refused_before_anything_is_written(
    public_place: Path, images: Images
) -> None:
    repository = public_place / "repository"
    repository.mkdir(mode=0o755)
    before = snapshot(repository)
    with pytest.raises(RepositoryError, match="other users of this machine") as caught:
        put(repository, images, images.image(_NAME, _RIGHTS))
    for cure in ("nosuid,nodev", f"chmod 0700 {repository}", "--assume-nosuid"):
        assert cure in str(caught.value.hint)
    assert snapshot(repository) == before and images.asked == 0
    repository.chmod(0o700)
    assert put(repository, images, images.image(_NAME, _RIGHTS)).changed


@pytest.mark.parametrize("mode", [0o711, 0o710, 0o701, 0o755])
def test_whoever_can_enter_reaches_it(public_place: Path, mode: int) -> None:
    (public_place / "repository").mkdir()
    (public_place / "repository").chmod(mode)
    with pytest.raises(RepositoryError):
        check_exposure(str(public_place / "repository"), False)


def test_a_closed_directory_above_is_enough(public_place: Path, images: Images) -> None:
    """Thus it can be mounted elsewhere for users, with nosuid and read-only."""
    repository = public_place / "closed/repository"
    repository.mkdir(parents=True)
    (public_place / "closed").chmod(0o700)
    put(repository, images, images.image(_NAME, _RIGHTS))
    assert _mode(repository) == 0o755
    # A link to it is no way in; the directory itself counts.
    (public_place / "link").symlink_to(repository)
    check_exposure(str(public_place / "link"), False)


def test_the_caller_vouches(
    public_place: Path, images: Images, caplog: pytest.LogCaptureFixture
) -> None:
    repository = public_place / "repository"
    publish(str(repository), images.image(_NAME, _RIGHTS), images.layer, assume_nosuid=True)
    assert _mode(repository) == 0o755 and not caplog.text
    with pytest.raises(RepositoryError):
        put(repository, images, images.image("example.org/b:1", _RIGHTS, other=1))
    # What is closed stays so.
    repository.chmod(0o700)
    publish(str(repository), images.image("example.org/c:1", []), images.layer, assume_nosuid=True)
    assert _mode(repository) == 0o700


def test_a_mount_with_nosuid_and_nodev_is_open(mounted: Path, images: Images) -> None:
    put(mounted / "new", images, images.image(_NAME, _RIGHTS))
    assert _mode(mounted / "new") == 0o755
    put(mounted, images, images.image(_NAME, _RIGHTS))
    for option, is_fine in (("suid", False), ("nosuid,dev", False), ("nosuid,nodev", True)):
        subprocess.run(["mount", "-o", f"remount,{option}", mounted], check=True)
        if is_fine:
            check_exposure(str(mounted), False)
        else:
            with pytest.raises(RepositoryError, match="setuid"):
                check_exposure(str(mounted), False)


def test_root_publishes_only_where_root_alone_can_write(public_place: Path, images: Images) -> None:
    """Whoever owns the directory, or one above, could lead root out of it."""
    for name in ("theirs", "open"):
        (public_place / name / "repository").mkdir(parents=True)
        (public_place / name / "repository").chmod(0o700)
    os.chown(public_place / "theirs", _USER, _USER)
    (public_place / "open").chmod(0o777)
    before = snapshot(public_place)
    for path in ("theirs", "theirs/repository", "theirs/new", "open/repository", "open/new"):
        with pytest.raises(InputError, match="root doesn't work"):
            put(public_place / path, images, images.image(_NAME, _RIGHTS))
    assert snapshot(public_place) == before and images.asked == 0


def test_a_directory_that_appears_meanwhile(
    public_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (public_place / "tmp").mkdir()
    (public_place / "tmp").chmod(0o1777)
    mkdir = os.mkdir

    def faster(path: str, mode: int) -> None:
        mkdir(path, 0o755)
        os.chown(path, _USER, _USER)
        mkdir(path, mode)

    monkeypatch.setattr(os, "mkdir", faster)
    with pytest.raises(InputError, match="belongs to user 12345"):
        make_directory(str(public_place / "tmp/repository"), True)


def test_an_ordinary_user_s_setuid_files_are_no_more_exposed(public_place: Path) -> None:
    """They would give others that user's rights."""
    os.chown(public_place, _USER, _USER)
    code = f"""
import os, sys
os.setgroups([]); os.setgid({_USER}); os.setuid({_USER})
from podman_cvmfs.errors import RepositoryError
from podman_cvmfs.publish.exposure import make_directory
make_directory("new", False)
assert os.stat("new").st_mode & 0o777 == 0o700
os.mkdir("open")
try: make_directory("open", False)
except RepositoryError: print("refused")
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=public_place,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "refused\n", done.stderr
