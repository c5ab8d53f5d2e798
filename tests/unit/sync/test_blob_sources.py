# SPDX-License-Identifier: Apache-2.0
"""One node asks the registry. The others ask the site's blob source, and no registry."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.cache.export_tree import export_tree
from podman_cvmfs.cache.sources import BlobSources
from podman_cvmfs.errors import NotInRegistry, RegistryError
from podman_cvmfs.oci.big_data import big_data_file
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.registry.web import WebClient
from podman_cvmfs.settings.files import Settings
from podman_cvmfs.store.store import Store
from podman_cvmfs.sync.from_settings import request_of
from podman_cvmfs.sync.new_stamp import Stamp, keep_stamps
from podman_cvmfs.sync.report import SyncReport
from podman_cvmfs.sync.request import SyncRequest
from podman_cvmfs.sync.run import sync
from podman_cvmfs.sync.stamp import stamp_path
from tests.support.blobs import Blobs
from tests.support.cli import podman_cvmfs, succeed
from tests.support.http import Handler, Server, give, in_turn
from tests.support.settled import age
from tests.support.world import World, app

pytestmark = pytest.mark.usefixtures("four_images")


def index_of(manifest: bytes) -> bytes:
    platform = {"os": "linux", "architecture": "amd64"}
    child = {"digest": str(Digest.of(manifest)), "size": 1, "platform": platform}
    return json.dumps({"schemaVersion": 2, "manifests": [child]}).encode()


def registry_of(world: World) -> Blobs:
    """A registry with the configs of all images, and the manifests of all except the last one."""
    registry = Blobs(world.take_configs())
    registry.manifests = {str(number): world.genuine(number) for number in range(2)}
    of_two = world.genuine(2)
    registry.manifests.update({"2": index_of(of_two), str(Digest.of(of_two)): of_two})
    return registry


def files_of(root: Path) -> Callable[[Handler], None]:
    """Answers as a plain web server does for the directory ``root``."""

    def answer(handler: Handler) -> None:
        path = root / handler.path.partition("/blobs/")[2]
        if path.is_file():
            handler.reply(200, path.read_bytes())
        else:
            handler.reply(404)

    return answer


class Node:
    """A host of its own, with a store and a cache, which asks no registry."""

    def __init__(self, world: World, name: str, *places: str) -> None:
        root = world.root / name
        self.sources = BlobSources(places, lambda: WebClient(2.0, 0, 1.0))
        self.world = world
        self.store = Store(str(root / "store"))
        self.cache = BlobCache(str(root / "cache"), self.sources)

    def sync(self) -> SyncReport:
        request = self.world.request()
        changed = {**vars(request), "store": self.store, "cache": self.cache, "registry": None}
        return sync(SyncRequest(**changed))

    def origins(self) -> dict[str, tuple[str, str]]:
        with self.store.opened() as content:
            return {
                name: (image.config_origin, image.manifest_origin)
                for image in content.images.values()
                for name in image.published
            }


@pytest.mark.parametrize("kind", ["http", "path"])
def test_the_second_node_asks_no_registry(world: World, server: Server, kind: str) -> None:
    registry = registry_of(world)
    first = world.sync(registry=registry)
    assert not first.failed
    asked = len(registry.asked) + len(registry.asked_manifests)
    succeed(
        *("cache", "export", "--directory", world.root / "blobs"),
        *("--cache", world.root / "cache"),
    )
    server.answers["/blobs/"] = files_of(world.root / "blobs")
    places = {"http": f"http://{server.address}/blobs/", "path": f"{world.root}/blobs"}
    node = Node(world, "second", places[kind])
    report = node.sync()
    assert not report.failed and not report.synthesised and not report.unanswered
    assert node.origins() == {
        **{app(number): ("cache", "genuine") for number in range(3)},
        # The first node knows that its tag leads elsewhere by now, and says so.
        app(3): ("cache", "rebuilt"),
    }
    assert len(registry.asked) + len(registry.asked_manifests) == asked
    if kind == "http":
        # Each image: its config, a note and a manifest; one has an index; one has no manifest.
        assert len(server.requests) == 4 + 4 + 3 + 1
    before = len(server.requests)
    node.sync()
    assert len(server.requests) == before, "nothing is asked for in the steady state"
    with node.store.opened() as second, world.store.opened() as original:
        assert second.images.keys() == original.images.keys()


def test_what_the_source_gets_later_is_asked_for_again(world: World) -> None:
    """The node of a site that syncs first may be the one that asks the source."""
    registry = registry_of(world)
    for image, config in registry.blobs.items():
        place = world.repository / "podmanStore/overlay-images" / image
        place.mkdir(parents=True)
        (place / big_data_file(f"sha256:{image}")).write_bytes(config)
    (world.root / "blobs").mkdir()
    node = Node(world, "second", f"{world.root}/blobs")
    report = node.sync()
    assert not report.failed and report.unanswered == 4
    world.sync(registry=registry)
    export_tree(BlobCache(str(world.root / "cache")), f"{world.root}/blobs")
    report = node.sync()
    assert report.unanswered == 0
    assert {origin for _, origin in node.origins().values()} == {"genuine", "rebuilt"}


def test_a_source_is_not_trusted(world: World, caplog: pytest.LogCaptureFixture) -> None:
    registry = registry_of(world)
    world.sync(registry=registry)
    cache, blobs = BlobCache(str(world.root / "cache")), world.root / "blobs"
    export_tree(cache, str(blobs))
    images = {number: world.stored(app(number)).source_id for number in range(3)}
    # A config with another content, another image's manifest, and an index that lists another one.
    config = blobs / f"sha256/{images[0][:2]}/{images[0]}"
    config.write_bytes(config.read_bytes() + b" ")
    notes = {n: blobs / f"manifests/{image[:2]}/{image}" for n, image in images.items()}
    index = notes[2].read_text().splitlines()[1]
    notes[1].write_text(f"{notes[2].read_text().splitlines()[0]}\n")
    notes[0].write_text(f"{notes[0].read_text().splitlines()[0]}\n{index}\n")
    (world.flat(0) / ".singularity.d").mkdir()
    node = Node(world, "second", str(blobs))
    report = node.sync()
    assert app(0) in report.failed, "its config is not to be had, and none can be made up"
    assert "another content under the digest" in caplog.text
    assert node.origins()[app(1)] == ("cache", "unanswered")
    cache.put(config.read_bytes()[:-1])
    export_tree(cache, str(blobs))
    notes[0].write_text(f"{notes[0].read_text().splitlines()[0]}\n{index}\n")
    assert not node.sync().failed
    with node.store.opened() as content:
        of_first = content.images[content.names[app(0)]]
        assert (of_first.manifest_origin, of_first.index_digest) == ("genuine", None)


def test_a_source_that_is_down_is_said_once(
    world: World, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    address = f"http://{server.address}"
    server.shutdown()
    server.server_close()
    node = Node(world, "second", f"{address}/blobs", f"{world.root}/missing")
    report = node.sync()
    assert not report.failed and report.unanswered == 4
    assert caplog.text.count("can't reach") == 1
    assert caplog.text.count(f"the blob source {world.root}/missing is not there") == 1


def test_a_source_whose_files_all_come_to_a_halt_costs_its_time_a_few_times(
    world: World, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    over = threading.Event()

    def stall(handler: Handler) -> None:
        handler.close_connection = True
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\nabc")
        over.wait(5)

    server.answers["/"] = stall
    source = BlobSources([f"http://{server.address}"], lambda: WebClient(0.1, 0, 1.0))
    try:
        for number in range(8):
            assert source.blob(Digest(f"{number}" * 64)) is None
    finally:
        over.set()
    assert len(server.requests) == 3
    assert "doesn't come in time" in caplog.text


def test_a_source_whose_files_come_to_a_halt_now_and_then_stays_in_use(
    world: World, server: Server
) -> None:
    def stall(handler: Handler) -> None:
        handler.close_connection = True
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
        time.sleep(0.3)

    server.answers["/"] = in_turn(stall, stall, give(b"", 404), stall, stall, give(b"good"))
    source = BlobSources([f"http://{server.address}"], lambda: WebClient(0.1, 0, 1.0))
    for number in range(5):
        assert source.blob(Digest(f"{number}" * 64)) is None
    assert source.blob(Digest.of(b"good")) == b"good"


@pytest.mark.parametrize("is_refused", [True, False])
def test_a_manifest_is_noted_as_lost_only_if_the_registry_does_not_have_it(
    world: World, is_refused: bool
) -> None:
    """A refusal depends on the login, and other hosts may have another one."""
    kind = RegistryError if is_refused else NotInRegistry
    report = world.sync(registry=Blobs({}, kind("it denies access, or doesn't have it")))
    assert not report.failed and not report.unanswered
    notes = [each for each in (world.root / "cache/manifests").rglob("*") if each.is_file()]
    assert len(notes) == (0 if is_refused else 4)
    assert world.stored(app(0)).manifest_origin == "rebuilt"


def test_registries_are_asked_for_what_no_source_has(world: World) -> None:
    registry = registry_of(world)
    (world.root / "blobs").mkdir()
    request = world.request(registry=registry)
    cache = BlobCache(str(world.root / "cache"), BlobSources([f"{world.root}/blobs"]))
    report = sync(SyncRequest(**{**vars(request), "cache": cache}))
    assert not report.failed and len(registry.asked) == 4


def test_settings_name_sources(world: World) -> None:
    places = (f"{world.root}/blobs", "https://www.example.org/blobs")
    settings = Settings(
        blob_sources=places, store=f"{world.root}/s", cache=f"{world.root}/c", offline=True
    )
    request, _ = request_of(settings, ())
    assert request.cache.sources.places == places and request.registry is None


def test_the_next_sync_looks_again_soon(world: World) -> None:
    age(world.repository)
    store, cache = f"{world.root}/store", f"{world.root}/cache"
    world.sync()
    for places, unanswered, seconds in (((), 1, None), (("/b",), 0, None), (("/b",), 1, 900)):
        settings = Settings(blob_sources=places, store=store, cache=cache)
        stamps = [Stamp(str(world.repository))]
        assert not keep_stamps(stamps, settings, "all", SyncReport(unanswered=unanswered), 1000)
        stamp = json.loads(Path(stamp_path(cache, store, str(world.repository))).read_text())
        assert (stamp["expires"] < 1 << 40) == (seconds is not None)
        assert seconds is None or stamp["expires"] == 1000 + seconds


def test_export_writes_only_what_is_new(world: World) -> None:
    world.sync(registry=registry_of(world))
    argv = ("cache", "export", "--cache", world.root / "cache", "--format", "json")
    for number in (9, 0):
        done = json.loads(succeed(*argv, "--directory", world.root / "blobs"))
        assert (done["blobs"], done["new"]) == (8, 8 if number else 0)
    assert podman_cvmfs(*argv).returncode == 2
    assert podman_cvmfs(*argv, "x.tar", "--directory", world.root / "blobs").returncode == 2
    shutil.rmtree(world.root / "blobs")
    (world.root / "blobs").write_text("a file")
    assert podman_cvmfs(*argv, "--directory", world.root / "blobs").returncode == 3


def test_a_lost_manifest_takes_no_note_away(world: World) -> None:
    """A damaged note says nothing; only an empty one says that the manifest is lost."""
    image = Digest("a" * 64)
    cache = BlobCache(str(world.root / "exporting"))
    shared = world.root / "shared"
    cache.keep_manifests(image, b"{}", None)
    export_tree(cache, str(shared))
    source = BlobSources([str(shared)])
    assert source.manifest_digests(image) == (Digest.of(b"{}"),)
    cache.keep_manifest_digests(image, ())
    assert export_tree(cache, str(shared)).new_notes == 0
    assert source.manifest_digests(image) == (Digest.of(b"{}"),)
    (note,) = (shared / "manifests").rglob("a" * 64)
    note.write_text("<html>")
    assert source.manifest_digests(image) is None
    note.write_text("")
    assert source.manifest_digests(image) == ()


def test_one_bad_file_leaves_the_source_in_use(world: World) -> None:
    cache = BlobCache(str(world.root / "exporting"))
    cache.put(b"good")
    cache.put(b"bad")
    shared = world.root / "shared"
    export_tree(cache, str(shared))
    (bad,) = (shared / "sha256").rglob(Digest.of(b"bad").hex)
    bad.unlink()
    bad.mkdir()
    source = BlobSources([str(shared)])
    assert source.blob(Digest.of(b"bad")) is None
    assert source.blob(Digest.of(b"good")) == b"good"
