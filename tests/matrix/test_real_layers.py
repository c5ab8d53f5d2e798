# SPDX-License-Identifier: Apache-2.0
"""A layer that is really pulled breaks nothing that stands on a store's, on every podman.

``python -m tests.matrix --only "real layers"`` tries every way to lay out a store.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from podman_cvmfs.usage.broken_layers import cure_of, find_broken
from tests.matrix import real_layers
from tests.matrix.bench import Bench
from tests.matrix.listing import CONTAINER
from tests.matrix.site import Site
from tests.matrix.standing import STORED, TOOLS, Standing, unlike
from tests.support.released import LAYOUT_4, released


@pytest.fixture(scope="module")
def layout_4(matrix_site: Site) -> Path:
    """The code that writes stores of layout 4."""
    return released(LAYOUT_4, matrix_site.data)


@pytest.mark.parametrize("layout", [("auto", "base"), ("layers", "all")], ids="-".join)
def test_what_stands_on_a_store_survives(bench: Bench, layout: tuple[str, str]) -> None:
    outcome = real_layers.run(bench, *layout)
    assert outcome.problems == []
    assert outcome.images


def test_two_stores(bench: Bench) -> None:
    assert real_layers.two_stores(bench).problems == []


def test_set_up_is_taken_back_and_made_again(bench: Bench, tools: Path) -> None:
    """With no variable that names a storage.conf, as on a user's machine."""
    place = real_layers.store(bench, "auto", "base")
    stored, tool = (bench.site.name(images[0].name) for images in (STORED, TOOLS))
    with bench.fresh() as podman:
        here = f"unset CONTAINERS_STORAGE_CONF; PATH={tools}:$PATH; "

        def sh(script: str) -> str:
            return podman.tool("sh", "-ec", here + script).stdout

        look = (
            f"cd {podman.root}; podman run --rm --pull=never {tool} "
            "find / -xdev -path /proc -prune -o -print > seen; LC_ALL=C sort seen;"
            "podman start --attach before"
        )
        sh(f"podman-cvmfs setup --store {place}")
        sh(f"podman pull --quiet {tool}; podman run --pull=never --name before {stored} ls /opt")
        before = sh(look)
        assert "/opt/tool/run" in before and "/bin/busybox" in before
        sh(f"podman-cvmfs setup --undo --store {place}")
        sh(f"! podman image exists {stored}")
        sh(f"podman pull --quiet {stored} || true; podman pull --quiet {tool} || true")
        sh(f"podman-cvmfs setup --store {place}")
        assert sh(look) == before
        sh(f"podman pull --quiet {stored}; podman pull --quiet {tool}")
        assert sh(look) == before


def test_what_layout_4_broke_is_found_and_mended(bench: Bench, layout_4: Path) -> None:
    """Newer podman alone is wrong on it; older ones fail loudly or are right."""
    site, place = bench.site, real_layers.store(bench, "auto", "base", code=layout_4)
    with bench.fresh(stores=[place]) as podman:
        standing = Standing(podman, site)
        standing.make()
        before = standing.look()
        graphroots = [str(podman.graphroot)]
        assert find_broken(graphroots, [str(place)]).found == ()
        real_layers.configure(podman, [])
        for image in STORED:
            podman.run("pull", "--quiet", site.name(image.name), check=False)
        real_layers.configure(podman, [place])
        after = standing.look()
        wrong = {name for name in before if list(unlike({name: before[name]}, {name: after[name]}))}
        broken = find_broken(graphroots, [str(place)]).found
        names = {CONTAINER + b.name if b.kind == "container" else b.name for b in broken}
        if bench.version.startswith("5.8"):
            assert wrong, "else nothing is shown by this"
        assert names.issuperset(wrong), wrong - names
        if not wrong:
            return
        assert names == wrong
        for command in cure_of(broken).split(" && "):
            podman.tool(*shlex.split(command))
        assert find_broken(graphroots, [str(place)]).found == ()
        for image in TOOLS:
            podman.run("pull", "--quiet", site.name(image.name))
            seen = podman.run("run", "--rm", site.name(image.name), "ls", "/opt/tool", "/bin/sh")
            assert seen.stdout == "/bin/sh\n\n/opt/tool:\nrun\n"
