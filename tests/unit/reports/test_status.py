# SPDX-License-Identifier: Apache-2.0
"""What ``podman-cvmfs status`` tells of a store."""

from __future__ import annotations

import json
import shutil
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from podman_cvmfs.cli.status import command
from podman_cvmfs.settings.policy import DEFAULT_POLICY
from podman_cvmfs.sync.stamp import stamp_path
from tests.support.cli import Target, podman_cvmfs, succeed
from tests.support.many import REGISTRY, make_repository


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Target:
    config = tmp_path / "config.toml"
    config.write_text("offline = true\n")
    monkeypatch.setenv("PODMAN_CVMFS_CONFIG", str(config))
    # Times so young that a later change could bear the same leave no stamp.
    root = make_repository(tmp_path / "repository", 3)
    return Target(root, tmp_path / "store", tmp_path / "cache")


def places(target: Target) -> list[str]:
    return [*target.argv()[1:], "--format"]


def ask(target: Target) -> dict[str, Any]:
    found = json.loads(succeed("status", *places(target), "json"))
    assert isinstance(found, dict)
    return found


def test_before_the_first_sync(target: Target) -> None:
    found = ask(target)
    assert found["changed"] is None
    assert set(found["counts"].values()) == {0}
    assert "nothing has been synced yet" in succeed("status", *places(target), "text")
    assert not target.store.exists()


def test_counts(target: Target) -> None:
    target.sync()
    found = ask(target)
    assert found["changed"] is not None
    counts = found["counts"]
    assert (counts["images"], counts["names"], counts["flat"]) == (3, 3, 3)
    assert (counts["synthesised"], counts["rebuilt_manifests"]) == (0, 3)
    # One advertised base and six stand-ins for all, three tops.
    assert (counts["layers"], counts["advertised_layers"]) == (10, 1)
    assert found["policy"] == found["policy_wanted"] == str(DEFAULT_POLICY)
    (repository,) = found["repositories"]
    assert (repository["images"], repository["readable"]) == (3, True)
    assert found["due"] == []


def test_complete_sync_is_told_by_the_stamp(target: Target) -> None:
    time.sleep(2.1)
    target.sync()
    (repository,) = ask(target)["repositories"]
    assert repository["synced"] is not None
    path = Path(stamp_path(str(target.cache), str(target.store), str(target.repository)))
    stamp = json.loads(path.read_text())
    stamp["revision"] = ["42", "abc"]
    path.write_text(json.dumps(stamp))
    assert ask(target)["repositories"][0]["synced_revision"] == 42
    for text in ("{", "[]", "null", '{"generation": "other"}'):
        path.write_text(text)
        assert ask(target)["repositories"][0]["synced"] is None


def test_retired_layers_are_due_after_their_grace(target: Target) -> None:
    target.sync()
    name = f"{REGISTRY}/project/app1:1"
    (target.repository / name).unlink()
    shutil.rmtree(target.repository / ".metadata" / name)
    target.sync()
    found = ask(target)
    assert (found["counts"]["images"], found["counts"]["names"]) == (2, 2)
    assert found["counts"]["retired_layers"] > 0
    assert "may be removed" in found["due"][0]["what"]
    said = succeed("status", *places(target), "text")
    assert "due " in said and ("(in 13 days)" in said or "(in 14 days)" in said)


def test_repository_down(target: Target) -> None:
    target.sync()
    shutil.rmtree(target.repository)
    (repository,) = ask(target)["repositories"]
    assert not repository["readable"]
    assert "can't be read: No such file" in succeed("status", *places(target), "text")


def test_other_policy_is_told(target: Target, tmp_path: Path) -> None:
    target.sync()
    (tmp_path / "config.toml").write_text('offline = true\nview = "layers"\n')
    said = succeed("status", *places(target), "text")
    assert (
        "auto base kernel; the next sync lays out everything anew for: layers base kernel" in said
    )


def test_foreign_store(target: Target) -> None:
    (target.store / ".current").mkdir(parents=True)
    assert podman_cvmfs("status", *places(target), "text").returncode == 5


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (30, "(less than a minute ago)"),
        (60, "(1 minute ago)"),
        (7300, "(2 hours ago)"),
        (-90000, "(in 1 day)"),
    ],
)
def test_when(target: Target, monkeypatch: pytest.MonkeyPatch, now: int, said: str) -> None:
    target.sync()
    changed = ask(target)["changed"]
    then = datetime.fromisoformat(changed.replace("Z", "+00:00")).timestamp()
    monkeypatch.setattr(time, "time", lambda: then + now)
    result = CliRunner().invoke(command, [*places(target), "text"])
    assert f"{changed} {said}, to generation" in result.output
