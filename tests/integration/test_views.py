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

from tests.integration.conftest import Gallery
from tests.support.cli import Target, succeed
from tests.support.comparison import ADDED, EXTRA, MADE, dated
from tests.support.images import IMAGES, build, push
from tests.support.lister import Entry, diff_trees, list_tree
from tests.support.podman import Host, Podman, running
from tests.support.registry import Registry

every_image = pytest.mark.parametrize(
    "name", [image.name for image in [*IMAGES, *EXTRA]], ids=lambda name: str(name)
)


@dataclass(frozen=True)
class Views:
    """The images of the gallery and the extra ones: pulled, and in a store for each choice."""

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
    gallery: Gallery,
    tmp_path_factory: pytest.TempPathFactory,
    podman_host: Host,
    registry_process: Registry,
) -> Iterator[Views]:
    """Publish the extra images beside the gallery's and lay everything out in three ways."""
    root = tmp_path_factory.mktemp("views")
    registry_process.start()
    names = [push(build(image), registry_process) for image in EXTRA]
    gallery.plain.run("pull", "--quiet", *names)
    repository = gallery.target.repository
    succeed("publish", *(f"http://{name}" for name in names), "--repository", repository)
    registry_process.stop()
    target = replace(gallery.target, cache=root / "cache")

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
        yield Views(gallery.registry, target, gallery.plain, by_layers, flat, reusing)


@every_image
def test_layers_view_is_identical(views: Views, name: str) -> None:
    wanted, seen = views.pulled(name), views.seen(views.by_layers, name)
    # The root directory itself is the container's own, made on the first mount.
    assert diff_trees(wanted, dated(wanted, seen), skip=[b"."]) == []


@every_image
def test_flat_view_has_the_publishers_additions_and_no_other(views: Views, name: str) -> None:
    # A directory's time and a file's link count change when the publisher merges.
    wanted, seen = views.pulled(name), views.seen(views.flat, name)
    made = [path for path in MADE if path not in wanted]
    assert diff_trees(wanted, seen, ignore=("mtime",), skip=[*ADDED, *made, b"."]) == []


@every_image
def test_stores_that_reuse_everything_show_the_same(views: Views, name: str) -> None:
    """What is there for pulls changes nothing of what images show."""
    seen, flat = views.seen(views.reusing, name), views.seen(views.flat, name)
    # Local directories above a merged root are as old as the sync.
    seen = {
        path: replace(entry, mtime=flat[path].mtime)
        if entry.kind == "directory" and path in flat
        else entry
        for path, entry in seen.items()
    }
    assert diff_trees(flat, seen, skip=[b"."]) == []
