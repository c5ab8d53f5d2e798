# SPDX-License-Identifier: Apache-2.0
"""What every podman does with the names of a store that it may only read: run, pull, tag, remove.

As root on kernel overlay, on every podman whose root is present.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.matrix.bench import Bench
from tests.matrix.guest import Guest
from tests.matrix.site import Site
from tests.support.cli import succeed
from tests.support.images import Built, Image, build, push
from tests.support.registry import Request

KEPT, ALSO, MOVED, OWN = "n/kept:1", "n/also:2", "n/moved:1", "n/own:1"


def _image(name: str, says: str, layers: Sequence[str] = ("base",)) -> Built:
    command = {"Env": ["PATH=/bin"], "Cmd": ["echo", says]}
    return build(Image(name, layers, command, prints=f"{says}\n"))


@dataclass(frozen=True)
class Names:
    """Two repositories that know KEPT as different images. MOVED has moved in the registry since
    it was published; OWN is nowhere else."""

    site: Site
    kept: Built
    repositories: tuple[Path, Path]

    def store(self, bench: Bench, number: int) -> Path:
        """Root's store of one of the repositories."""
        path = self.site.data / f"n{number}-{bench.version}/s"
        if not path.exists():
            path.parent.mkdir()
            self.site.sync(self.repositories[number], path, user=None, version=bench.version)
        return path

    def name(self, image: str) -> str:
        return self.site.name(image)


@pytest.fixture(scope="module")
def names(matrix_site: Site) -> Iterator[Names]:
    site, kept = matrix_site, _image(KEPT, "kept")
    also = replace(kept, image=replace(kept.image, name=ALSO))
    repositories = (site.data / "names-0", site.data / "names-1")
    for repository, images in (
        (repositories[1], [_image(KEPT, "another")]),
        (repositories[0], [kept, also, _image(MOVED, "old")]),
    ):
        sources = [f"http://{push(built, site.registry)}" for built in images]
        succeed("publish", *sources, "--repository", repository)
    push(_image(MOVED, "new", ("base", "app")), site.registry)
    push(_image(OWN, "own"), site.registry)
    yield Names(site, kept, repositories)


def says(podman: Guest, name: str, pull: str = "never") -> str:
    return podman.run("run", "--rm", f"--pull={pull}", name).stdout.strip()


def listed(podman: Guest) -> dict[str, tuple[str, bool]]:
    """What podman lists: name -> ID, and whether it may only be read."""
    found = podman.json("images", "--format", "json")
    return {
        name: (image["Id"], bool(image.get("ReadOnly")))
        for image in found
        for name in image.get("Names") or []
    }


def fetched(requests: Sequence[Request]) -> tuple[bool, int]:
    """Whether manifests were asked for, and how many blobs."""
    return (
        any("/manifests/" in each.path for each in requests),
        sum(each.is_blob for each in requests),
    )


def test_what_is_in_the_store_runs_and_stays(bench: Bench, names: Names) -> None:
    registry = names.site.registry
    with bench.fresh(stores=[names.store(bench, 0)]) as podman:
        mark = len(registry.since(0))
        # One ID under two names, and the tag that has moved upstream.
        assert [says(podman, names.name(each)) for each in (KEPT, ALSO, MOVED)] == [
            "kept",
            "kept",
            "old",
        ]
        assert says(podman, names.name(MOVED), "missing") == "old"
        assert registry.since(mark) == []
        before = listed(podman)
        ids = {names.name(KEPT), names.name(ALSO)}
        assert {before[name] for name in ids} == {(names.kept.image_id, True)}
        # Nothing takes an image out of the store.
        for how in (["rmi", names.name(KEPT)], ["rmi", "--force", names.kept.image_id]):
            done = podman.run(*how, check=False)
            assert done.returncode != 0 and "read-only" in done.stderr, done.stderr
        podman.run("image", "prune", "--all", "--force")
        podman.run("system", "prune", "--all", "--force")
        assert listed(podman) == before
        # A tag of the user's is a record of its own on the store's layers.
        podman.run("tag", names.name(KEPT), "localhost/mine:1")
        assert listed(podman)["localhost/mine:1"][0] == names.kept.image_id
        assert says(podman, "localhost/mine:1") == "kept"
        podman.run("rmi", "localhost/mine:1")
        assert {n: i for n, (i, _) in listed(podman).items()} == {
            n: i for n, (i, _) in before.items()
        }
        assert says(podman, names.name(KEPT)) == "kept"
        assert registry.since(mark) == []


def test_pulls_of_what_is_in_the_store(bench: Bench, names: Names) -> None:
    registry = names.site.registry
    with bench.fresh(stores=[names.store(bench, 0)]) as podman:
        # The same image: newer asks for the manifest only, always and pull for the config besides.
        for pull, blobs in (("newer", 0), ("always", 1)):
            mark = len(registry.since(0))
            assert says(podman, names.name(KEPT), pull) == "kept"
            assert fetched(registry.since(mark)) == (True, blobs), pull
        mark = len(registry.since(0))
        podman.run("pull", "--quiet", names.name(ALSO))
        manifests, blobs = fetched(registry.since(mark))
        assert manifests and blobs <= 1, "no layers"
        # Another image by now: only who asks for it gets it, and it is found first from then on.
        assert says(podman, names.name(MOVED)) == "old"
        assert says(podman, names.name(MOVED), "newer") == "new"
        assert says(podman, names.name(MOVED)) == "new"
        podman.run("rmi", names.name(MOVED))
        assert says(podman, names.name(MOVED)) == "old"


def test_the_users_own_and_the_first_store_win(bench: Bench, names: Names) -> None:
    first, second = names.store(bench, 0), names.store(bench, 1)
    with bench.fresh(stores=[first, second]) as podman:
        assert says(podman, names.name(KEPT)) == "kept"
        podman.run("pull", "--quiet", names.name(OWN))
        podman.run("tag", names.name(OWN), names.name(KEPT))
        assert says(podman, names.name(KEPT)) == "own"
        podman.run("untag", names.name(KEPT), names.name(KEPT))
        assert says(podman, names.name(KEPT)) == "kept"
    with bench.fresh(stores=[second, first]) as podman:
        assert says(podman, names.name(KEPT)) == "another"
        assert says(podman, names.name(ALSO)) == "kept"
