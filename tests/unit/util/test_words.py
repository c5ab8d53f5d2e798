# SPDX-License-Identifier: Apache-2.0
"""English words in messages."""

from __future__ import annotations

import pytest

from podman_cvmfs.util.words import counted


@pytest.mark.parametrize(
    ("number", "words", "text"),
    [
        (0, ("image",), "0 images"),
        (1, ("image",), "1 image"),
        (2, ("image",), "2 images"),
        (1, ("directory", "directories"), "1 directory"),
        (21, ("directory", "directories"), "21 directories"),
    ],
)
def test_nouns_follow_their_numbers(number: int, words: tuple[str, ...], text: str) -> None:
    assert counted(number, *words) == text
