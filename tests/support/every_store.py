# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin: whatever store any test generates, all judges must find it good.

``python -m pytest -p tests.support.every_store``. It takes a third of a second for each store.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from podman_cvmfs.store.store import Store
from tests.support.cli import Target
from tests.support.native import JudgeMissingError, disagreements, judges

_judged = 0


def pytest_sessionstart() -> None:
    """Who asks for judges wants all of them."""
    try:
        judges()
    except JudgeMissingError as err:
        raise pytest.UsageError(str(err)) from None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many there were."""
    releases = ", ".join(judges())
    terminalreporter.write_line(f"{_judged} stores judged by containers/storage of {releases}")


@pytest.fixture(autouse=True)
def judge_every_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Judge what changes a store, in this process or by the command."""
    replace, sync = Store.replace, Target.sync

    def replace_and_judge(store: Store, *args: Any, **options: Any) -> bool:
        changed = replace(store, *args, **options)
        if changed:
            _judge(Path(store.path))
        return changed

    def sync_and_judge(target: Target, *args: str) -> str:
        said = sync(target, *args)
        _judge(target.store)
        return said

    monkeypatch.setattr(Store, "replace", replace_and_judge)
    monkeypatch.setattr(Target, "sync", sync_and_judge)
    yield


def _judge(store: Path) -> None:
    global _judged
    try:
        found = disagreements(store, judges())
    except OSError:
        # Tests of full disks and the like break our system calls too.
        return
    assert found == []
    _judged += 1
