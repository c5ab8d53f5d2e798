# SPDX-License-Identifier: Apache-2.0
"""The whole of a sync on directories, with a registry played by a dictionary."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.errors import (
    InputError,
    RegistryBusy,
    RegistryError,
    RegistryUnreachable,
    RepositoryError,
    StoreError,
)
from podman_cvmfs.names.reference import ImageName
from podman_cvmfs.oci.documents import Digest, parse_manifest, render_manifest
from podman_cvmfs.plan.retirement import is_retired
from podman_cvmfs.repository.tree import Tree
from podman_cvmfs.store.reader import read_store
from podman_cvmfs.store.records import StoreContent, StoredImage
from podman_cvmfs.store.store import Store
from podman_cvmfs.sync.report import SyncReport
from podman_cvmfs.sync.request import Wishes
from podman_cvmfs.sync.run import sync
from podman_cvmfs.usage.layer_users import User
from podman_cvmfs.usage.needs import Needs
from podman_cvmfs.verify.store import verify
from tests.support.many import REGISTRY, make_repository
from tests.support.trees import snapshot

T = TypeVar("T")


def app(number: int) -> str:
    return f"{REGISTRY}/project/app{number}:{number}"


class Blobs:
    """A registry that has ``blobs`` and counts what it is asked for."""

    def __init__(self, blobs: dict[str, bytes], error: RegistryError | None = None) -> None:
        self.blobs = blobs
        self.error = error
        self.asked: list[str] = []
        self.asked_manifests: list[str] = []
        #: Tag or digest -> document.
        self.manifests: dict[str, bytes] = {}

    def hosts(self, name: ImageName) -> list[str]:
        return [name.registry]

    def blob(self, name: ImageName, digest: Digest) -> bytes:
        self.asked.append(str(name))
        if self.error:
            raise self.error
        if digest.hex not in self.blobs:
            raise RegistryError(f"{name}: no such blob")
        return self.blobs[digest.hex]

    def manifest(self, name: ImageName, reference: str | None = None) -> tuple[bytes, str]:
        self.asked_manifests.append(f"{name.registry}/{name.repository}:{reference}")
        if self.error:
            raise self.error
        if str(reference) not in self.manifests:
            raise RegistryError(f"{name}: no such image")
        return self.manifests[str(reference)], ""


class World:
    """A repository of four images, a store, and a cache, below one directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.repository = make_repository(root / "repository", 4, layers=3, shared=1)
        self.store = Store(str(root / "store"))

    def sync(
        self, *names: str, registry: Blobs | None = None, hide_outage: bool = False
    ) -> SyncReport:
        return sync(
            Wishes(
                repositories=[str(self.repository)],
                store=self.store,
                cache=BlobCache(str(self.root / "cache")),
                registry=None if registry is None else lambda: registry,
                requested=names,
                hide_outage=hide_outage,
            )
        )

    @property
    def content(self) -> StoreContent:
        return read_store(self.store.path) or StoreContent()

    @property
    def listed(self) -> set[str]:
        """The IDs of the images that have names."""
        return {key for key, each in self.content.images.items() if not is_retired(each)}

    @property
    def names(self) -> set[str]:
        """The names of images that aren't retired."""
        return {name for name, key in self.content.names.items() if key in self.listed}

    def take_configs(self) -> dict[str, bytes]:
        """Take the configs out of the repository; return them by image ID."""
        place = self.repository / "podmanStore/overlay-images"
        found = {path.parent.name: path.read_bytes() for path in place.glob("*/*")}
        shutil.rmtree(self.repository / "podmanStore")
        return found

    def link(self, number: int) -> Path:
        return self.repository / app(number)

    def flat(self, number: int) -> Path:
        return self.link(number).parent / os.readlink(self.link(number))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    before = os.umask(0o022)
    yield World(tmp_path)
    os.umask(before)


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
    assert world.names == kept
    assert not any(str(flat) in os.readlink(each) for each in _links(world))
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
    assert not report.failed and world.names == {app(n) for n in range(4)}
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
    with pytest.raises(RepositoryError, match="holds no image"):
        world.sync()
    assert snapshot(world.root / "store") == before


@pytest.mark.parametrize("wrong", [False, True])
def test_a_first_sync_from_what_is_no_repository_fails(world: World, wrong: bool) -> None:
    """A mount point without its file system, or another directory."""
    shutil.rmtree(world.repository)
    world.repository.mkdir()
    if wrong:
        (world.repository / "etc").mkdir()
    with pytest.raises(RepositoryError, match="holds no image"):
        world.sync()
    assert not (world.root / "store").exists()


def test_a_repository_without_images_yet_is_one(world: World) -> None:
    shutil.rmtree(world.repository)
    (world.repository / ".layers").mkdir(parents=True)
    assert world.sync().images == 0


def test_part_of_the_repository_that_cannot_be_read_keeps_its_images(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.sync()
    before = snapshot(world.root / "store")
    real = Tree.entries

    def entries(tree: Tree, relative: str, required: bool = False) -> Iterator[os.DirEntry[str]]:
        if relative == f"{REGISTRY}/project":
            raise RepositoryError(f"can't read {relative}: Input/output error")
        return real(tree, relative, required)

    (world.repository / "quay.io").mkdir()
    (world.repository / "quay.io/new:1").symlink_to(os.readlink(world.link(1))[3:])
    monkeypatch.setattr(Tree, "entries", entries)
    report = world.sync()
    assert f"{REGISTRY}/project" in report.failed
    assert {app(n) for n in range(4)} <= set(world.content.names)
    assert (
        snapshot(world.root / "store/pool").items()
        >= {path[5:]: value for path, value in before.items() if path.startswith("pool/")}.items()
    )


def test_configs_come_from_the_registry_once(world: World) -> None:
    registry = Blobs(world.take_configs())
    report = world.sync(registry=registry)
    assert len(registry.asked) == 4 and not report.synthesised
    assert {image.config_origin for image in world.content.images.values()} == {"registry"}
    world.sync(registry=registry)
    shutil.rmtree(world.root / "store")
    world.sync(registry=registry)
    assert len(registry.asked) == 4
    assert {image.config_origin for image in world.content.images.values()} == {"cache"}


def test_a_wrong_config_is_never_taken(world: World) -> None:
    place = world.repository / "podmanStore/overlay-images"
    for path in place.glob("*/*"):
        path.write_bytes(path.read_bytes() + b" ")
    report = world.sync()
    assert len(report.failed) == 4
    assert not world.content.images


def _singularity(flat: Path) -> None:
    (flat / ".singularity.d/env").mkdir(parents=True)
    (flat / ".singularity.d/env/10-docker2singularity.sh").write_text('export PATH="/bin"\n')
    (flat / ".singularity.d/runscript").write_text("OCI_ENTRYPOINT=''\nOCI_CMD='\"sh\"'\n")


def test_a_lost_config_is_synthesised_until_the_registry_has_it(world: World) -> None:
    configs = world.take_configs()
    for number in range(4):
        _singularity(world.flat(number))
    report = world.sync()
    assert report.synthesised == 4 and not report.failed
    synthesised = set(world.content.images)
    assert not synthesised & set(configs), "a made-up config has an ID of its own"
    before = snapshot(world.root / "store")
    world.sync()
    assert snapshot(world.root / "store") == before
    dead = Blobs({}, RegistryUnreachable(f"{REGISTRY}: connection refused"))
    report = world.sync(registry=dead)
    assert len(dead.asked + dead.asked_manifests) == 1, "a dead registry is asked once a run"
    assert report.synthesised == 4 and not report.changed
    report = world.sync(registry=Blobs(configs))
    assert not report.synthesised and world.listed == set(configs)
    assert len(report.moved) == 4


def test_a_config_that_nobody_has(world: World) -> None:
    world.take_configs()
    report = world.sync(registry=Blobs({}))
    message = report.failed[app(0)].message
    assert app(0) in message and "no such blob" in message and "runscript" not in message
    assert "10-docker2singularity.sh is missing" in message


def test_layers_and_config_that_disagree(world: World) -> None:
    config = next((world.repository / "podmanStore/overlay-images").glob("*/*"))
    image_id = config.parent.name
    number = next(n for n in range(4) if os.readlink(world.link(n)).endswith(image_id))
    path = world.repository / f".metadata/{app(number)}/manifest.json"
    manifest = json.loads(path.read_text())
    top = manifest["Layers"][-1]["Digest"][7:]
    description = world.repository / f".layers/{top[:2]}/{top}/.metadata/layers.json"
    description.write_text(description.read_text().replace('"sha256:', '"sha256:' + "0" * 5, 2))
    assert app(number) in world.sync().failed
    facts = [{"diff-digest": "sha256:" + "0" * 64, "diff-size": 1}]
    description.write_text(json.dumps(facts))
    assert "in layers.json, but" in world.sync().failed[app(number)].message
    manifest["Layers"].pop()
    path.write_text(json.dumps(manifest))
    assert "has 2 layers, its config 3" in world.sync().failed[app(number)].message


def test_without_merged_root_only_what_can_be_shown_right(world: World) -> None:
    shutil.rmtree(world.flat(1))
    shutil.rmtree(world.flat(2))
    layers = world.repository / ".layers"
    manifest = json.loads((world.repository / f".metadata/{app(2)}/manifest.json").read_text())
    digest = manifest["Layers"][1]["Digest"][7:]
    shutil.rmtree(layers / digest[:2] / digest)
    report = world.sync()
    assert list(report.failed) == [app(2)]
    assert "1 of its 3 layers are missing" in report.failed[app(2)].message
    views = {image.published[0]: image.view for image in world.content.images.values()}
    assert views == {app(0): "flat", app(1): "layers", app(3): "flat"}


def test_a_cache_that_cannot_be_written_is_an_error(world: World) -> None:
    configs = world.take_configs()
    (world.root / "cache").write_text("a file")
    with pytest.raises(StoreError, match="can't write to the cache"):
        world.sync(registry=Blobs(configs))
    assert not (world.root / "store").exists()


def test_images_of_a_repository_that_is_down_can_be_hidden(world: World) -> None:
    world.sync()
    names = set(world.content.names)
    world.repository.rename(world.root / "away")
    before = snapshot(world.root / "store")
    with pytest.raises(RepositoryError, match="no such repository"):
        world.sync()
    assert snapshot(world.root / "store") == before
    report = world.sync(hide_outage=True)
    assert str(world.repository) in report.failed
    content = world.content
    assert not content.names and not content.layers, "pulls must not find what can't be read"
    assert content.retired_entries, "running containers may have it mounted"
    assert not world.sync(hide_outage=True).changed
    (world.root / "away").rename(world.repository)
    report = world.sync(hide_outage=True)
    assert set(report.added) == names and not report.failed


@pytest.mark.parametrize("blocked", [False, True])
def test_who_keeps_layers_of_a_hidden_repository_is_named(
    world: World, monkeypatch: pytest.MonkeyPatch, blocked: bool
) -> None:
    """podman takes such layers for those of an image that it pulls, and can't mount them."""
    world.sync()
    top = world.content.images[world.content.names[app(1)]].top_layer
    assert top is not None
    users = tuple(User("/graph", "container", f"c{number}") for number in range(7))
    needs = Needs({top: users}, ("/graph",), ("/x.conf",) if blocked else (), {"/x.conf": "bad"})
    monkeypatch.setattr("podman_cvmfs.sync.run.find_needs", lambda _: needs)
    assert not world.sync(hide_outage=True).warnings
    world.repository.rename(world.root / "away")
    for _ in range(2):
        *obstacles, warning = world.sync(hide_outage=True).warnings
        assert f"layers of {world.repository} stay in the store" in warning
        assert "container c0 in /graph" in warning and "c4 in /graph and 2 more" in warning
        assert len(obstacles) == blocked
        assert all("while /x.conf can't be read: bad" in each for each in obstacles)
        assert top in world.content.layers
    (world.root / "away").rename(world.repository)
    assert not world.sync(hide_outage=True).warnings


def test_a_repository_whose_path_is_no_text(world: World) -> None:
    world.repository = world.repository.rename(world.root / os.fsdecode(b"odd-\xff"))
    assert world.sync().changed
    assert {image.repository for image in world.content.images.values()} == {str(world.repository)}
    assert not world.sync().changed


def test_two_repositories_with_one_name(world: World, tmp_path: Path) -> None:
    other = make_repository(tmp_path / "other", 5, layers=2, shared=1)

    def sync_both(*repositories: Path) -> SyncReport:
        cache = BlobCache(str(world.root / "cache"))
        return sync(Wishes([str(each) for each in repositories], world.store, cache))

    sync_both(world.repository, other)
    images = {image.published[0]: image.repository for image in world.content.images.values()}
    assert images == {
        **{app(n): str(world.repository) for n in range(4)},
        app(4): str(other),
    }
    before = world.content.names
    report = sync_both(other, world.repository)
    assert set(report.moved) == {app(n) for n in range(4)}
    assert world.names == set(before)
    shutil.rmtree(other)
    report = sync_both(other, world.repository)
    assert str(other) in report.failed
    assert world.names == set(before), "a repository that is down keeps its images"


def _genuine(world: World, number: int) -> bytes:
    """A manifest as a registry has it: other white space and an annotation."""
    path = world.repository / f".metadata/{app(number)}/manifest.json"
    manifest = parse_manifest(path.read_bytes())
    document = json.loads(render_manifest(manifest))
    return json.dumps({**document, "annotations": {"a": "b"}}, indent=3).encode()


def _stored(world: World, name: str) -> StoredImage:
    return world.content.images[world.content.names[name]]


def test_genuine_manifests_are_kept_byte_for_byte(world: World) -> None:
    registry = Blobs({})
    manifest, moved = _genuine(world, 1), _genuine(world, 2)
    index = json.dumps(
        {
            "schemaVersion": 2,
            "manifests": [
                {
                    "digest": str(Digest.of(_genuine(world, 3))),
                    "size": 1,
                    "platform": {"os": "linux", "architecture": "amd64"},
                }
            ],
        }
    ).encode()
    registry.manifests = {
        "0": moved,  # this tag leads to another image by now
        "1": manifest,
        "3": index,
        str(Digest.of(_genuine(world, 3))): _genuine(world, 3),
    }
    report = world.sync(registry=registry)
    assert not report.failed and not registry.asked, "configs are in the repository"
    assert len(registry.asked_manifests) == 5, "one each, and one more for the index"
    assert _stored(world, app(1)).manifest_digest == str(Digest.of(manifest))
    assert _stored(world, app(3)).manifest_digest == str(Digest.of(_genuine(world, 3)))
    assert _stored(world, app(3)).index_digest == str(Digest.of(index))
    origins = {name: _stored(world, name).manifest_origin for name in world.content.names}
    assert origins == {app(0): "rebuilt", app(1): "genuine", app(2): "rebuilt", app(3): "genuine"}
    images = world.root / "store/overlay-images"
    assert (images / _stored(world, app(1)).image_id / "manifest").read_bytes() == manifest
    before = snapshot(world.root / "store")
    shutil.rmtree(world.root / "store")
    world.sync()
    digests = {name: _stored(world, name).manifest_digest for name in (app(1), app(3))}
    assert digests[app(1)] == str(Digest.of(manifest)), "from the cache, with no registry"
    assert digests[app(3)] == str(Digest.of(_genuine(world, 3)))
    world.sync(registry=registry)
    assert len(registry.asked_manifests) == 5, "nothing is asked for in the steady state"
    assert {path for path in before if path.startswith("pool/images")} == {
        path for path in snapshot(world.root / "store") if path.startswith("pool/images")
    }


@pytest.mark.parametrize("kind", [RegistryBusy, RegistryUnreachable])
def test_a_manifest_that_the_registry_did_not_answer_for_is_asked_for_again(
    world: World, kind: type[RegistryError]
) -> None:
    """Its config is had, so nothing else would bring the image up again."""
    names = {app(number) for number in range(4)}
    report = world.sync(registry=Blobs({}, kind(f"{REGISTRY}: not now")))
    assert report.synthesised == 0 and not report.failed
    assert report.waiting.keys() == report.silent.keys() == {REGISTRY}
    assert set(report.waiting[REGISTRY]) == names
    assert {_stored(world, name).manifest_origin for name in names} == {"unanswered"}
    assert not verify(world.store.path).findings
    registry = Blobs({})
    registry.manifests = {"1": _genuine(world, 1)}
    report = world.sync(registry=registry)
    assert not report.waiting and report.changed
    assert len(registry.asked_manifests) == 4
    origins = {name: _stored(world, name).manifest_origin for name in names}
    assert origins == {app(1): "genuine", **dict.fromkeys(names - {app(1)}, "rebuilt")}
    world.sync(registry=registry)
    assert len(registry.asked_manifests) == 4, "what nobody has isn't asked for again"


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
    assert world.names == {app(1)}


@pytest.mark.parametrize("after", range(12))
def test_a_repository_unmounted_while_it_is_listed_loses_no_image(
    world: World, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """From some call on everything is absent, as below an empty mount point."""
    world.sync()
    names = set(world.content.names)
    left = after

    def counted(call: Callable[..., T]) -> Callable[..., T]:
        def wrapper(path: str, *args: object, **kwargs: object) -> T:
            nonlocal left
            if str(world.repository) in str(path):
                left -= 1
                if left < 0:
                    raise FileNotFoundError(2, os.strerror(2), path)
            return call(path, *args, **kwargs)

        return wrapper

    for name in ("scandir", "readlink", "lstat", "open", "listdir"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    with contextlib.suppress(RepositoryError):
        world.sync()
    monkeypatch.undo()
    assert set(world.content.names) == names
