# SPDX-License-Identifier: Apache-2.0
"""Images that were published or deleted only in part: none becomes a container without files."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from podman_cvmfs.settings.policy import DEFAULT_POLICY, Policy, View
from podman_cvmfs.verify.store import verify
from tests.support.osg import add_link, add_root, describe
from tests.support.world import World, app

_FLAT = replace(DEFAULT_POLICY, view=View.FLAT)
_LAYERS = replace(DEFAULT_POLICY, view=View.LAYERS)
_ALL = (DEFAULT_POLICY, _FLAT, _LAYERS)
#: More than tar pads an empty archive to.
_LARGE = 20480


class Published:
    """An image of the world's repository, of layers with files."""

    def __init__(self, world: World, number: int) -> None:
        self.name = app(number)
        self.link = world.link(number)
        self.target = os.readlink(self.link)
        self.root = Path(os.path.normpath(world.flat(number)))
        self.manifest = world.repository / f".metadata/{self.name}/manifest.json"
        self.description = self.manifest.read_bytes()
        blobs = [
            each["Digest"][len("sha256:") :] for each in json.loads(self.description)["Layers"]
        ]
        self.layers = [world.repository / ".layers" / blob[:2] / blob for blob in blobs]
        for layer in self.layers:
            (layer / "layerfs/file").touch()
        self.say_size(_LARGE)
        self.layer = self.layers[-1] / "layerfs"

    def say_size(self, size: int) -> None:
        """The size of the tars, as layers.json has it."""
        for layer in self.layers:
            facts = layer / ".metadata/layers.json"
            (entry,) = json.loads(facts.read_text())
            facts.write_text(json.dumps([{**entry, "diff-size": size}]))

    def take(self, other: Published) -> None:
        """Become the image ``other``."""
        self._put(os.path.relpath(other.root, self.link.parent), other.description)

    def restore(self) -> None:
        """Become what it was."""
        self._put(self.target, self.description)

    def _put(self, target: str, description: bytes) -> None:
        self.link.unlink()
        self.link.symlink_to(target)
        self.manifest.write_bytes(description)


def _empty(directory: Path) -> None:
    shutil.rmtree(directory)
    directory.mkdir()
    # The client's own file is no content.
    (directory / ".cvmfscatalog").touch()


def _file_for_root(image: Published) -> None:
    shutil.rmtree(image.root)
    image.root.touch()


def _link(directory: Path) -> None:
    aside = directory.with_name("aside")
    directory.rename(aside)
    directory.symlink_to(aside)


def _missing_root_and_empty_layer(image: Published) -> None:
    shutil.rmtree(image.root)
    _empty(image.layer)


def _empty_root_and_missing_layer(image: Published) -> None:
    _empty(image.root)
    shutil.rmtree(image.layer)


#: What is broken -> how, the policies under which it fails, and the words for it.
_CASES: dict[str, tuple[Callable[[Published], None], tuple[Policy, ...], str]] = {
    "missing layer": (
        lambda image: shutil.rmtree(image.layer.parent),
        (_LAYERS,),
        "layer 3 of 3 is missing: {layer} ",
    ),
    "empty layer": (
        lambda image: _empty(image.layer),
        (_LAYERS,),
        "layer 3 of 3 is empty: {layer} ",
    ),
    "missing root": (
        lambda image: shutil.rmtree(image.root),
        (_FLAT,),
        "its merged root {root} is missing",
    ),
    "empty root": (lambda image: _empty(image.root), (_FLAT,), "its merged root {root} is empty"),
    "link for a root": (
        lambda image: _link(image.root),
        (_FLAT,),
        "its merged root {root} is a symbolic link",
    ),
    "link for a layer": (
        lambda image: _link(image.layer),
        (_LAYERS,),
        "layer 3 of 3 is a symbolic link: {layer} ",
    ),
    "file for a root": (_file_for_root, (_FLAT,), "its merged root {root} is missing"),
    "missing root, empty layer": (_missing_root_and_empty_layer, _ALL, "merged root {root} is "),
    "empty root, missing layer": (_empty_root_and_missing_layer, _ALL, "merged root {root} is "),
    "missing manifest": (
        lambda image: image.manifest.unlink(),
        _ALL,
        "has no manifest: {manifest} is missing",
    ),
    "half a manifest": (
        lambda image: os.truncate(image.manifest, 80),
        _ALL,
        "{manifest} is not valid JSON",
    ),
}
_TOLD = ("missing root", "empty root", "link for a root", "file for a root")


@pytest.mark.parametrize("policy", _ALL, ids=lambda policy: policy.view.value)
def test_each_name_keeps_its_last_good_image(world: World, policy: Policy) -> None:
    world.make("repository", len(_CASES) + 1)
    good, *images = [Published(world, number) for number in range(len(_CASES) + 1)]
    for image in images:
        image.take(good)
    world.sync(policy=policy)
    assert len(world.content.images) == 1 and len(world.names) == len(_CASES) + 1

    for image, (spoil, _, _) in zip(images, _CASES.values()):
        image.restore()
        spoil(image)
    report = world.sync(policy=policy)
    assert world.names.keys() == {good.name, *(image.name for image in images)}
    wrong = [image.name for image, case in zip(images, _CASES.values()) if policy in case[1]]
    assert sorted(report.failed) == sorted(wrong)
    for number, (image, kind) in enumerate(zip(images, _CASES), 1):
        words = _CASES[kind][2].format(**vars(image))
        notices = [notice for notice in report.notices if image.name in notice]
        if image.name in wrong:
            assert words in report.failed[image.name].line
            assert world.names[image.name] == world.names[good.name]
            assert not notices
        else:
            # The other view shows the image as it is.
            assert world.names[image.name] != world.names[good.name]
            assert all(any(Path(each).iterdir()) for each in _shown(world, number))
            assert len(notices) == (kind in _TOLD)
            assert all(words in notice for notice in notices)
    # Nothing changes until the repository does.
    assert not world.sync(policy=policy).changed
    for image in images[:2]:
        image.layer.mkdir(parents=True, exist_ok=True)
        (image.layer / "file").touch()
    assert not {each.name for each in images[:2]} & world.sync(policy=policy).failed.keys()


def _shown(world: World, number: int) -> list[str]:
    """The directories in the repository that show the image."""
    return [f"{world.root}/{each}" for each in world.targets(number)]


def test_an_empty_base_serves_no_pull(world: World) -> None:
    """The merged roots show the images. A pull that found the base would get an empty one."""
    world.make("repository", 2)
    image = Published(world, 1)
    _empty(image.layers[0] / "layerfs")
    report = world.sync()
    assert not report.failed and len(world.names) == 2
    assert not world.advertised()
    assert not world.sync().changed


def test_what_is_empty_by_right_is_shown(world: World) -> None:
    """An image without files: its layers are tars without entries."""
    world.make("repository", 2)
    image = Published(world, 1)
    for layer in image.layers:
        _empty(layer / "layerfs")
    image.say_size(10240)
    _empty(image.root)
    for policy in _ALL:
        assert not world.sync(policy=policy).failed
        assert image.name in world.names


def test_files_that_leave_later(world: World) -> None:
    """The links stay. The store must not go on to offer what podman can't start."""
    world.make("repository", 4)
    images = [Published(world, number) for number in range(4)]
    world.sync()
    shutil.rmtree(images[1].root)
    _missing_root_and_empty_layer(images[2])
    report = world.sync()
    assert [notice for notice in report.notices if images[1].name in notice]
    assert world.stored(images[1].name).view == "layers"
    assert list(report.failed) == [images[2].name]
    line = report.failed[images[2].name].line
    assert f"{images[2].root} is missing: the image has left the store" in line
    assert world.names.keys() == {app(0), app(1), app(3)}
    assert not report.warnings
    for _ in range(2):
        report = world.sync()
        assert list(report.failed) == [images[2].name]
    assert not report.changed and not verify(world.store.path).findings
    for each in (images[1], images[2]):
        (each.root / "tmp").mkdir(parents=True)
    report = world.sync()
    assert not report.failed and not report.notices
    assert world.names.keys() == {app(number) for number in range(4)}
    assert world.stored(images[1].name).view == "flat"


def test_a_tree_that_is_away_has_lost_nothing(world: World) -> None:
    """As between the unmounting and the mounting of a nested repository."""
    world.make("repository", 2)
    world.sync()
    before = world.content
    (world.repository / ".flat").rename(world.repository / ".away")
    (world.repository / ".flat").mkdir()
    assert not world.sync().failed
    assert world.content == before


@pytest.mark.parametrize("state", ["missing", "empty"])
def test_a_root_of_osg(world: World, state: str) -> None:
    one, two = describe("ab"), describe("abc")
    for name, built in (("htc/one:1", one), ("htc/two:1", two)):
        add_root(world.repository, built.merged)
        add_link(world.repository, name, built.merged)
    root = world.repository / two.merged
    shutil.rmtree(root)
    if state == "empty":
        root.mkdir()
    report = world.sync()
    ((name, error),) = report.failed.items()
    assert name.endswith("htc/two:1")
    assert f"leads to {root}, which is {state}" in error.message
    assert [name.rpartition("/")[2] for name in world.names] == ["one:1"]
