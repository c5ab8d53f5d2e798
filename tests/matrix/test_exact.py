# SPDX-License-Identifier: Apache-2.0
"""A short form of the matrix for the exact view: nothing differs from a pull.

``python -m tests.matrix --only exact`` runs all of it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from podman_cvmfs.store.reader import read_store
from podman_cvmfs.store.records import StoreContent
from tests.matrix import change_scripts, changes
from tests.matrix.bench import Bench
from tests.matrix.cells import EXACT
from tests.matrix.guest import Guest
from tests.matrix.run import map_ids, run_cell, store_of
from tests.support.tar_lists import TarLists, sync_exact

#: Images with many layers, setuid bits, links and deletions.
_FEW = ("t/app:1", "t/app:2", "t/opaque:1", "t/twice:1", "v/alternating:1")
_MOUNT = EXACT[0]
#: Podman 4 takes no notice of metadata.
_NEWER = pytest.mark.parametrize("bench", ["trixie", "sid"], indirect=True)


@_NEWER
def test_containers_see_exactly_what_a_pull_gives(bench: Bench) -> None:
    outcome = run_cell(bench, _MOUNT, _FEW)
    assert outcome.problems == []
    assert outcome.images == len(_FEW)


@_NEWER
def test_commits_and_builds_keep_what_was_changed(bench: Bench) -> None:
    outcome = changes.run(bench, _MOUNT, change_scripts.FEW[:1], short=True)
    assert outcome.problems == []


@_NEWER
def test_user_namespaces_copy_nothing(bench: Bench) -> None:
    assert map_ids(bench, _MOUNT).said == "keep-id works, auto works, uidmap works"


@_NEWER
def test_containers_outlive_the_exact_view(bench: Bench) -> None:
    """The store gets another view, and keeps what the container mounts."""
    site = bench.site
    store = site.data / f"lost-{bench.version}" / "store"
    store.parent.mkdir()
    repository = site.shown(site.repository(), "foreign", mount=True)
    name, lists = site.name("t/app:1"), TarLists([site.images["t/app:1"]])
    script = "cat /opt/app/private; touch /opt/app/new; stat -c %a:%u /opt/app/run"
    sync_exact(repository, store, lists)
    with bench.fresh(stores=[store], mountopt=_MOUNT.mountopt) as podman:
        command = ("run", "--name=one", "--pull=never", "--entrypoint=/bin/sh", name, "-c", script)
        first = podman.run(*command).stdout
        assert first == "for app only\n755:1234\n"
        sync_exact(repository, store, lists, exact=False)
        views = {image.view for image in (read_store(str(store)) or StoreContent()).images.values()}
        assert views == {"flat"}
        assert podman.run("start", "--attach", "one").stdout == first
        assert "A /opt/app/new" in podman.run("diff", "one").stdout.splitlines()
        again = podman.run(
            "run", "--rm", "--pull=never", "--entrypoint=/bin/cat", name, "/opt/app/run"
        ).stdout
        assert again == "#!/bin/sh\necho app runs\n"


@_NEWER
def test_doctor_has_the_setting_set_that_is_lost(bench: Bench, tools: Path) -> None:
    store = store_of(bench, _MOUNT)
    command = f"PATH={tools}:$PATH; "
    look = f"{command} podman-cvmfs doctor --format json --store {store} || true"

    def found(podman: Guest) -> dict[str, str]:
        findings = json.loads(podman.tool("sh", "-c", look).stdout)["findings"]
        return {each["condition"]: each["cure"] for each in findings}

    with bench.fresh(stores=[store]) as podman:
        cure = found(podman)["exact-loses-data"]
        podman.tool("sh", "-c", command + cure)
        assert not {"exact-loses-data", "exact-unusable"} & found(podman).keys()
        template = '{{index .Store.GraphStatus "Native Overlay Diff"}}'
        assert podman.run("info", "--format", template).stdout == "false\n"


@_NEWER
def test_podman_is_known_to_lose_data_without_the_setting(bench: Bench) -> None:
    """If it doesn't any more, the setting needn't be asked for."""
    store = store_of(bench, _MOUNT)
    name = bench.site.name("t/single:1")
    with bench.fresh(stores=[store]) as podman:
        script = "chmod 0755 /etc/passwd"
        podman.run("run", "--name=one", "--pull=never", name, "sh", "-c", script)
        podman.run("commit", "--quiet", "one", "localhost/lost")
        read = podman.run("run", "--rm", "localhost/lost", "cat", "/etc/passwd")
    assert set(read.stdout) == {"\0"}
