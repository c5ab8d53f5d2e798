# SPDX-License-Identifier: Apache-2.0
"""What a container sees, in both views, compared file by file with podman's own pull.

The repository is a directory that has lost nothing, so the layers view must be identical. The flat
view has the publisher's additions, named in ``ADDED``, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.integration.conftest import World
from tests.support.cli import Target, succeed
from tests.support.images import IMAGES, LAYERS, Image, build, deep, push
from tests.support.layers import MTIME, directory, file, opaque, whiteout
from tests.support.lister import Entry, diff_trees, list_tree
from tests.support.podman import Host, Podman, running
from tests.support.registry import Registry

#: Singularity's files, which the publisher puts into every merged root.
ADDED = (b".singularity.d", b".exec", b".run", b".shell", b".test", b"environment", b"singularity")
#: Files and mount points that the publisher, like DUCC, makes where an image has none.
MADE = (b"etc/hosts", b"etc/resolv.conf", b"var/tmp", b"run", b"mnt", b"media", b"srv", b"lib")

LAYERS.update(
    {
        "both": [
            whiteout("var/lib/data/a"),
            file("var/lib/data/a", "made anew\n"),
            file("var/lib/data/e", "new\n"),
        ],
        "opaque-outside": [
            directory("var/lib", 0o750),
            opaque("var/lib"),
            directory("var/lib/data"),
            file("var/lib/data/z", "kept\n"),
        ],
        "opaque-inside": [
            directory("var/lib", 0o750),
            directory("var/lib/data", 0o711, 1234),
            opaque("var/lib/data"),
            file("var/lib/data/y", "only this\n"),
        ],
        "delete-all": [whiteout("var/lib"), whiteout("opt")],
        "delete-nothing": [whiteout("var/lib/never")],
        "delete-deep": [whiteout("var/lib"), whiteout("var/lib/data"), whiteout("var/lib/data/a")],
        "remake": [
            directory("var/lib", 0o700, 1234),
            file("var/lib/mine", "mine\n", 0o600, 1234),
        ],
        "whiteout-name": [file("opt/.wh.odd..name", ""), file("opt/wh.plain", "x\n")],
        "aufs": [file(".wh..wh.aufs", ""), directory(".wh..wh.plnk"), file("opt/f", "f\n")],
    }
)

_SH = {"Env": ["PATH=/bin"], "Cmd": ["ls", "/"]}
EXTRA = [
    Image("v/both:1", ["base", "both"], _SH),
    Image("v/nested-opaque:1", ["base", "opaque-outside", "opaque-inside"], _SH),
    Image("v/nested-opaque:2", ["base", "opaque-inside", "opaque-outside"], _SH),
    Image("v/delete-all:1", ["base", "app", "delete-all"], _SH),
    Image("v/delete-nothing:1", ["base", "delete-nothing"], _SH),
    Image("v/delete-deep:1", ["base", "delete-deep"], _SH),
    Image("v/remade:1", ["base", "delete-all", "remake"], _SH),
    Image("v/remade:2", ["base", "delete-all", "remake", "delete-all", "remake"], _SH),
    Image("v/names:1", ["base", "whiteout-name"], _SH),
    Image("v/aufs:1", ["base", "aufs"], _SH),
    Image("v/alternating:1", ["base", "delete", "again", "delete", "again", "delete"], _SH),
    Image("v/turning:1", ["base", "turn", "turn-back", "turn", "turn-back", "turn"], _SH),
    Image("v/markers-in-base:1", ["both", "base"], _SH),
    deep(9),
]

every_image = pytest.mark.parametrize(
    "name", [image.name for image in [*IMAGES, *EXTRA]], ids=lambda name: str(name)
)


@dataclass(frozen=True)
class Views:
    """The images of the world and the extra ones: pulled, and in a store for each choice."""

    registry: str
    target: Target
    plain: Podman
    by_layers: Podman
    flat: Podman
    reusing: Podman

    def name(self, image: str) -> str:
        return f"{self.registry}/{image}"

    def pulled(self, image: str) -> dict[bytes, Entry]:
        with self.plain.root_of(self.name(image)) as root:
            return list_tree(root)

    def seen(self, podman: Podman, image: str) -> dict[bytes, Entry]:
        with podman.root_of(self.name(image)) as root:
            return list_tree(root)


@contextmanager
def _podman(root: Path, target: Target, *options: str) -> Iterator[Podman]:
    target.sync("--offline", *options)
    with running(root, stores=[target.store]) as podman:
        yield podman


@pytest.fixture(scope="module")
def views(
    world: World,
    tmp_path_factory: pytest.TempPathFactory,
    podman_host: Host,
    registry_process: Registry,
) -> Iterator[Views]:
    """Publish the extra images beside the world's and lay everything out in three ways."""
    root = tmp_path_factory.mktemp("views")
    registry_process.start()
    names = [push(build(image), registry_process) for image in EXTRA]
    world.plain.run("pull", "--quiet", *names)
    repository = world.target.repository
    succeed("publish", *(f"http://{name}" for name in names), "--repository", repository)
    registry_process.stop()
    target = replace(world.target, cache=root / "cache")

    def store(name: str) -> Target:
        return replace(target, store=root / name)

    with ExitStack() as stack:
        by_layers, flat, reusing = (
            stack.enter_context(_podman(root / f"podman-{name}", store(name), *options))
            for name, options in (
                ("layers", ["--view", "layers"]),
                ("flat", ["--view", "flat"]),
                ("reusing", ["--reuse", "all"]),
            )
        )
        yield Views(world.registry, target, world.plain, by_layers, flat, reusing)


def _dated(wanted: dict[bytes, Entry], seen: dict[bytes, Entry]) -> dict[bytes, Entry]:
    """``seen``, with the time podman made them for directories that no layer lists: these have
    the time of unpacking, at every pull another one."""
    return {
        path: replace(entry, mtime=wanted[path].mtime)
        if entry.kind == "directory"
        and path in wanted
        and wanted[path].mtime != MTIME * 1_000_000_000
        else entry
        for path, entry in seen.items()
    }


@every_image
def test_layers_view_is_identical(views: Views, name: str) -> None:
    wanted, seen = views.pulled(name), views.seen(views.by_layers, name)
    # The root directory itself is the container's own, made on the first mount.
    assert diff_trees(wanted, _dated(wanted, seen), skip=[b"."]) == []


@every_image
def test_flat_view_has_the_publishers_additions_and_no_other(views: Views, name: str) -> None:
    # A directory's time and a file's link count change when the publisher merges.
    wanted, seen = views.pulled(name), views.seen(views.flat, name)
    made = [path for path in MADE if path not in wanted]
    assert diff_trees(wanted, seen, ignore=("mtime",), skip=[*ADDED, *made, b"."]) == []


@every_image
def test_stores_that_reuse_everything_show_the_same(views: Views, name: str) -> None:
    flat, seen = views.seen(views.flat, name), views.seen(views.reusing, name)
    if build(next(i for i in [*IMAGES, *EXTRA] if i.name == name)).blobs[1:]:
        assert diff_trees(flat, seen, skip=[b"."]) == []
    else:
        assert diff_trees(views.pulled(name), seen, skip=[b"."]) == []
