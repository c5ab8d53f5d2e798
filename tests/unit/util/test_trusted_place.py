# SPDX-License-Identifier: Apache-2.0
"""Where root works, and where it doesn't: real directories."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from podman_cvmfs.errors import InputError
from podman_cvmfs.util.trusted_place import require_own_place
from tests.support.users import answer_of

_STRANGER = 12345
_OTHER = 12346


def _refused(path: Path, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        require_own_place(str(path))
    told = f"{caught.value.message}\n{caught.value.hint}"
    for word in words:
        assert word in told


def test_roots_own_directory_is_fine(public_place: Path) -> None:
    require_own_place(str(public_place))
    require_own_place(str(public_place / "new/and/below"))
    require_own_place(f"{public_place}/./../place/")
    require_own_place("/")


def test_a_relative_path_is_taken_from_here(
    public_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(public_place)
    require_own_place("new")
    os.chown(public_place, _STRANGER, 0)
    with pytest.raises(InputError, match="belongs to user 12345"):
        require_own_place("new")


@pytest.mark.parametrize("part", ["", "a", "a/b"])
def test_each_part_must_be_roots(public_place: Path, part: str) -> None:
    (public_place / "a/b").mkdir(parents=True)
    require_own_place(str(public_place / "a/b/new"))
    os.chown(public_place / part, _STRANGER, -1)
    _refused(public_place / "a/b", "belongs to user 12345", "run this as user 12345")
    _refused(public_place / "a/b/new", "belongs to user 12345")


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o757])
def test_nobody_else_may_write_to_a_part(public_place: Path, mode: int) -> None:
    (public_place / "a/b").mkdir(parents=True)
    (public_place / "a").chmod(mode)
    _refused(public_place / "a/b", f"others can write to {public_place / 'a'}", "chmod go-w")
    _refused(public_place / "a", "others can write")


def test_a_sticky_directory_holds_roots_places(public_place: Path) -> None:
    (public_place / "tmp/mine").mkdir(parents=True)
    (public_place / "tmp/theirs").mkdir()
    os.chown(public_place / "tmp/theirs", _STRANGER, 0)
    (public_place / "tmp").chmod(0o1777)
    require_own_place(str(public_place / "tmp/mine"))
    require_own_place(str(public_place / "tmp/new"))
    _refused(public_place / "tmp/theirs", "belongs to")
    # Others can put things into it.
    _refused(public_place / "tmp", "others can write")


def test_a_link_and_its_target_must_be_roots(public_place: Path) -> None:
    (public_place / "target/deep").mkdir(parents=True)
    (public_place / "link").symlink_to("target")
    (public_place / "absolute").symlink_to(public_place / "target")
    for link in ("link", "absolute"):
        require_own_place(str(public_place / link / "deep"))
    os.chown(public_place / "target", _STRANGER, 0)
    for link in ("link", "absolute"):
        _refused(public_place / link / "deep", f"{public_place / 'target'} belongs to")
    os.chown(public_place / "target", 0, 0)
    os.lchown(public_place / "link", _STRANGER, 0)
    _refused(public_place / "link/deep", f"{public_place / 'link'} belongs to")


def test_the_way_back_out_of_a_link_is_the_kernels(public_place: Path) -> None:
    """``link/..`` is the directory above the link's target."""
    (public_place / "theirs/inner").mkdir(parents=True)
    (public_place / "theirs/new").mkdir()
    os.chown(public_place / "theirs", _STRANGER, 0)
    (public_place / "link").symlink_to("theirs/inner")
    _refused(public_place / "link/../new", f"{public_place / 'theirs'} belongs to")


def test_links_in_a_circle_are_refused(public_place: Path) -> None:
    (public_place / "a").symlink_to("b")
    (public_place / "b").symlink_to("a")
    _refused(public_place / "a", "too many symbolic links")


def _is_fine_for_a_user(path: Path) -> bool:
    def is_fine() -> bool:
        try:
            require_own_place(str(path))
        except InputError as err:
            assert "another user" in err.message
            return False
        return True

    return answer_of(_OTHER, is_fine)


def test_a_user_works_in_own_places_and_roots(public_place: Path) -> None:
    (public_place / "mine").mkdir()
    (public_place / "theirs/mine").mkdir(parents=True)
    os.chown(public_place / "mine", _OTHER, _OTHER)
    os.chown(public_place / "theirs/mine", _OTHER, _OTHER)
    os.chown(public_place / "theirs", _STRANGER, _STRANGER)
    for fine in ("mine", "mine/new/deep", "new", "theirs/mine"):
        assert _is_fine_for_a_user(public_place / fine), fine
    for bad in ("theirs", "theirs/new"):
        assert not _is_fine_for_a_user(public_place / bad), bad
    (public_place / "mine/link").symlink_to(public_place / "theirs")
    assert not _is_fine_for_a_user(public_place / "mine/link/new")
