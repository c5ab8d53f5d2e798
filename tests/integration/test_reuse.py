# SPDX-License-Identifier: Apache-2.0
"""Layers taken from the store, and images made of the store's: never a wrong file.

The images share all layers, a prefix, or single layers on other parents with images of the store.
The same functions run on other podmans in ``tests.matrix``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.matrix import reuse
from tests.matrix.bench import Bench
from tests.matrix.site import Site


@pytest.fixture(scope="module")
def bench(matrix_site: Site) -> Bench:
    """This machine's podman."""
    return Bench(matrix_site, Path("/"))


@pytest.mark.parametrize("mode", reuse.REUSES)
@pytest.mark.parametrize("view", ["auto", "layers"])
def test_a_pull_next_to_a_store_gives_what_a_plain_pull_gives(
    bench: Bench, view: str, mode: str
) -> None:
    outcome = reuse.pulls(bench, view, mode)
    assert outcome.problems == []
    assert outcome.images == len(reuse.SHARED)


@pytest.mark.parametrize("mode", ["base"])
@pytest.mark.parametrize("view", ["auto", "layers"])
def test_build_commit_save_and_push_are_right_or_fail(bench: Bench, view: str, mode: str) -> None:
    assert reuse.made(bench, view, mode).problems == []
