# SPDX-License-Identifier: Apache-2.0
"""What others have put into a store is named; a store that is closed, or of the layout before."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from podman_cvmfs.settings.policy import Policy, View
from podman_cvmfs.verify.fault import Severity
from podman_cvmfs.verify.store import Verdict, verify
from tests.support.corrupt_files import STRANGER, plant
from tests.support.stores import Spoilt, small_repository

BY_LAYERS = Policy(view=View.LAYERS)


def tell(verdict: Verdict) -> list[str]:
    return [f"{each.severity.value}: {each.path}: {each.what}" for each in verdict.findings]


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize("shared", [False, True])
def test_a_strangers_file_is_cured_by_whatever_removes_it(tmp_path: Path, shared: bool) -> None:
    """A sync doesn't look for any in a store that only its owner can reach."""
    store = Spoilt(small_repository(tmp_path / "repository"), tmp_path, Policy(shared=shared))
    path = store.local[0] / "diff/planted"
    plant(path)
    (finding,) = verify(str(store.path)).findings
    assert finding.path == str(path)
    mending = f"podman-cvmfs verify --repair --store {store.path}"
    syncing = f"podman-cvmfs sync --store {store.path}, or "
    assert finding.cure == (f"{syncing}{mending}" if shared else mending)
    if shared:
        store.sync()
        assert not path.exists()
        # Its directory may have another time by now, which no sync sets.
        assert not any("planted" in told for told in tell(verify(str(store.path))))


@pytest.mark.usefixtures("as_root")
def test_a_strangers_file_in_what_no_layer_has_any_more(tmp_path: Path) -> None:
    store = Spoilt(small_repository(tmp_path / "repository"), tmp_path, BY_LAYERS)
    former = store.layer_path(store.base) / "diff/x"
    store.policy = replace(BY_LAYERS, shared=True)
    store.sync()
    assert former.parent.parent.name in store.content.retired_entries
    plant(former)
    (told,) = tell(verify(str(store.path)))
    assert told.startswith(f"error: {former}: is a file of user 4242 that no sync has put there")


@pytest.mark.usefixtures("as_root")
def test_a_store_that_is_closed_to_the_caller(tmp_path: Path, repository: Path) -> None:
    store = Spoilt(repository, tmp_path)
    for path in (store.root, *store.root.parents[:-2]):
        path.chmod(path.stat().st_mode | 0o055)
    code = (
        "import os, sys\nfrom podman_cvmfs.verify.store import verify\n"
        f"os.setgroups([])\nos.setgid({STRANGER})\nos.setuid({STRANGER})\n"
        "for each in verify(sys.argv[1]).findings:\n    print(each.what, each.cure, sep='|')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, store.path], check=True, capture_output=True, text=True
    )
    cure = f"run 'podman-cvmfs verify --store {store.path}' as root"
    assert done.stdout == f"is closed to you|{cure}\n"


def test_a_store_of_the_layout_before_is_one_warning(tmp_path: Path) -> None:
    (finding,) = verify(str(Spoilt.former(tmp_path, BY_LAYERS).path)).findings
    assert finding.severity is Severity.WARNING
    assert finding.what.startswith("is of an earlier version")
    assert finding.cure == f"podman-cvmfs sync --store {tmp_path}/store"


@pytest.mark.usefixtures("as_root")
def test_a_strangers_file_in_a_store_of_the_layout_before(tmp_path: Path) -> None:
    store = Spoilt.former(tmp_path, BY_LAYERS)
    diffs = [path for path in store.path.glob("pool/layers/*/diff*") if not path.is_symlink()]
    plant(diffs[0] / "planted")
    _, finding = verify(str(store.path)).findings
    assert finding.path == str(diffs[0] / "planted") and "user 4242" in finding.what
