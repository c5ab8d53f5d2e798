# SPDX-License-Identifier: Apache-2.0
"""The seam through which repositories are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from podman_cvmfs.errors import RepositoryError
from podman_cvmfs.tree import Tree


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
