# SPDX-License-Identifier: Apache-2.0
"""What ``podman-cvmfs images`` says of store and repository."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from podman_cvmfs.cli.table import plain_table, show_table
from tests.support.cli import Target, podman_cvmfs, succeed
from tests.support.ducc_sample import Sample
from tests.support.many import REGISTRY, make_repository


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Target:
    """Three images, synced, and settings that are nobody's."""
    config = tmp_path / "config.toml"
    config.write_text("offline = true\n")
    monkeypatch.setenv("PODMAN_CVMFS_CONFIG", str(config))
    made = Target(
        make_repository(tmp_path / "repository", 3), tmp_path / "store", tmp_path / "cache"
    )
    made.sync()
    return made


def name(number: int) -> str:
    return f"{REGISTRY}/project/app{number}:{number}"


def ask(target: Target, *args: str) -> dict[str, dict[str, Any]]:
    said = succeed(
        *("images", "--store", target.store, "--repository", target.repository),
        *("--format", "json", *args),
    )
    return {row["name"]: row for row in json.loads(said)}


def states(target: Target, *args: str) -> dict[str, str]:
    return {key: row["state"] for key, row in ask(target, *args).items()}


def move(target: Target, number: int, to: int) -> None:
    """Let a tag of the repository lead to another image."""
    link = target.repository / name(number)
    link.unlink()
    link.symlink_to((target.repository / name(to)).readlink())


def test_all_in_store(target: Target) -> None:
    rows = ask(target)
    assert list(rows) == [name(0), name(1), name(2)]
    for row in rows.values():
        assert (row["state"], row["view"], row["config"]) == ("in store", "flat", "genuine")
        assert row["manifest"] == "rebuilt"
        assert row["id"] == row["source_id"] == row["repository_id"]
        assert row["repository"] == str(target.repository)


def test_stale_tag_and_gone(target: Target) -> None:
    move(target, 1, to=2)
    (target.repository / name(0)).unlink()
    shutil.rmtree(target.repository / ".metadata" / name(0))
    assert states(target) == {
        name(0): "gone from repository",
        name(1): "stale tag",
        name(2): "in store",
    }


def test_only_a_repository_that_was_asked_can_have_lost_an_image(
    target: Target, tmp_path: Path
) -> None:
    other = make_repository(tmp_path / "other", 2)
    for root in (tmp_path / "none", other):
        asked = Target(root, target.store, target.cache)
        assert states(asked)[name(2)] == "repository not asked"
    both = ("--repository", str(tmp_path / "other"))
    (target.repository / name(2)).unlink()
    shutil.rmtree(target.repository / ".metadata" / name(2))
    assert states(target, *both)[name(2)] == "gone from repository"


def test_without_a_store_nothing_is_synced(target: Target) -> None:
    shutil.rmtree(target.store)
    assert set(states(target).values()) == {"not synced"}
    assert not target.store.exists()


def test_not_wished(target: Target, tmp_path: Path) -> None:
    shutil.rmtree(target.store)
    (tmp_path / "config.toml").write_text('exclude = ["*app1:*"]\n')
    assert states(target)[name(1)] == "not wished"


def test_repository_unreadable(target: Target) -> None:
    shutil.rmtree(target.repository)
    done = podman_cvmfs("images", "--store", target.store, "--repository", target.repository)
    assert done.returncode == 0
    assert done.stdout.count("repository unreadable") == 3
    assert "no such repository" in done.stderr


def test_pattern(target: Target) -> None:
    assert list(ask(target, "*/app2:*")) == [name(2)]
    assert ask(target, "nothing") == {}


def test_plain_columns_when_not_at_a_terminal(target: Target) -> None:
    said = succeed("images", "--store", target.store, "--repository", target.repository)
    lines = said.splitlines()
    assert lines[0].split() == ["NAME", "IMAGE", "ID", "VIEW", "CONFIG", "MANIFEST", "STATE"]
    assert all(line.index("flat") == lines[1].index("flat") for line in lines[1:])
    assert "\x1b" not in said


def test_plain_table() -> None:
    assert plain_table([["a", "bb"], ["ccc", ""]]) == "a    bb\nccc"
    assert plain_table([]) == ""


def test_the_sample(sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config.toml"
    config.write_text("offline = true\n")
    monkeypatch.setenv("PODMAN_CVMFS_CONFIG", str(config))
    target = Target(sample.repository, tmp_path / "store", tmp_path / "cache")
    assert set(states(target).values()) == {"not synced"}
    assert set(sample.expected) <= set(states(target))


class Terminal(io.StringIO):
    """A standard output that people look at."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("columns", "no_color", "coloured"),
    [("80", "", True), ("80", "1", False), ("10", "", False)],
)
def test_table_at_a_terminal(
    monkeypatch: pytest.MonkeyPatch, columns: str, no_color: str, coloured: bool
) -> None:
    monkeypatch.setattr("sys.stdout", Terminal())
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", no_color)
    if not no_color:
        monkeypatch.delenv("NO_COLOR")
    said = show_table(("NAME", "STATE"), [("registry.example.org/a:1", "\x1bnew")], {})
    said += show_table(("NAME", "STATE"), [("registry.example.org/a:1", "new")], {"new": "red"})
    assert "registry.example.org/a:1" in said
    assert "\x1bnew" not in said
    assert ("\x1b[31m" in said) is coloured


@pytest.mark.parametrize("command", ["doctor", "images", "why", "status", "inspect", "sync"])
def test_what_is_not_needed_is_not_imported(command: str) -> None:
    heavy = {"requests", "yaml", "zstandard", "podman_cvmfs.sync.run"}
    # doctor's findings are a table.
    heavy |= {"rich", "podman_cvmfs.registry.client"} if command != "doctor" else set()
    script = f"import sys, podman_cvmfs.cli.{command}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, encoding="utf-8", check=True
    )
    assert not heavy & set(done.stdout.split())
