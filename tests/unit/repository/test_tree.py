# SPDX-License-Identifier: Apache-2.0
"""The seam through which repositories are read."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from podman_cvmfs.errors import RepositoryError
from podman_cvmfs.repository.tree import Tree
from podman_cvmfs.verify.store import verify
from tests.support.many import make_repository
from tests.support.stores import Spoilt

T = TypeVar("T")


@pytest.mark.parametrize("name", ["nul\0", "half\ud800", "nul\0/below", "half\ud800/below"])
def test_what_no_file_can_be_called_is_not_there(tmp_path: Path, name: str) -> None:
    tree = Tree(str(tmp_path))
    tree.check(name)
    assert list(tree.entries(name)) == []
    assert tree.lstat(name) is None
    assert tree.readlink(name) is None
    assert tree.read(name, 10) is None
    assert tree.read_head(name, 10) is None
    with pytest.raises(RepositoryError, match="can't read") as caught:
        list(tree.entries(name, required=True))
    assert caught.value.message.isprintable()


class _Busy:
    """Counts the reads of repositories that are under way at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have the reads that sync and verify do in parallel take as long as over a network."""
        for name in ("lstat", "read_head"):
            monkeypatch.setattr(Tree, name, self._slow(getattr(Tree, name)))

    def _slow(self, read: Callable[..., T]) -> Callable[..., T]:
        def slow(*args: Any) -> T:
            with self._lock:
                self._now += 1
                self.most = max(self.most, self._now)
            try:
                time.sleep(0.01)
                return read(*args)
            finally:
                with self._lock:
                    self._now -= 1

        return slow


def test_a_client_s_threads_are_never_all_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CernVM-FS client has 10; a container's start may need one while the others fetch."""
    repository = make_repository(tmp_path / "repository", 40, layers=2, shared=1)
    busy = _Busy()
    busy.watch(monkeypatch)
    made = Spoilt(repository, tmp_path)
    assert 1 < busy.most <= 8
    busy.most = 0
    assert verify(str(made.path)).errors == 0
    assert 1 < busy.most <= 8
