# SPDX-License-Identifier: Apache-2.0
"""Stores of layout 4 are laid out anew by the next sync, and what stands on them stays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from podman_cvmfs.settings.policy import DEFAULT_POLICY
from podman_cvmfs.store.reader import read_store
from tests.matrix import real_layers
from tests.matrix.bench import Bench
from tests.matrix.guest import Guest
from tests.matrix.host import USER, Machine
from tests.matrix.listing import Listed
from tests.matrix.site import Site
from tests.matrix.standing import STORED, TOOLS, Standing, unlike
from tests.support import roots
from tests.support.released import LAYOUT_4, released
from tests.support.required import required


class Upgrade:
    """A store of layout 4, what a podman has made on it, and what that shows."""

    def __init__(self, bench: Bench, podman: Guest, store: Path, options: tuple[str, ...]) -> None:
        self.bench, self.podman, self.store, self.options = bench, podman, store, options
        self.standing = Standing(podman, bench.site)
        self.standing.make()
        self.before: Mapping[str, Listed] = self.standing.look()

    def sync(self) -> None:
        """Sync with the code under test."""
        rootless = self.podman.user is not None
        repository = real_layers.owned(self.bench, rootless)
        user, version = self.podman.user, self.bench.version
        self.bench.site.sync(repository, self.store, *self.options, user=user, version=version)

    def prune(self) -> None:
        """Remove at once what nobody needs."""
        places = ("--store", str(self.store), "--graphroot", str(self.podman.graphroot))
        user, version = self.podman.user, self.bench.version
        self.bench.site.command("prune", "--grace", "0", *places, user=user, version=version)

    def pull(self) -> None:
        """Pull everything for real."""
        for image in (*STORED, *TOOLS):
            self.podman.run("pull", "--quiet", self.bench.site.name(image.name))

    def problems(self) -> list[str]:
        """What is otherwise than before, and what doesn't start."""
        return [*unlike(self.before, self.standing.look()), *self.standing.start()]

    def old_directories(self) -> list[str]:
        """What the pool has in the form of layout 4."""
        return [str(path) for path in self.store.glob("pool/layers/*/diff1")]


@pytest.fixture(params=["root auto", "root layers", "user auto"])
def upgrade(request: pytest.FixtureRequest, bench: Bench, matrix_site: Site) -> Iterator[Upgrade]:
    who, view = str(request.param).split()
    store = matrix_site.data / f"up-{who}-{view}-{bench.version}/s"
    store.parent.mkdir()
    user, options = USER if who == "user" else None, ("--view", view)
    code = released(LAYOUT_4, matrix_site.data)
    repository = real_layers.owned(bench, user is not None)
    matrix_site.sync(repository, store, *options, user=user, version=bench.version, code=code)
    with bench.fresh(stores=[store], user=user) as podman:
        yield Upgrade(bench, podman, store, options)


def test_what_stands_on_layout_4_stays(upgrade: Upgrade) -> None:
    assert upgrade.problems() == []
    assert upgrade.old_directories()
    upgrade.sync()
    content = read_store(str(upgrade.store))
    assert content is not None
    assert content.policy.split()[0] == str(DEFAULT_POLICY).split()[0]
    assert upgrade.problems() == [], "after the sync"
    upgrade.prune()
    assert upgrade.problems() == [], "after prune"
    upgrade.pull()
    assert upgrade.problems() == [], "after pulls"
    # Made anew, all is right as well; the old things are gone, and with them the old layout.
    upgrade.podman.run("rm", "--all")
    upgrade.podman.run("rmi", "--all", "--force", check=False)
    upgrade.prune()
    assert upgrade.old_directories() == []
    anew = Standing(upgrade.podman, upgrade.bench.site)
    anew.make()
    assert list(anew.start()) == []


def test_podman_is_upgraded_as_well(matrix_site: Site) -> None:
    """From 5.4 to 5.8, which looks up by their IDs what the older one has named by links."""
    roots_found = [
        roots.present(roots.default_directory(), codename) for codename in ("trixie", "sid")
    ]
    if None in roots_found:
        required("no roots of trixie and sid: python -m tests.matrix makes them")
    older, newer = (Bench(matrix_site, root) for root in roots_found if root is not None)
    store = matrix_site.data / "up-podman/s"
    store.parent.mkdir()
    code = released(LAYOUT_4, matrix_site.data)
    repository = real_layers.owned(older, rootless=False)
    matrix_site.sync(repository, store, user=None, version=older.version, code=code)
    machine = Machine(newer.root, matrix_site.data)
    try:
        with older.fresh(stores=[store]) as podman:
            upgrade = Upgrade(older, podman, store, ())
            insecure = [matrix_site.registry.address]
            upgrade.standing.podman = Guest(machine, podman.root, stores=[store], insecure=insecure)
            assert upgrade.problems() == []
            upgrade.sync()
            assert upgrade.problems() == [], "after the sync"
            upgrade.prune()
            assert upgrade.problems() == [], "after prune"
            upgrade.standing.podman.close()
    finally:
        machine.close()
