# SPDX-License-Identifier: Apache-2.0
"""Stores that are laid out anew, in part, by turns, or from another repository."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from pathlib import Path

import pytest

from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.oci.platform import Platform
from podman_cvmfs.plan.retirement import GRACE, is_retired
from podman_cvmfs.repository.offers import Offer
from podman_cvmfs.settings.policy import DEFAULT_POLICY, Overlay, Policy, Reuse, View
from podman_cvmfs.store.reader import read_store
from podman_cvmfs.store.records import (
    StoreContent,
    StoredImage,
    StoredLayer,
    chain_of,
    layers_of,
)
from podman_cvmfs.store.store import Store
from podman_cvmfs.sync.complete import resolve_all
from podman_cvmfs.sync.report import SyncReport
from podman_cvmfs.sync.request import Wishes
from podman_cvmfs.sync.run import sync
from podman_cvmfs.sync.selection import Selection
from podman_cvmfs.verify.store import verify
from tests.support.many import REGISTRY, make_repository

BY_LAYERS = Policy(view=View.LAYERS)
ALL = Policy(View.LAYERS, Reuse.ALL)


def app(number: int) -> str:
    return f"{REGISTRY}/project/app{number}:{number}"


def _hex(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class World:
    """Repositories, a store and a cache below one directory; images share a base."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = Store(str(root / "store"))

    def repository(self, name: str, images: int, shared: int = 1) -> Path:
        return make_repository(self.root / name, images, layers=3, shared=shared)

    def sync(
        self,
        *repositories: Path,
        policy: Policy = DEFAULT_POLICY,
        without: str | None = None,
        hide_outage: bool = False,
    ) -> SyncReport:
        return sync(
            Wishes(
                repositories=[str(each) for each in repositories],
                store=self.store,
                cache=BlobCache(str(self.root / "cache")),
                selection=Selection(None, (), () if without is None else (without,)),
                platform=Platform("amd64"),
                policy=policy,
                hide_outage=hide_outage,
            )
        )

    @property
    def content(self) -> StoreContent:
        return read_store(self.store.path) or StoreContent()

    def image(self, number: int) -> StoredImage:
        content = self.content
        return content.images[content.names[app(number)]]

    def layers(self, number: int) -> list[StoredLayer]:
        """From the top down."""
        return layers_of(self.content, self.image(number))

    def targets(self, number: int) -> list[str]:
        """What the links of an image's layers lead to, below the world's root."""
        found = []
        for layer in self.layers(number):
            links = [part for part in pieces(self, layer) if part.is_symlink()]
            found += [os.path.relpath(os.readlink(link), self.root) for link in links]
        return found

    def homes(self, number: int) -> set[str]:
        """The repositories that show an image."""
        return {target.split("/")[0] for target in self.targets(number)}

    def advertised(self) -> list[StoredLayer]:
        return [layer for layer in self.content.layers.values() if layer.diff_id is not None]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def whiteout(repository: Path, blob: str) -> None:
    digest = _hex(blob)
    (repository / ".layers" / digest[:2] / digest / "layerfs/.wh.gone").touch()


def pieces(world: World, layer: StoredLayer) -> list[Path]:
    """What shows a layer, nearest first."""
    overlay = Path(world.store.path, "overlay")
    return [overlay / piece_id / "diff" for piece_id in layer.lowers or ()]


def hides_markers(world: World, layer: StoredLayer) -> bool:
    """Whether a marker file doesn't show through a layer."""
    for each in pieces(world, layer):
        if (each / ".wh.gone").is_char_device():
            return True
        if (each / ".wh.gone").exists():
            return False
    raise AssertionError("there is no marker")


def nested(world: World, layers: int = 2) -> Path:
    """A repository of app0, whose top layer lies below that of app1, which has no merged root."""
    repository = make_repository(world.root / "nested", 1, layers=layers, shared=layers)
    other = make_repository(world.root / "other", 2, layers=layers + 1, shared=layers)
    (other / app(0)).unlink()
    shutil.rmtree(other / ".metadata" / app(0))
    (other / app(1)).unlink()
    shutil.rmtree(other / ".flat")
    shutil.copytree(other, repository, symlinks=True, dirs_exist_ok=True)
    return repository


def mounted(world: World, number: int) -> list[Path]:
    """What podman would mount below an image's top, in which nothing may be missing."""
    return lowers(world, world.layers(number)[0].layer_id)


def lowers(world: World, layer_id: str) -> list[Path]:
    """The same below a layer."""
    lower = Path(world.store.path, "overlay", layer_id, "lower")
    places = [Path(world.store.path, "overlay", each) for each in lower.read_text().split(":")]
    return [place.resolve(strict=True) for place in places]


# ---------------------------------------------------------------------- one layer, two forms


def test_an_image_that_returns_stands_on_its_layers_still(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile the layer below its top was the top of another, which has a merged root."""
    repository = nested(world)
    world.sync(repository, without="*app0:*")
    world.sync(repository, without="*app1:*")
    world.sync(repository)
    below = mounted(world, 1)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 2 * GRACE)
    world.sync(repository)
    assert mounted(world, 1) == below
    assert not verify(world.store.path).errors


def test_what_stands_in_for_no_layer_is_not_written(world: World) -> None:
    """Nothing would lead to it, and the next sync would find something to do."""
    repository = nested(world, 3)
    world.sync(repository)
    assert not world.sync(repository).changed
    assert not any(layer.retired for layer in world.content.layers.values())


def test_an_image_without_layers(world: World) -> None:
    repository = make_repository(world.root / "empty", 1, layers=0, shared=0)
    for overlay in Overlay:
        assert not world.sync(repository, policy=Policy(overlay=overlay)).failed


def test_an_image_that_returns_has_its_twin_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container needed the top layer alone, so the twin went when its grace was over."""
    repository = world.repository("repository", 2)
    policy = Policy(reuse=Reuse.ALL)
    world.sync(repository, policy=policy)
    advertised, top = world.advertised(), world.layers(1)[0]
    chain = {layer.layer_id for layer in chain_of(world.content, top.layer_id)}
    world.sync(repository, policy=policy, without="*app1:*")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 2 * GRACE)
    monkeypatch.setattr("podman_cvmfs.sync.run.needed_layers", lambda *_: chain)
    world.sync(repository, policy=policy, without="*app1:*")
    assert top.layer_id in world.content.layers and top.twin not in world.content.layers
    world.sync(repository, policy=policy)
    assert {layer.layer_id for layer in world.advertised()} == {
        layer.layer_id for layer in advertised
    }
    assert not verify(world.store.path).errors
    assert not world.sync(repository, policy=policy).changed


@pytest.mark.parametrize("reuse", list(Reuse))
def test_a_merged_root_that_comes_later_is_shown(world: World, reuse: Reuse) -> None:
    """DUCC publishes layers and manifest first, merged root and link one transaction later."""
    repository = world.repository("repository", 2)
    policy = Policy(reuse=reuse)
    link = repository / app(1)
    target = link.readlink()
    flat = (link.parent / target).resolve()
    link.unlink()
    flat.rename(world.root / "flat")
    world.sync(repository, policy=policy)
    assert world.image(1).view == "layers"
    link.symlink_to(target)
    assert not world.sync(repository, policy=policy).changed, "the link came first"
    (world.root / "flat").rename(flat)
    world.sync(repository, policy=policy)
    assert world.image(1).view == "flat" and world.layers(1)[0].merged
    assert not verify(world.store.path).errors
    assert not world.sync(repository, policy=policy).changed


@pytest.mark.parametrize("reuse", list(Reuse))
def test_layers_that_come_later_are_found_by_pulls(world: World, reuse: Reuse) -> None:
    repository = world.repository("repository", 2)
    policy = Policy(reuse=reuse)
    (repository / ".layers").rename(world.root / "layers")
    (repository / ".layers").mkdir()
    world.sync(repository, policy=policy)
    assert not world.sync(repository, policy=policy).changed and not world.advertised()
    (repository / ".layers").rmdir()
    (world.root / "layers").rename(repository / ".layers")
    assert world.sync(repository, policy=policy).changed == (reuse is not Reuse.NONE)
    assert len(world.advertised()) == {Reuse.BASE: 1, Reuse.ALL: 5, Reuse.NONE: 0}[reuse]
    assert not verify(world.store.path).errors
    assert not world.sync(repository, policy=policy).changed


def test_a_merged_root_that_comes_later_takes_nothing_from_what_stands_on_the_layer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = nested(world)
    link = repository / app(0)
    target = link.readlink()
    flat = (link.parent / target).resolve()
    link.unlink()
    flat.rename(world.root / "flat")
    world.sync(repository)
    below = mounted(world, 1)
    (world.root / "flat").rename(flat)
    link.symlink_to(target)
    assert world.sync(repository).changed
    assert world.layers(0)[0].merged and mounted(world, 1) == below
    top = world.layers(1)[0].layer_id
    world.sync(repository, without="*app1:*")
    assert world.layers(0)[0].merged and lowers(world, top) == below
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 2 * GRACE)
    for _ in range(2):
        world.sync(repository, without="*app1:*")
    assert world.layers(0)[0].merged and top not in world.content.layers
    assert not world.sync(repository, without="*app1:*").changed
    assert not verify(world.store.path).errors


@pytest.mark.parametrize("reuse", list(Reuse))
def test_what_can_only_be_shown_by_its_layers_is_not_resolved_each_time(
    world: World, monkeypatch: pytest.MonkeyPatch, reuse: Reuse
) -> None:
    """An image with a merged root has the same layers as one without, or lies below another whose
    lower layers pulls may find."""
    policy = Policy(reuse=reuse)
    same = world.repository("same", 3, shared=3)
    shutil.rmtree((same / app(0)).resolve())
    (same / app(0)).unlink()
    below = make_repository(world.root / "below", 1, layers=2, shared=2)
    other = make_repository(world.root / "more", 2, layers=3, shared=2)
    for place in (other, other / ".metadata"):
        (place / app(0)).rename(world.root / f"{place.name}-app0")
    shutil.copytree(other, below, symlinks=True, dirs_exist_ok=True)
    resolved: list[str] = []

    def noting(wishes: Wishes, todo: dict[str, list[Offer]], report: SyncReport) -> object:
        resolved.extend(todo)
        return resolve_all(wishes, todo, report)

    monkeypatch.setattr("podman_cvmfs.sync.run.resolve_all", noting)
    for repository in (same, below):
        world.sync(repository, policy=policy)
        world.sync(repository, policy=policy)
        resolved.clear()
        assert not world.sync(repository, policy=policy).changed
        assert not resolved


# ---------------------------------------------------------------------- another policy


def test_what_fails_when_the_policy_changes_is_laid_out_anew_later(world: World) -> None:
    repository = world.repository("repository", 2, shared=2)
    whiteout(repository, "blob 1")
    fuse = Policy(View.LAYERS, Reuse.BASE, Overlay.FUSE)
    world.sync(repository, policy=fuse)
    assert not any(hides_markers(world, world.layers(number)[0]) for number in (0, 1))
    manifest = repository / ".metadata" / app(1) / "manifest.json"
    text = manifest.read_text()
    manifest.unlink()
    report = world.sync(repository, policy=BY_LAYERS)
    assert set(report.failed) == {app(1)}
    assert (world.image(0).outdated, world.image(1).outdated) == (False, True)
    # The layer they share is right for the image that could be laid out anew.
    assert hides_markers(world, world.layers(0)[0])
    assert world.sync(repository, policy=BY_LAYERS).failed, "tried again each time"
    manifest.write_text(text)
    assert world.sync(repository, policy=BY_LAYERS).changed
    assert not world.image(1).outdated and hides_markers(world, world.layers(1)[0])
    assert not world.sync(repository, policy=BY_LAYERS).changed


def test_an_outdated_image_s_layers_are_found_by_no_pull(world: World) -> None:
    repository = world.repository("repository", 1)
    world.sync(repository, policy=ALL)
    assert world.advertised()
    (repository / ".metadata" / app(0) / "manifest.json").unlink()
    assert world.sync(repository, policy=Policy(View.LAYERS, Reuse.NONE)).failed
    assert not world.advertised()


def test_an_image_that_returns_after_another_policy_is_laid_out_anew(world: World) -> None:
    repository = world.repository("repository", 2)
    world.sync(repository, policy=ALL)
    world.sync(repository, policy=ALL, without="*app1:*")
    flat = Policy(View.FLAT, Reuse.NONE)
    world.sync(repository, policy=flat, without="*app1:*")
    retired = [image for image in world.content.images.values() if is_retired(image)]
    assert [image.outdated for image in retired] == [True]
    world.sync(repository, policy=flat)
    assert (world.image(1).view, world.image(1).outdated) == ("flat", False)


def test_what_is_retired_is_found_by_no_pull_after_another_policy(world: World) -> None:
    repository = world.repository("repository", 2)
    world.sync(repository, policy=ALL)
    world.sync(repository, policy=ALL, without="*app1:*")
    assert any(layer.retired for layer in world.advertised())
    world.sync(repository, policy=Policy(View.FLAT, Reuse.NONE), without="*app1:*")
    assert any(layer.retired for layer in world.content.layers.values())
    assert not world.advertised()


@pytest.mark.parametrize("overlay", list(Overlay))
@pytest.mark.parametrize("reuse", list(Reuse))
def test_what_stands_on_a_layer_sees_it_after_another_policy(
    world: World, monkeypatch: pytest.MonkeyPatch, reuse: Reuse, overlay: Overlay
) -> None:
    """The layer is the top of another image, which is shown by its merged root by then; a user has
    tagged what has left the store, so nothing else names the layers below."""
    repository = nested(world, 3)
    by_layers, flat = Policy(View.LAYERS, reuse), Policy(View.FLAT, reuse, overlay)
    world.sync(repository, policy=by_layers)
    top = world.layers(1)[0].layer_id
    below = lowers(world, top)
    world.sync(repository, policy=by_layers, without="*app1:*")
    world.sync(repository, policy=flat, without="*app1:*")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 2 * GRACE)
    monkeypatch.setattr(
        "podman_cvmfs.sync.run.needed_layers",
        lambda content, *_: {layer.layer_id for layer in chain_of(content, top)},
    )
    for _ in range(2):
        world.sync(repository, policy=flat, without="*app1:*")
        assert not verify(world.store.path).errors
    assert [len(places) for places in (below, lowers(world, top))] == [5, 5]
    assert lowers(world, top) == below
    assert [target.split("/")[1] for target in world.targets(0)][:1] == [".flat"]
    chain = chain_of(world.content, world.image(0).top_layer)
    assert sum(layer.diff_size for layer in chain) == 3 * 10240
    assert not world.sync(repository, policy=flat, without="*app1:*").changed


@pytest.mark.parametrize("reuse", list(Reuse))
def test_a_retired_image_may_have_the_same_layers_as_another(world: World, reuse: Reuse) -> None:
    repository = world.repository("repository", 2, shared=3)
    by_layers, flat = Policy(View.LAYERS, reuse), Policy(View.FLAT, reuse)
    world.sync(repository, policy=by_layers)
    world.sync(repository, policy=by_layers, without="*app1:*")
    world.sync(repository, policy=flat, without="*app1:*")
    assert not verify(world.store.path).errors


# ---------------------------------------------------------------------- bases that delete


def test_for_fuse_overlayfs_bases_are_looked_at_before_they_are_advertised(world: World) -> None:
    """It would lose what they delete when a pull reads them again on another parent."""
    repository = world.repository("repository", 1)
    fuse = Policy(overlay=Overlay.FUSE)
    world.sync(repository, policy=fuse)
    assert [layer.diff_id for layer in world.advertised()] == [Digest(_hex("diff 0"))]
    other = World(world.root / "other")
    repository = other.repository("repository", 1)
    whiteout(repository, "blob 0")
    other.sync(repository, policy=fuse)
    assert not other.advertised()


def test_an_image_of_one_layer_shown_by_it_has_no_marker_files(world: World) -> None:
    repository = make_repository(world.root / "one", 1, layers=1, shared=0)
    whiteout(repository, "blob (0, 0)")
    world.sync(repository, policy=BY_LAYERS)
    assert hides_markers(world, world.layers(0)[0])


# ---------------------------------------------------------------------- what has been removed


@pytest.mark.parametrize("policy", [DEFAULT_POLICY, ALL])
def test_no_pull_finds_a_layer_whose_files_have_been_removed(world: World, policy: Policy) -> None:
    """The repository collects its garbage: what is pulled on such a layer couldn't be mounted."""
    repository = world.repository("repository", 2, shared=0)
    world.sync(repository, policy=policy)
    advertised = len(world.advertised())
    (repository / app(1)).unlink()
    shutil.rmtree(repository / ".metadata" / app(1))
    world.sync(repository, policy=policy)
    assert len(world.advertised()) == advertised
    for number in range(3):
        blob = _hex(f"blob {(1, number)}")
        shutil.rmtree(repository / ".layers" / blob[:2] / blob)
    world.sync(repository, policy=policy)
    assert len(world.advertised()) == advertised / 2
    assert not verify(world.store.path).errors


# ---------------------------------------------------------------------- several repositories


def test_what_another_repository_has_is_taken_from_there_when_one_is_forged(world: World) -> None:
    one, two = world.repository("one", 2), world.repository("two", 3)
    world.sync(one)
    world.sync(one, two)
    assert [world.homes(number) for number in range(3)] == [{"one"}, {"one"}, {"one", "two"}]
    (one / ".layers").rename(world.root / "elsewhere")
    (one / ".layers").symlink_to(world.root / "elsewhere")
    report = world.sync(one, two)
    assert set(report.failed) == {str(one)}
    assert [world.homes(number) for number in range(3)] == [{"two"}] * 3


def test_an_image_that_only_a_forged_repository_can_show_leaves(world: World) -> None:
    one, two = world.repository("one", 1), world.repository("two", 2)
    world.sync(one)
    world.sync(one, two)
    assert world.homes(1) == {"one", "two"}
    (one / ".layers").rename(world.root / "elsewhere")
    (one / ".layers").symlink_to(world.root / "elsewhere")
    (two / ".metadata" / app(1) / "manifest.json").unlink()
    report = world.sync(one, two)
    assert set(report.failed) == {str(one), app(1)}
    assert set(world.sync(one, two).failed) == {str(one), app(1)}
    names = {name for name in world.content.names if ".invalid" not in name}
    assert names == {app(0)} and world.homes(0) == {"two"}
    assert not any(layer.repository == str(one) for layer in world.content.layers.values())


def test_a_hidden_repository_s_images_come_from_another_until_it_is_back(world: World) -> None:
    one, two = world.repository("one", 2), world.repository("two", 3)
    world.sync(one)
    world.sync(one, two)
    one.rename(world.root / "away")
    world.sync(one, two, hide_outage=True)
    assert [world.homes(number) for number in range(3)] == [{"two"}] * 3
    assert not world.sync(one, two, hide_outage=True).changed
    (world.root / "away").rename(one)
    world.sync(one, two, hide_outage=True)
    assert [world.image(number).repository for number in range(2)] == [str(one)] * 2
    assert "one" in world.homes(0) & world.homes(1)
    assert not world.sync(one, two, hide_outage=True).changed


def test_a_repository_that_is_not_configured_any_more_shows_nothing(world: World) -> None:
    one, two = world.repository("one", 2), world.repository("two", 3)
    world.sync(one)
    world.sync(one, two)
    world.sync(two)
    assert [world.homes(number) for number in range(3)] == [{"two"}] * 3
    assert not world.sync(two).changed


def test_a_repository_that_is_down_keeps_its_names(world: World) -> None:
    """Another one has the image, too, but under another name."""
    one, two = world.repository("one", 1), world.repository("two", 1)
    theirs = f"{REGISTRY}/project/theirs:1"
    for place in (two, two / ".metadata"):
        (place / app(0)).rename(place / theirs)
    world.sync(one, two)
    names = set(world.content.names)
    assert app(0) in names
    one.rename(world.root / "away")
    for _ in range(2):
        assert not world.sync(one, two).changed
    assert set(world.content.names) == names


@pytest.mark.parametrize("policy", [DEFAULT_POLICY, BY_LAYERS])
def test_a_layer_comes_from_where_it_still_is(world: World, policy: Policy) -> None:
    """Another repository had it first, and has removed it with its own image."""
    one, two = world.repository("one", 1), world.repository("two", 2)
    theirs = f"{REGISTRY}/project/theirs:1"
    for place in (two, two / ".metadata"):
        (place / app(0)).rename(place / theirs)
    world.sync(one, policy=policy)
    world.sync(one, two, policy=policy)
    assert world.homes(1) == {"one", "two"}
    shutil.rmtree(one)
    make_repository(one, 3, layers=1, shared=0)
    for number in (0, 1):
        (one / app(number)).unlink()
        shutil.rmtree(one / ".metadata" / app(number))
    world.sync(one, two, policy=policy)
    assert world.homes(1) == {"two"}
    assert not verify(world.store.path).errors
    # What showed the image until now has lost its files, and so has no grace.
    world.sync(one, two, policy=policy)
    assert not any(each.repository == str(one) and each.retired for each in _layers(world))
    assert not world.sync(one, two, policy=policy).changed


def _layers(world: World) -> list[StoredLayer]:
    return list(world.content.layers.values())


def test_a_name_whose_image_fails_keeps_the_old_one_whichever_repository_has_it(
    world: World,
) -> None:
    """The image is taken from the first repository that has it, which has it by half."""
    one, two = world.repository("one", 1), world.repository("two", 2)
    new = (one / app(0)).readlink()
    for place in (two, two / ".metadata"):
        (place / app(0)).rename(world.root / f"moved-{place.name}")
    world.sync(two)
    old = world.image(1).image_id
    (two / app(1)).unlink()
    (two / app(1)).symlink_to(new)
    shutil.copy(world.root / "moved-.metadata/manifest.json", two / ".metadata" / app(1))
    (one / ".metadata" / app(0) / "manifest.json").unlink()
    report = world.sync(one, two)
    assert set(report.failed) == {app(0), app(1)}
    assert world.image(1).image_id == old


def test_a_repository_that_is_down_keeps_its_image_under_a_name_of_two(world: World) -> None:
    """It comes first; what the second one has under the name is another image."""
    one, two = world.repository("one", 1), world.repository("two", 2)
    (two / app(0)).unlink()
    (two / app(0)).symlink_to((two / app(1)).readlink())
    shutil.copy(two / ".metadata" / app(1) / "manifest.json", two / ".metadata" / app(0))
    world.sync(one, two)
    first = world.image(0).image_id
    one.rename(world.root / "away")
    assert not world.sync(one, two).moved
    assert world.image(0).image_id == first
    assert world.sync(one, two, hide_outage=True).moved == (app(0),)


def test_what_is_excluded_leaves_although_its_repository_is_down(world: World) -> None:
    one, two = world.repository("one", 2), world.repository("two", 1)
    (two / app(0)).rename(two / REGISTRY / "project/theirs:1")
    (two / ".metadata" / app(0)).rename(two / ".metadata" / REGISTRY / "project/theirs:1")
    world.sync(one, two)
    one.rename(world.root / "away")
    world.sync(one, two, without="*app1:*")
    assert app(0) in world.content.names and app(1) not in world.content.names


def test_an_image_is_not_lost_with_another_of_its_name(world: World) -> None:
    one, two = world.repository("one", 1), world.repository("two", 2)
    described = two / ".metadata" / app(0)
    shutil.rmtree(described)
    shutil.copytree(two / ".metadata" / app(1), described)
    (two / app(0)).unlink()
    (two / app(0)).symlink_to((two / app(1)).readlink())
    for path in two.glob(".metadata/*/project/*/manifest.json"):
        path.write_text("{")
    report = world.sync(one, two)
    assert app(1) in report.failed
    assert world.image(0).repository == str(one)


def test_images_that_moved_and_layers_that_stayed_are_sound(world: World) -> None:
    one, two = world.repository("one", 2), world.repository("two", 2)
    world.sync(one, two)
    world.sync(two, one)
    assert not verify(world.store.path).errors
