# SPDX-License-Identifier: Apache-2.0
"""Where root works, and where it doesn't: real directories."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from podman_cvmfs.errors import InputError
from podman_cvmfs.util.trusted_place import require_own_place
from tests.support.required import required

_STRANGER = 12345
_OTHER = 12346


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that only root can change, and that all users reach."""
    if os.geteuid() != 0:
        required("only root can give files away")
    with tempfile.TemporaryDirectory(prefix="trusted-place-") as path:
        os.chmod(path, 0o755)
        yield Path(path)


def _refused(path: Path, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        require_own_place(str(path))
    told = f"{caught.value.message}\n{caught.value.hint}"
    for word in words:
        assert word in told


def test_roots_own_directory_is_fine(place: Path) -> None:
    require_own_place(str(place))
    require_own_place(str(place / "new/and/below"))
    require_own_place(f"{place}/./../place/")
    require_own_place("/")


def test_a_relative_path_is_taken_from_here(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    require_own_place("new")
    os.chown(place, _STRANGER, 0)
    with pytest.raises(InputError, match="belongs to user 12345"):
        require_own_place("new")


@pytest.mark.parametrize("part", ["", "a", "a/b"])
def test_each_part_must_be_roots(place: Path, part: str) -> None:
    (place / "a/b").mkdir(parents=True)
    require_own_place(str(place / "a/b/new"))
    os.chown(place / part, _STRANGER, -1)
    _refused(place / "a/b", "belongs to user 12345", "run this as user 12345")
    _refused(place / "a/b/new", "belongs to user 12345")


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o757])
def test_nobody_else_may_write_to_a_part(place: Path, mode: int) -> None:
    (place / "a/b").mkdir(parents=True)
    (place / "a").chmod(mode)
    _refused(place / "a/b", f"others can write to {place / 'a'}", "chmod go-w")
    _refused(place / "a", "others can write")


def test_a_sticky_directory_holds_roots_places(place: Path) -> None:
    (place / "tmp/mine").mkdir(parents=True)
    (place / "tmp/theirs").mkdir()
    os.chown(place / "tmp/theirs", _STRANGER, 0)
    (place / "tmp").chmod(0o1777)
    require_own_place(str(place / "tmp/mine"))
    require_own_place(str(place / "tmp/new"))
    _refused(place / "tmp/theirs", "belongs to")
    # Others can put things into it.
    _refused(place / "tmp", "others can write")


def test_a_link_and_its_target_must_be_roots(place: Path) -> None:
    (place / "target/deep").mkdir(parents=True)
    (place / "link").symlink_to("target")
    (place / "absolute").symlink_to(place / "target")
    for link in ("link", "absolute"):
        require_own_place(str(place / link / "deep"))
    os.chown(place / "target", _STRANGER, 0)
    for link in ("link", "absolute"):
        _refused(place / link / "deep", f"{place / 'target'} belongs to")
    os.chown(place / "target", 0, 0)
    os.lchown(place / "link", _STRANGER, 0)
    _refused(place / "link/deep", f"{place / 'link'} belongs to")


def test_the_way_back_out_of_a_link_is_the_kernels(place: Path) -> None:
    """``link/..`` is the directory above the link's target."""
    (place / "theirs/inner").mkdir(parents=True)
    (place / "theirs/new").mkdir()
    os.chown(place / "theirs", _STRANGER, 0)
    (place / "link").symlink_to("theirs/inner")
    _refused(place / "link/../new", f"{place / 'theirs'} belongs to")


def test_links_in_a_circle_are_refused(place: Path) -> None:
    (place / "a").symlink_to("b")
    (place / "b").symlink_to("a")
    _refused(place / "a", "too many symbolic links")


def _is_fine_for_a_user(path: Path) -> bool:
    """Ask as an ordinary user, in a child: a user can't become root again."""
    child = os.fork()
    if child == 0:
        code = 2
        try:
            os.setgroups([])
            os.setgid(_OTHER)
            os.setuid(_OTHER)
            require_own_place(str(path))
            code = 0
        except InputError as err:
            code = 1 if "another user" in err.message else 2
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 1)
    return code == 0


def test_a_user_works_in_own_places_and_roots(place: Path) -> None:
    (place / "mine").mkdir()
    (place / "theirs/mine").mkdir(parents=True)
    os.chown(place / "mine", _OTHER, _OTHER)
    os.chown(place / "theirs/mine", _OTHER, _OTHER)
    os.chown(place / "theirs", _STRANGER, _STRANGER)
    for fine in ("mine", "mine/new/deep", "new", "theirs/mine"):
        assert _is_fine_for_a_user(place / fine), fine
    for bad in ("theirs", "theirs/new"):
        assert not _is_fine_for_a_user(place / bad), bad
    (place / "mine/link").symlink_to(place / "theirs")
    assert not _is_fine_for_a_user(place / "mine/link/new")
