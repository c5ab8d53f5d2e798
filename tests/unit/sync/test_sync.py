# SPDX-License-Identifier: Apache-2.0
"""The whole of a sync on directories, with a registry played by a dictionary."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from podman_cvmfs.errors import InputError, RepositoryError
from tests.support.many import REGISTRY
from tests.support.trees import snapshot
from tests.support.world import World, app

pytestmark = pytest.mark.usefixtures("four_images")


def test_all_images_then_nothing_to_do(world: World) -> None:
    report = world.sync()
    assert list(report.added) == [app(n) for n in range(4)]
    assert report.changed and not report.failed
    assert {image.config_origin for image in world.content.images.values()} == {"repository"}
    before = snapshot(world.root)
    report = world.sync()
    assert not (report.changed or report.added or report.failed)
    assert snapshot(world.root) == before


def test_only_named_images_are_added(world: World) -> None:
    assert list(world.sync(app(2)).added) == [app(2)]
    assert list(world.sync(app(1), app(2)).added) == [app(1)]
    assert set(world.content.names) == {app(1), app(2)}


def test_unknown_name_changes_nothing_and_is_named(world: World) -> None:
    world.sync(app(1))
    before = snapshot(world.root)
    report = world.sync("nothing/here:1", app(2) + "x")
    assert set(report.failed) == {"nothing/here:1", app(2) + "x"}
    assert all(isinstance(error, InputError) for error in report.failed.values())
    assert snapshot(world.root) == before
    with pytest.raises(InputError, match="not an image name"):
        world.sync("No Name")


def test_one_broken_image_does_not_stop_the_others(world: World) -> None:
    (world.repository / f".metadata/{app(1)}/manifest.json").write_text("{")
    report = world.sync()
    assert list(report.failed) == [app(1)]
    assert set(world.content.names) == {app(0), app(2), app(3)}


def test_what_breaks_later_stays_as_it_was(world: World) -> None:
    world.sync()
    before = snapshot(world.root / "store")
    old = world.link(1)
    target = os.readlink(world.link(2))
    old.unlink()
    old.symlink_to(target[:-64] + "f" * 64)  # a retag to an image that isn't there
    report = world.sync()
    assert list(report.failed) == [app(1)]
    assert snapshot(world.root / "store") == before


@pytest.mark.parametrize("place", ["files", "above"])
def test_an_image_whose_files_became_a_link_leaves_the_store(world: World, place: str) -> None:
    """Containers would show what the link leads to: files of the host."""
    world.sync()
    flat = Path(os.path.normpath(world.flat(1)))
    replaced = flat if place == "files" else flat.parent
    kept = {app(n) for n in range(4) if world.flat(n).parent.name != flat.parent.name} | (
        {app(n) for n in range(4) if n != 1} if place == "files" else set()
    )
    assert kept
    replaced.rename(world.root / "aside")
    replaced.symlink_to("/etc" if place == "files" else world.root / "aside")
    shutil.rmtree(world.repository / ".layers")
    report = world.sync()
    assert report.failed.keys() == {app(n) for n in range(4)} - kept
    assert f"{replaced} is a symbolic link" in report.failed[app(1)].message
    assert set(world.names) == kept
    assert not any(str(flat) in os.readlink(each) for each in _links(world))
    # The image isn't in the store any more, and the next sync gives the same reason.
    again = world.sync().failed[app(1)].message
    assert f"{replaced} is a symbolic link" in again
    replaced.unlink()
    (world.root / "aside").rename(replaced)
    assert not world.sync().failed
    assert app(1) in world.names


def test_an_image_with_other_files_stays_without_the_link(world: World) -> None:
    world.sync()
    flat = Path(os.path.normpath(world.flat(1)))
    flat.rename(world.root / "aside")
    flat.symlink_to(world.root / "aside")
    report = world.sync()
    assert not report.failed and set(world.names) == {app(n) for n in range(4)}
    assert [f"{flat} is a symbolic link" in each for each in report.warnings] == [True]
    assert not any(str(flat) in os.readlink(each) for each in _links(world))
    assert not world.sync().warnings


def _links(world: World) -> list[Path]:
    """Where the pieces in the store lead into the repository."""
    found = (world.root / "store/overlay").glob("*/diff")
    return [each for each in found if each.is_symlink()]


def test_a_retagged_image_moves(world: World) -> None:
    world.sync()
    link, other = world.link(1), world.link(2)
    target = os.readlink(other)
    link.unlink()
    link.symlink_to(target)
    shutil.copy(
        world.repository / f".metadata/{app(2)}/manifest.json",
        world.repository / f".metadata/{app(1)}/manifest.json",
    )
    report = world.sync()
    assert list(report.moved) == [app(1)]
    assert world.content.names[app(1)] == world.content.names[app(2)]


def test_an_image_that_left_the_repository_leaves_the_store(world: World) -> None:
    world.sync()
    layers = set(world.content.layers)
    world.link(3).unlink()
    shutil.rmtree(world.repository / f".metadata/{app(3)}")
    assert list(world.sync().removed) == [app(3)]
    assert set(world.content.layers) == layers, "containers may still stand on them"


def test_an_empty_repository_never_empties_the_store(world: World) -> None:
    world.sync()
    before = snapshot(world.root / "store")
    shutil.rmtree(world.repository)
    world.repository.mkdir()
    with pytest.raises(RepositoryError, match="has no images"):
        world.sync()
    assert snapshot(world.root / "store") == before


@pytest.mark.parametrize("wrong", [False, True])
def test_a_first_sync_from_what_is_no_repository_fails(world: World, wrong: bool) -> None:
    """A mount point without its file system, or another directory."""
    shutil.rmtree(world.repository)
    world.repository.mkdir()
    if wrong:
        (world.repository / "etc").mkdir()
    with pytest.raises(RepositoryError, match="has no images"):
        world.sync()
    assert not (world.root / "store").exists()


def test_a_repository_without_images_yet_is_one(world: World) -> None:
    shutil.rmtree(world.repository)
    (world.repository / ".layers").mkdir(parents=True)
    assert world.sync().images == 0


def test_short_names_mean_what_they_mean_to_podman(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = world.root / "registries.conf"
    conf.write_text(
        f'unqualified-search-registries = ["quay.io", "{REGISTRY}"]\n'
        f'[aliases]\n"mine" = "{REGISTRY}/project/app2"\n'
    )
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(conf))
    assert list(world.sync("project/app1:1").added) == [app(1)]
    assert list(world.sync("mine:2").added) == [app(2)]
    assert "project/app9:9" in world.sync("project/app9:9").failed


def test_a_name_with_its_transport_means_what_it_means_to_podman(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = world.root / "registries.conf"
    conf.write_text(f'unqualified-search-registries = ["{REGISTRY}"]\n')
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(conf))
    report = world.sync(f"docker://{app(1)}")
    assert (list(report.added), report.failed) == ([app(1)], {})
    assert report.found == {f"docker://{app(1)}": app(1)}
    # Behind a transport no name is short: this one is Docker Hub's.
    assert set(world.sync("docker://project/app2:2").failed) == {"docker://project/app2:2"}
    assert set(world.names) == {app(1)}
