# SPDX-License-Identifier: Apache-2.0
"""Wish lists in DUCC's and in OSG's form."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from podman_cvmfs.errors import InputError
from podman_cvmfs.sync import wish_list
from podman_cvmfs.sync.wish_list import WishList, parse_plain_list, parse_recipe, read_wish_list
from tests.support.shared_data import DUCC_RECIPE, OSG_LIST, shared_data

RECIPE = """\
version: 1
user: someone
cvmfs_repo: 'unpacked.example.org'
output_format: 'https://registry.example.org/$(image)'
input:
    - 'https://quay.io/a/b:1'
    - quay.io/a/b:v*
"""


def recipe(text: str) -> WishList:
    return parse_recipe(text.encode(), "r.yaml")


def texts(found: WishList) -> list[str]:
    return [str(spec) for spec in found.specs]


def test_recipe() -> None:
    found = recipe(RECIPE)
    assert texts(found) == ["https://quay.io/a/b:1", "https://quay.io/a/b:v*"]
    assert (found.problems, found.warnings) == ((), ())


def test_what_only_a_publisher_reads() -> None:
    found = recipe("version: 1\nuser:\noutput_format: 5\nignoreErrors:\ninput: [a]\n")
    assert (texts(found), found.warnings) == (["https://docker.io/library/a:latest"], ())
    assert recipe("version: 1\nignoreErrors: ['toomanyrequests']\ninput: []\n").warnings == ()


def test_duplicates_are_merged() -> None:
    found = recipe(
        RECIPE + "    - http://quay.io/a/b:1\n    - debian\n    - index.docker.io/debian\n"
    )
    assert len(found.specs) == 3
    assert found.specs[0].scheme == "https"


def test_unknown_keys_are_warned_of() -> None:
    found = recipe(RECIPE + 'inputs: []\n? [a]\n: 5\n"\\e[31m": x\n')
    assert found.warnings == (
        "r.yaml:8: unknown key 'inputs' ignored",
        "r.yaml:9: unknown key a list ignored",
        "r.yaml:11: unknown key '\\\\x1b[31m' ignored",
    )
    assert len(found.specs) == 2


def test_version() -> None:
    assert recipe("input: []").warnings == ("r.yaml: no version given, read as version 1",)
    assert recipe("version: '1'\ninput: []").warnings == ()
    for version in ("2", "[1]", "one", "1.0"):
        with pytest.raises(InputError, match=r"^r\.yaml:2: the version of a recipe must be 1"):
            recipe(f"input: []\nversion: {version}\n")


def test_bad_entries_are_named_and_the_others_are_done() -> None:
    found = recipe(RECIPE + "    - 5\n    - [x]\n    - ~\n    - {a: b}\n    - no good\n    - x:2\n")
    assert [problem.message for problem in found.problems] == [
        "r.yaml:8: an image must be a text, not a number",
        "r.yaml:9: an image must be a text, not a list",
        "r.yaml:10: an image must be a text, not nothing",
        "r.yaml:11: an image must be a text, not a mapping",
        "r.yaml:12: not an image name: 'no good': 'library/no good' is not a repository path",
    ]
    assert texts(found)[2:] == ["https://docker.io/library/x:2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "r.yaml: a recipe must be a mapping, not an empty document"),
        ("- a\n- b\n", "r.yaml: a recipe must be a mapping, not a list"),
        ("version: 1\n", "r.yaml: not a recipe: it has no input"),
        ("version: 1\ninput: a\n", "r.yaml:2: input must be a list of images, not a text"),
        ("version: 1\ninput:\n", "r.yaml:2: input must be a list of images, not nothing"),
        ("version: 1\nuser: {}\ninput: []\n", "r.yaml:2: user must be a text, not a mapping"),
        ("cvmfs_repo: [a]\ninput: []\n", "r.yaml:1: cvmfs_repo must be a text, not a list"),
        ("input: []\ninput: []\n", "r.yaml:2: input is given twice"),
        ("input: [\n", "r.yaml:2: not valid YAML: "),
        ("input: *nobody\n", "r.yaml:1: not valid YAML: found undefined alias"),
        ("input: []\n---\ninput: []\n", "r.yaml:2: not valid YAML: but found another document"),
        ("input: []\n\x07", "r.yaml: not valid YAML: it holds control characters"),
    ],
)
def test_what_is_no_recipe(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        recipe(text)
    assert caught.value.message.startswith(message)
    assert caught.value.message.isprintable()


def test_tags_are_not_obeyed() -> None:
    found = recipe("input: !!python/object/apply:os.system [x, !!python/name:os.system y]\n")
    assert texts(found) == ["https://docker.io/library/x:latest"]
    assert [problem.message for problem in found.problems] == [
        "r.yaml:1: an image must be a text, not something else"
    ]


def test_bombs() -> None:
    laughs = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    for this, last in zip("bcdefghijklmnop", "abcdefghijklmno"):
        laughs += f"{this}: &{this} [{', '.join([f'*{last}'] * 9)}]\n"
    found = recipe(f"version: 1\n{laughs}input: *p\n")
    assert len(found.problems) == 9 and not found.specs
    with pytest.raises(InputError, match="nested too deeply"):
        recipe("input: " + "[" * 100_000)
    endless = recipe("version: 1\ninput: &a [*a]\n")
    assert [problem.message for problem in endless.problems] == [
        "r.yaml:2: an image must be a text, not a list"
    ]


def test_size_is_limited(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(wish_list, "MAX_WISH_LIST", 100)
    for name in ("r.yaml", "r.txt"):
        (tmp_path / name).write_bytes(b"#" * 90 + b"\ndebian:12")
        if name == "r.txt":
            assert len(read_wish_list(str(tmp_path / name), "").specs) == 1
        (tmp_path / name).write_bytes(b"#" * 101)
        with pytest.raises(InputError, match="File too large"):
            read_wish_list(str(tmp_path / name), "")


def test_plain_list() -> None:
    data = b"\xef\xbb\xbf# a list\r\n\r\ndebian:12\r\n  quay.io/a:*  \n\t#x\ndebian:12\nbad one\n"
    found = parse_plain_list(data, "l.txt")
    assert texts(found) == ["https://docker.io/library/debian:12", "https://quay.io/a:*"]
    assert [problem.message.split(": ")[0] for problem in found.problems] == ["l.txt:7"]


@pytest.mark.parametrize("parse", [parse_plain_list, parse_recipe])
def test_not_utf_8(parse: object) -> None:
    assert callable(parse)
    with pytest.raises(InputError, match=r"^x:2: not UTF-8"):
        parse(b"version: 1\nuser: \xff\n", "x")


def test_reading(tmp_path: Path) -> None:
    (tmp_path / "r.YML").write_text(RECIPE)
    assert len(read_wish_list(str(tmp_path / "r.YML"), "").specs) == 2
    for missing in ("none.yaml", "."):
        with pytest.raises(InputError, match="can't read the wish list"):
            read_wish_list(str(tmp_path / missing), "")


@pytest.mark.parametrize(
    ("name", "text", "hint"),
    [
        ("recipe", "version: 1\ninput:\n  - 'https://example.org/a:1'\n", "ends in .yaml"),
        ("list.txt", "# none yet\n\n", "input: []"),
        ("recipe.yaml", "version: 1\ninput: ['A B']\n", "recipe.yaml:2: "),
    ],
)
def test_a_list_of_nothing_is_refused(tmp_path: Path, name: str, text: str, hint: str) -> None:
    """Taken at its word it would empty the store."""
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match="names no image") as caught:
        read_wish_list(str(tmp_path / name), "")
    assert caught.value.hint is not None
    assert hint in caught.value.hint


def test_a_recipe_may_want_nothing(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("version: 1\ninput: []\n")
    assert read_wish_list(str(tmp_path / "recipe.yaml"), "").specs == ()


def test_the_real_lists() -> None:
    path = shared_data(DUCC_RECIPE)
    found = read_wish_list(str(path), "")
    written = yaml.safe_load(path.read_text())["input"]
    assert (len(written), len(found.specs)) == (47, 46)
    assert (found.problems, found.warnings) == ((), ())
    found = read_wish_list(str(shared_data(OSG_LIST)), "")
    assert len(found.specs) > 500
    assert (found.problems, found.warnings) == ((), ())


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_bytes_bring_the_parsers_down(data: bytes) -> None:
    for parse in (parse_plain_list, parse_recipe):
        try:
            found = parse(data, "x")
        except InputError as err:
            assert err.message.isprintable()
        else:
            assert all(problem.message.isprintable() for problem in found.problems)
            assert all(warning.isprintable() for warning in found.warnings)
