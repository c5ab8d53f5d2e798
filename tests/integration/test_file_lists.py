# SPDX-License-Identifier: Apache-2.0
"""File lists of layers on a mount as CernVM-FS's client shows it, by catalogues and without."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.lists import source
from podman_cvmfs.lists.catalogues import Catalogues
from podman_cvmfs.lists.entry import Entry
from podman_cvmfs.lists.kept import KeptLists, Source
from podman_cvmfs.lists.maker import ListMaker
from podman_cvmfs.lists.source import ListSource
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.registry.objects import ObjectClient
from podman_cvmfs.repository.layout import LAYERFS, flat_directory, layer_directory
from podman_cvmfs.repository.served import open_tree
from podman_cvmfs.repository.whiteouts import scan
from podman_cvmfs.settings.policy import Policy, View
from podman_cvmfs.store.reader import read_store
from podman_cvmfs.store.store import Store
from podman_cvmfs.sync.request import SyncRequest
from podman_cvmfs.sync.run import sync
from tests.support.blobs import Blobs
from tests.support.catalogues import Server
from tests.support.cli import podman_cvmfs, succeed
from tests.support.ducc_losses import lossy_copy
from tests.support.images import IMAGES, LAYERS, build, push
from tests.support.layers import Blob, pack
from tests.support.memory_images import Images, put
from tests.support.mounted import Mounted, mounted
from tests.support.registry import Registry
from tests.support.unpacked_layer import listed

pytestmark = pytest.mark.usefixtures("as_root")

_NAMES = ("base", "app", "odd-names", "links", "modes", "delete", "opaque", "turn")
#: What neither layers nor merged roots have kept, and what upper layers have replaced.
_REPLACED = {"var/lib/data/b", "usr/share/kind", "usr/share/thing"}


@dataclass
class Site:
    """A repository that DUCC could have written, and an image in it."""

    repository: Path
    blobs: dict[str, Blob]
    merged: str
    registry: Blobs


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    place = tmp_path_factory.mktemp("lists")
    blobs = {name: pack(LAYERS[name]) for name in _NAMES}
    images = Images()
    image = images.of_blobs("registry.example.org/t/all:1", [*blobs.values()])
    put(place / "exact", images, image)
    lossy_copy(place / "exact", place / "lossy")
    registry = Blobs({digest.hex: data for digest, data in images.blobs.items()})
    registry.blobs[image.config.digest.hex] = image.config.raw
    return Site(place / "lossy", blobs, flat_directory(image.config.digest.hex), registry)


@pytest.fixture
def client(site: Site, tmp_path: Path) -> Iterator[Mounted]:
    with mounted(site.repository, tmp_path / "mount", tmp_path / "client") as found:
        yield found


def _source(client: Mounted, tmp_path: Path, kept: KeptLists | None = None) -> ListSource:
    cache = str(tmp_path / "cache")
    tree = open_tree(str(client.mountpoint))
    catalogues = Catalogues(cache, ObjectClient(timeout=5))
    return ListSource(tree, kept or KeptLists(cache, 1 << 30), catalogues)


def _lost(entry: Entry) -> Entry:
    """An entry without what DUCC loses everywhere: attributes, and parts of seconds."""
    xattrs = tuple(each for each in entry.xattrs if each[0] == "trusted.overlay.opaque")
    return entry._replace(xattrs=xattrs, mtime_ns=entry.mtime_ns // 10**9 * 10**9)


def _told(site: Site, name: str) -> dict[str, Entry]:
    """The list of a layer as it is by its tar, without what DUCC loses everywhere."""
    entries = {each.path: each for each in listed(site.blobs[name])[0]}
    found = {}
    for path, entry in entries.items():
        if entry.hardlink is not None:
            first = entries[entry.hardlink]
            backing = path if first.backing else None
            entry = Entry(*(*entry[:7], first.target, backing, None, ()))
        found[path] = _lost(entry)
    return found


@pytest.mark.parametrize("name", _NAMES)
def test_catalogues_tell_layers_as_their_tars_do(
    name: str, site: Site, client: Mounted, tmp_path: Path
) -> None:
    kept = KeptLists(str(tmp_path / "cache"), 1 << 30)
    layer = Digest.parse(site.blobs[name].digest)
    found = _source(client, tmp_path, kept).find(layer, site.merged)
    assert found is not None and found[0] is Source.CATALOGUE
    seen = {each.path: each for each in kept.entries(found[1])}
    wanted = _told(site, name)
    assert seen.keys() == wanted.keys()
    for path in wanted.keys() - _REPLACED - {""}:
        entry = wanted[path]
        if entry.is_directory and not entry.mtime_ns:
            entry = Entry(*(*entry[:5], seen[path].mtime_ns, *entry[6:]))
        assert seen[path] == entry, path
    assert kept.find(str(client.mountpoint), layer) == found[1]
    assert kept.find("/elsewhere", layer) is None


def test_markers_by_catalogues_are_those_of_the_files(
    site: Site, client: Mounted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = open_tree(str(client.mountpoint))
    layers = [Digest.parse(blob.digest) for blob in site.blobs.values()]
    # These are quickly listed.
    assert {_source(client, tmp_path).markers(layer) for layer in layers} == {None}
    monkeypatch.setattr(source, "_FEW_DIRECTORIES", 0)
    by_catalogues = _source(client, tmp_path)
    for layer in layers:
        found = by_catalogues.markers(layer)
        assert found == scan(tree.at(f"{layer_directory(layer.hex)}/{LAYERFS}")), layer


def test_a_list_costs_few_requests_and_nothing_the_next_time(
    site: Site, client: Mounted, tmp_path: Path
) -> None:
    layer = Digest.parse(site.blobs["base"].digest)
    before = client.counts()
    first = _source(client, tmp_path).find(layer, site.merged)
    after = client.counts()
    # Its own catalogue, and the merged root's.
    assert after.get("object", 0) - before.get("object", 0) == 2
    assert after.get("readdir", 0) - before.get("readdir", 0) <= 1  # of the mount point
    assert _source(client, tmp_path).find(layer, site.merged) == first
    assert client.counts().get("object") == after.get("object")


def test_catalogues_come_through_the_clients_proxy(site: Site, tmp_path: Path) -> None:
    proxy = Server(lambda name: None)
    try:
        with mounted(
            site.repository, tmp_path / "mount", tmp_path / "client", proxy=proxy.address
        ) as client:
            layer = Digest.parse(site.blobs["app"].digest)
            found = _source(client, tmp_path).find(layer, site.merged)
            assert found is not None and found[0] is Source.SHOWN
            asked = proxy.asked[0]
            assert asked.startswith("http://127.0.0.1:") and asked.endswith("C")
            assert client.counts().get("object", 0) == 0
    finally:
        proxy.close()


def test_a_catalogue_with_another_hash_is_not_used(site: Site, tmp_path: Path) -> None:
    other = Server(lambda name: b"another file")
    try:
        with mounted(
            site.repository, tmp_path / "mount", tmp_path / "client", host=other.address
        ) as client:
            layer = Digest.parse(site.blobs["app"].digest)
            found = _source(client, tmp_path).find(layer, site.merged)
    finally:
        other.close()
    assert other.asked and found is not None and found[0] is Source.SHOWN
    assert not (tmp_path / "cache/catalogues").exists()


@pytest.mark.parametrize("options", [{"attributes": False}, {"host": "http://127.0.0.1:1"}])
def test_without_catalogues_the_files_are_asked(
    options: dict[str, object], site: Site, tmp_path: Path
) -> None:
    kept = KeptLists(str(tmp_path / "cache"), 1 << 30)
    with mounted(site.repository, tmp_path / "m", tmp_path / "client", **options) as client:
        layer = Digest.parse(site.blobs["delete"].digest)
        found = _source(client, tmp_path, kept).find(layer, site.merged)
    assert found is not None and found[0] is Source.SHOWN
    # Its owners are not the image's.
    assert kept.find(str(client.mountpoint), layer) is None
    seen = {each.path: each for each in kept.entries(found[1])}
    assert seen.keys() == _told(site, "delete").keys()
    assert seen["var/lib/data/a"].is_whiteout
    changed = seen["var/lib/data/b"]
    assert (changed.uid, stat.S_IMODE(changed.mode)) == (999, 0o644)


def test_a_published_list_comes_first(site: Site, client: Mounted, tmp_path: Path) -> None:
    """And a broken one is passed over."""
    kept = KeptLists(str(tmp_path / "cache"), 1 << 30)
    layer = Digest.parse(site.blobs["opaque"].digest)
    entries, _ = listed(site.blobs["opaque"])
    digest = kept.keep("/elsewhere", layer, entries, Source.PUBLISHED)
    data = (tmp_path / f"cache/lists/{digest[:2]}/{digest}").read_bytes()
    place = site.repository / layer_directory(layer.hex) / ".metadata/files.dump.zst"
    try:
        for written, kind in ((b"broken", Source.CATALOGUE), (data, Source.PUBLISHED)):
            place.write_bytes(written)
            with mounted(site.repository, tmp_path / "m", tmp_path / "client") as fresh:
                other = KeptLists(str(tmp_path / f"cache-{kind.value}"), 1 << 30)
                found = _source(fresh, tmp_path, other).find(layer, site.merged)
            assert found is not None and found[0] is kind
            assert (found[1] == digest) == (kind is Source.PUBLISHED)
    finally:
        place.unlink()


def _synced(
    site: Site, client: Mounted, tmp_path: Path, policy: Policy, asks_registries: bool = False
) -> tuple[str, KeptLists]:
    """The view of the image after a sync, and the lists that it kept."""
    kept = KeptLists(str(tmp_path / "cache"), 1 << 30)
    store = tmp_path / "store"
    report = sync(
        SyncRequest(
            repositories=[str(client.mountpoint)],
            store=Store(str(store), lists=kept),
            cache=BlobCache(str(tmp_path / "cache")),
            registry=lambda: site.registry,
            requested=["registry.example.org/t/all:1"],
            policy=policy,
            maker=ListMaker(kept, asks_registries=asks_registries),
        )
    )
    assert not report.failed
    content = read_store(str(store))
    assert content is not None
    (image,) = content.images.values()
    return image.view, kept


def test_better_lists_are_used_by_the_next_sync(
    site: Site, client: Mounted, tmp_path: Path
) -> None:
    def pieces() -> set[str]:
        content = read_store(str(tmp_path / "store"))
        assert content is not None
        (image,) = content.images.values()
        assert image.view == View.EXACT.value and image.top_layer is not None
        return set(content.layers[image.top_layer].lowers or ())

    _, kept = _synced(site, client, tmp_path, Policy(exact=True))
    before = pieces()
    _synced(site, client, tmp_path, Policy(exact=True))
    assert pieces() == before
    for blob in site.blobs.values():
        kept.keep("", Digest.parse(blob.digest), listed(blob)[0], Source.REGISTRY)
    _synced(site, client, tmp_path, Policy(exact=True))
    # These have attributes or hard links, or directories that no layer lists.
    assert len(pieces() - before) > 2


@pytest.mark.parametrize("kind", [Source.CATALOGUE, Source.REGISTRY])
def test_a_sync_makes_the_lists_that_it_needs(
    kind: Source, site: Site, client: Mounted, tmp_path: Path
) -> None:
    view, kept = _synced(site, client, tmp_path, Policy(exact=True), kind is Source.REGISTRY)
    assert view == View.EXACT.value
    for name, blob in site.blobs.items():
        note = kept.note(str(client.mountpoint), Digest.parse(blob.digest))
        assert note is not None and note[0] is kind, name
        split = kept.tar_split(Digest.parse(blob.diff_id))
        assert split == (listed(blob)[1] if kind is Source.REGISTRY else None)


def test_no_image_is_shown_by_what_a_client_shows_of_its_layers(site: Site, tmp_path: Path) -> None:
    """The merged root may have the owners that they have lost."""
    with mounted(site.repository, tmp_path / "m", tmp_path / "client", attributes=False) as client:
        view, kept = _synced(site, client, tmp_path, Policy(exact=True))
        layer = Digest.parse(site.blobs["app"].digest)
        note = kept.note(str(client.mountpoint), layer)
        assert note is not None and note[0] is Source.SHOWN
        assert kept.find(str(client.mountpoint), layer) is None
    assert view != View.EXACT.value


def test_whiteouts_need_no_listing_of_directories(
    site: Site, client: Mounted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "_FEW_DIRECTORIES", 0)
    view, _ = _synced(site, client, tmp_path, Policy(View.LAYERS))
    assert view == View.LAYERS.value
    assert client.counts()["object"] == len(site.blobs)
    # Skeletons look into a few directories.
    assert client.counts()["readdir"] < 40


def test_the_command_fetches_each_layer_once(registry: Registry, tmp_path: Path) -> None:
    built = build(IMAGES[1])
    name = push(built, registry)
    repository, cache = tmp_path / "repository", tmp_path / "cache"
    places = ["--store", str(tmp_path / "store"), "--cache", str(cache)]
    succeed("publish", f"http://{name}", "--repository", repository)
    succeed("sync", "--repository", repository, *places)
    counts = []
    for _ in range(2):
        before = len(registry.requests())
        done = json.loads(succeed("lists", name, *places, "--format", "json"))
        counts.append(len(registry.requests()) - before)
    assert counts == [len(built.blobs), 0]
    (image,) = done
    kept = KeptLists(str(cache), 1 << 30)
    for layer, blob in zip(image["layers"], built.blobs):
        entries, split = listed(blob)
        assert layer["layer"] == blob.digest and layer["files"] == len(entries)
        assert [*kept.entries(layer["list"])] == entries
        assert kept.tar_split(Digest.parse(blob.diff_id)) == split
    status = json.loads(succeed("status", *places, "--format", "json"))
    assert status["lists"] == {"bytes": kept.size(), "budget": 10 << 30}
    assert "file lists   1 MB of 10738 MB allowed" in succeed("status", *places)
    assert podman_cvmfs("lists", "registry.example.org/no:1", *places).returncode == 3


def test_verify_finds_files_that_a_merged_root_has_lost(site: Site, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    subprocess.run(["cp", "-a", site.repository, repository], check=True)
    places = ["--store", str(tmp_path / "store"), "--cache", str(tmp_path / "cache")]
    command = ["verify", *places, "--merged-roots", "--format", "json"]
    with mounted(repository, tmp_path / "mount", tmp_path / "client") as client:
        own = ["--repository", str(client.mountpoint), "--view", "flat", "--offline"]
        succeed("sync", *own, *places)
        assert json.loads(succeed(*command))["findings"] == []
    (repository / site.merged / "opt/app/run").unlink()
    shutil.rmtree(repository / site.merged / "usr/share/kind")
    with mounted(repository, tmp_path / "mount", tmp_path / "client", attributes=False):
        (found,) = json.loads(succeed(*command))["findings"]
    assert (found["kind"], found["severity"]) == ("lost-files", "warning")
    said = "lacks 2 files that the image's layers have: opt/app/run, usr/share/kind"
    assert found["what"] == said
