# SPDX-License-Identifier: Apache-2.0
"""Who gets root's store, on every podman whose root is present: no command of an ordinary user's
fails while it is closed to them, whatever has been set up."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from podman_cvmfs.errors import StoreError
from tests.matrix.bench import Bench
from tests.matrix.guest import Guest
from tests.matrix.host import USER

#: A podman that reads no drop-ins of storage.conf.
_OLDER = """\
#!/bin/sh
[ "$1" != --version ] || { echo podman version 5.0.0; exit; }
! grep -q append "$CONTAINERS_STORAGE_CONF"
"""


class Site:
    """A machine on which root and an ordinary user run podman, with no variable that names files.

    The files of the store's image are the user's, so that it would start.
    """

    def __init__(self, bench: Bench, podman: Guest, tools: Path, store: Path) -> None:
        self.bench, self.podman, self.store = bench, podman, store
        self.image = bench.site.name("t/single:1")
        self._start = f"unset CONTAINERS_STORAGE_CONF; PATH={tools}:$PATH; "

    def sync(self, *options: str) -> None:
        site = self.bench.site
        repository = site.repository("user")
        version = self.bench.version
        site.sync(repository, self.store, self.image, *options, user=None, version=version)

    def root(self, script: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        argv = ["sh", "-c", self._start + script]
        env = {name: self.podman.env[name] for name in ("PATH", "LANG")}
        return self.podman.machine.run_as(None, argv, env={**env, "HOME": "/root"}, check=check)

    def user(self, script: str) -> subprocess.CompletedProcess[str]:
        login = "for f in /etc/profile.d/podman-cvmfs.sh; do [ ! -e $f ] || . $f; done; "
        return self.podman.tool("sh", "-c", self._start + login + script)

    def set_up(self, *options: str) -> None:
        self.root(f"podman-cvmfs setup --store {self.store} {' '.join(options)}")

    def mode(self) -> int:
        return self.store.stat().st_mode & 0o777

    def lists(self) -> tuple[bool, bool]:
        """Whether the podmans of root and of the user list the image; both must work."""
        listed = "podman images --format '{{.Repository}}:{{.Tag}}'"
        return self.image in self.root(listed).stdout, self.image in self.user(listed).stdout


@pytest.fixture
def store(bench: Bench) -> Path:
    return bench.site.data / f"sharing-{bench.version}-{bench.count()}/store"


def test_users_get_the_store_by_asking(bench: Bench, tools: Path, store: Path) -> None:
    with bench.fresh(user=USER) as podman:
        site = Site(bench, podman, tools, store)
        site.sync()
        assert site.mode() == 0o700
        site.set_up()
        assert site.lists() == (True, False)
        refused = site.root(f"podman-cvmfs setup --users --store {store}", check=False)
        assert refused.returncode == StoreError.exit_code
        assert site.lists() == (True, False)
        site.sync("--shared")
        assert site.mode() == 0o755
        site.set_up("--users")
        assert site.lists() == (True, True)
        done = site.user(f"podman run --rm --pull=never {site.image}")
        assert done.stdout == "sh works\n"
        site.set_up("--no-users")
        site.sync()
        assert site.mode() == 0o700
        assert site.lists() == (True, False)
        site.set_up("--undo")
        assert site.lists() == (False, False)


def test_nothing_fails_after_an_upgrade_of_podman(bench: Bench, tools: Path, store: Path) -> None:
    with bench.fresh(user=USER) as podman:
        site = Site(bench, podman, tools, store)
        site.sync()
        older = podman.root / "older"
        older.mkdir()
        (older / "podman").write_text(_OLDER)
        (older / "podman").chmod(0o755)
        site.root(f"PATH={older}:$PATH; podman-cvmfs setup --store {store}")
        assert site.lists() == (True, False)
        site.set_up()
        assert site.lists() == (True, False)
