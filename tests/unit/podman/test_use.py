# SPDX-License-Identifier: Apache-2.0
"""Whether podman looks into a store, and why not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from podman_cvmfs.podman.storage_conf.effective import Effective
from podman_cvmfs.podman.storage_conf.use import Unused, in_words, why_unused

NAMED = Effective("/etc/storage.conf", ("/etc/storage.conf",), False, "overlay", ("/a", "/store"))


def test_a_store_that_is_named_is_used(tmp_path: Path) -> None:
    assert why_unused("/store", NAMED) is None
    (tmp_path / "link").symlink_to("/store")
    assert why_unused(str(tmp_path / "link"), NAMED, ["/store"]) is None


def test_why_a_store_is_not_used() -> None:
    assert why_unused("/other", NAMED) is Unused.UNNAMED
    assert in_words(Unused.UNNAMED, "/other", NAMED) == "/other isn't named in /etc/storage.conf"
    built_in = replace(NAMED, main=None)
    assert in_words(Unused.UNNAMED, "it", built_in).endswith("podman's built-in settings")
    inherited = replace(NAMED, stores=(), inherited=True)
    assert why_unused("/store", inherited) is Unused.INHERITED
    assert why_unused("/store", inherited, ["/store"]) is Unused.REPLACED
    assert "STORAGE_OPTS" in in_words(Unused.REPLACED, "it", inherited)
