# SPDX-License-Identifier: Apache-2.0
"""Bounds on time that the project promises; ratios of paired runs, for machines are noisy."""

from __future__ import annotations

from tests.benchmarks import sync_time


def test_sync_of_1000_images_takes_at_most_3_bare_loops() -> None:
    times = sync_time.measure(images=1000, pairs=3)
    assert sync_time.median_ratio(times) <= 3, times
