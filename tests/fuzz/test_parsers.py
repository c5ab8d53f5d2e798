# SPDX-License-Identifier: Apache-2.0
"""The parsers and a little bad input; ``tests/fuzz.sh`` gives them much more of it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.run import fuzz
from tests.fuzz.targets import TARGETS, Target, check

each_target = pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)


@each_target
def test_changed_documents_are_read_or_refused(target: Target) -> None:
    assert fuzz(target, 150 * target.weight, seed=0).failures == []


@each_target
def test_any_bytes_are_read_or_refused(target: Target) -> None:
    @settings(max_examples=60, deadline=None)
    @given(st.one_of(st.binary(), st.text().map(lambda text: text.encode())))
    def run(data: bytes) -> None:
        check(target, data)

    run()
