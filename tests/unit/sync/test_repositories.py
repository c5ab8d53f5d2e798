# SPDX-License-Identifier: Apache-2.0
"""Several repositories: one shows an image, another takes its place."""

from __future__ import annotations

import shutil

import pytest

from podman_cvmfs.settings.policy import DEFAULT_POLICY, Policy, View
from podman_cvmfs.store.records import StoredLayer
from podman_cvmfs.verify.store import verify
from tests.support.many import REGISTRY, make_repository
from tests.support.world import World, app

BY_LAYERS = Policy(view=View.LAYERS)


def test_what_another_repository_has_is_taken_from_there_when_one_is_forged(world: World) -> None:
    one, two = world.make("one", 2), world.make("two", 3)
    world.sync_from(one)
    world.sync_from(one, two)
    assert [world.homes(number) for number in range(3)] == [{"one"}, {"one"}, {"one", "two"}]
    (one / ".layers").rename(world.root / "elsewhere")
    (one / ".layers").symlink_to(world.root / "elsewhere")
    report = world.sync_from(one, two)
    assert set(report.failed) == {str(one)}
    assert [world.homes(number) for number in range(3)] == [{"two"}] * 3


def test_an_image_that_only_a_forged_repository_can_show_leaves(world: World) -> None:
    one, two = world.make("one", 1), world.make("two", 2)
    world.sync_from(one)
    world.sync_from(one, two)
    assert world.homes(1) == {"one", "two"}
    (one / ".layers").rename(world.root / "elsewhere")
    (one / ".layers").symlink_to(world.root / "elsewhere")
    (two / ".metadata" / app(1) / "manifest.json").unlink()
    report = world.sync_from(one, two)
    assert set(report.failed) == {str(one), app(1)}
    assert set(world.sync_from(one, two).failed) == {str(one), app(1)}
    names = {name for name in world.content.names if ".invalid" not in name}
    assert names == {app(0)} and world.homes(0) == {"two"}
    assert not any(layer.repository == str(one) for layer in world.content.layers.values())


def test_a_hidden_repository_s_images_come_from_another_until_it_is_back(world: World) -> None:
    one, two = world.make("one", 2), world.make("two", 3)
    world.sync_from(one)
    world.sync_from(one, two)
    one.rename(world.root / "away")
    world.sync_from(one, two, hide_outage=True)
    assert [world.homes(number) for number in range(3)] == [{"two"}] * 3
    assert not world.sync_from(one, two, hide_outage=True).changed
    (world.root / "away").rename(one)
    world.sync_from(one, two, hide_outage=True)
    assert [world.stored(app(number)).repository for number in range(2)] == [str(one)] * 2
    assert "one" in world.homes(0) & world.homes(1)
    assert not world.sync_from(one, two, hide_outage=True).changed


def test_a_repository_that_is_not_configured_any_more_shows_nothing(world: World) -> None:
    one, two = world.make("one", 2), world.make("two", 3)
    world.sync_from(one)
    world.sync_from(one, two)
    world.sync_from(two)
    assert [world.homes(number) for number in range(3)] == [{"two"}] * 3
    assert not world.sync_from(two).changed


def test_a_repository_that_is_down_keeps_its_names(world: World) -> None:
    """Another one has the image, too, but under another name."""
    one, two = world.make("one", 1), world.make("two", 1)
    theirs = f"{REGISTRY}/project/theirs:1"
    for place in (two, two / ".metadata"):
        (place / app(0)).rename(place / theirs)
    world.sync_from(one, two)
    names = set(world.content.names)
    assert app(0) in names
    one.rename(world.root / "away")
    for _ in range(2):
        assert not world.sync_from(one, two).changed
    assert set(world.content.names) == names


@pytest.mark.parametrize("policy", [DEFAULT_POLICY, BY_LAYERS])
def test_a_layer_comes_from_where_it_still_is(world: World, policy: Policy) -> None:
    """Another repository had it first, and has removed it with its own image."""
    one, two = world.make("one", 1), world.make("two", 2)
    theirs = f"{REGISTRY}/project/theirs:1"
    for place in (two, two / ".metadata"):
        (place / app(0)).rename(place / theirs)
    world.sync_from(one, policy=policy)
    world.sync_from(one, two, policy=policy)
    assert world.homes(1) == {"one", "two"}
    shutil.rmtree(one)
    make_repository(one, 3, layers=1, shared=0)
    for number in (0, 1):
        (one / app(number)).unlink()
        shutil.rmtree(one / ".metadata" / app(number))
    world.sync_from(one, two, policy=policy)
    assert world.homes(1) == {"two"}
    assert not verify(world.store.path).errors
    # What showed the image until now has lost its files, and so has no grace.
    world.sync_from(one, two, policy=policy)
    assert not any(each.repository == str(one) and each.retired for each in _layers(world))
    assert not world.sync_from(one, two, policy=policy).changed


def _layers(world: World) -> list[StoredLayer]:
    return list(world.content.layers.values())


def test_a_name_whose_image_fails_keeps_the_old_one_whichever_repository_has_it(
    world: World,
) -> None:
    """The image is taken from the first repository that has it, which has it by half."""
    one, two = world.make("one", 1), world.make("two", 2)
    new = (one / app(0)).readlink()
    for place in (two, two / ".metadata"):
        (place / app(0)).rename(world.root / f"moved-{place.name}")
    world.sync_from(two)
    old = world.stored(app(1)).image_id
    (two / app(1)).unlink()
    (two / app(1)).symlink_to(new)
    shutil.copy(world.root / "moved-.metadata/manifest.json", two / ".metadata" / app(1))
    (one / ".metadata" / app(0) / "manifest.json").unlink()
    report = world.sync_from(one, two)
    assert set(report.failed) == {app(0), app(1)}
    assert world.stored(app(1)).image_id == old


def test_a_repository_that_is_down_keeps_its_image_under_a_name_of_two(world: World) -> None:
    """It comes first; what the second one has under the name is another image."""
    one, two = world.make("one", 1), world.make("two", 2)
    (two / app(0)).unlink()
    (two / app(0)).symlink_to((two / app(1)).readlink())
    shutil.copy(two / ".metadata" / app(1) / "manifest.json", two / ".metadata" / app(0))
    world.sync_from(one, two)
    first = world.stored(app(0)).image_id
    one.rename(world.root / "away")
    assert not world.sync_from(one, two).moved
    assert world.stored(app(0)).image_id == first
    assert world.sync_from(one, two, hide_outage=True).moved == (app(0),)


def test_what_is_excluded_leaves_although_its_repository_is_down(world: World) -> None:
    one, two = world.make("one", 2), world.make("two", 1)
    (two / app(0)).rename(two / REGISTRY / "project/theirs:1")
    (two / ".metadata" / app(0)).rename(two / ".metadata" / REGISTRY / "project/theirs:1")
    world.sync_from(one, two)
    one.rename(world.root / "away")
    world.sync_from(one, two, without="*app1:*")
    assert app(0) in world.content.names and app(1) not in world.content.names


def test_an_image_is_not_lost_with_another_of_its_name(world: World) -> None:
    one, two = world.make("one", 1), world.make("two", 2)
    described = two / ".metadata" / app(0)
    shutil.rmtree(described)
    shutil.copytree(two / ".metadata" / app(1), described)
    (two / app(0)).unlink()
    (two / app(0)).symlink_to((two / app(1)).readlink())
    for path in two.glob(".metadata/*/project/*/manifest.json"):
        path.write_text("{")
    report = world.sync_from(one, two)
    assert app(1) in report.failed
    assert world.stored(app(0)).repository == str(one)


def test_images_that_moved_and_layers_that_stayed_are_sound(world: World) -> None:
    one, two = world.make("one", 2), world.make("two", 2)
    world.sync_from(one, two)
    world.sync_from(two, one)
    assert not verify(world.store.path).errors
