# SPDX-License-Identifier: Apache-2.0
"""A sync of a repository that has nothing but merged roots."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from podman_cvmfs.errors import RegistryUnreachable, RepositoryError
from podman_cvmfs.names.spec import ImageSpec
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.oci.platform import Platform
from podman_cvmfs.reports.images import catalogue
from podman_cvmfs.reports.upstream import upstream
from podman_cvmfs.repository.collect import collect
from podman_cvmfs.resolve.synthesise import SYNTHESISED_LABEL
from podman_cvmfs.sync.new_stamp import directories_of
from podman_cvmfs.sync.report import SyncReport
from podman_cvmfs.sync.selection import Selection
from podman_cvmfs.verify.fault import Severity
from podman_cvmfs.verify.repair import repair
from podman_cvmfs.verify.store import verify
from tests.support.blobs import Blobs
from tests.support.osg import OsgBuilt, add_link, add_root, describe
from tests.support.world import World

ONE, TWO = describe("ab", Env=["A=one"]), describe("abc", User="1000")
#: The layers of ONE under another config.
SIBLING = describe("ab", Env=["A=sibling"])
LIST = ["hub.example.org/htc/one:*", "hub.example.org/htc/sibling:*", "two:1"]
HTC = "hub.example.org/htc"
NAMES = {f"{HTC}/one:1", f"{HTC}/one:latest", f"{HTC}/sibling:1", "docker.io/library/two:1"}


class Hub(Blobs):
    """A registry with the images by name."""

    def __init__(self, images: dict[str, OsgBuilt]) -> None:
        super().__init__({each.image_id: each.config for each in images.values()})
        self._images = images

    def manifest(self, name: object, reference: str | None = None) -> tuple[bytes, str]:
        self.manifests = {reference or "": self._images[str(name)].manifest}
        return super().manifest(name, reference)  # type: ignore[arg-type]

    @property
    def requests(self) -> int:
        return len(self.asked) + len(self.asked_manifests)


GENUINE = {
    f"{HTC}/one:1": ONE,
    f"{HTC}/one:latest": ONE,
    f"{HTC}/sibling:1": SIBLING,
    "docker.io/library/two:1": TWO,
}


class OsgWorld(World):
    """The world with such a repository; whatever is synced leaves a sound store."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, LIST)
        for image in (ONE, TWO):
            add_root(self.repository, image.merged, {"PATH": "/bin", "FROM": "flat"})
        self.links = {
            path: add_link(self.repository, path, merged)
            for path, merged in {
                "htc/one:1": ONE.merged,
                "htc/one:latest": ONE.merged,
                "htc/sibling:1": SIBLING.merged,
                "library/two:1": TWO.merged,
            }.items()
        }

    def sync(self, *names: str, **how: Any) -> SyncReport:
        report = super().sync(*names, **how)
        findings = verify(self.store.path).findings
        assert not [each for each in findings if each.severity is Severity.ERROR]
        return report

    def config(self, name: str) -> dict[str, object]:
        place = self.root / "store/overlay-images" / self.content.names[name]
        (path,) = [each for each in place.iterdir() if each.name != "manifest"]
        document = json.loads(path.read_bytes())
        assert isinstance(document, dict)
        return document


@pytest.fixture
def world(tmp_path: Path) -> Iterator[OsgWorld]:
    yield OsgWorld(tmp_path)


def test_images_are_the_registrys_own(world: OsgWorld) -> None:
    hub = Hub(GENUINE)
    report = world.sync(registry=hub)
    assert not report.failed and not report.synthesised
    assert world.names == {name: image.image_id for name, image in GENUINE.items()}
    one = world.stored(f"{HTC}/one:1")
    assert one.manifest_digest == str(Digest.of(ONE.manifest))
    assert (one.manifest_origin, one.view) == ("genuine", "flat")
    assert one.published == (f"{HTC}/one:1", f"{HTC}/one:latest"), "one image, two names"
    overlay = world.root / "store/overlay"
    lower = (overlay / str(one.top_layer) / "lower").read_text().split(":")
    assert (overlay / lower[-1]).readlink().parts[0] == ".."
    assert (overlay / lower[-1]).resolve() == world.repository / ONE.merged
    # Four manifests, three configs; then nothing, even where all is looked at again.
    assert hub.requests == 7
    again = world.sync(registry=hub)
    assert hub.requests == 7 and not again.changed and not again.failed
    shutil.rmtree(world.root / "store")
    world.sync(registry=hub)
    assert hub.requests == 7, "the cache knows them"


def test_offline_one_config_is_made_up_for_each_root(world: OsgWorld) -> None:
    report = world.sync()
    assert not report.failed and report.synthesised == 2
    names = world.names
    assert set(names) == NAMES
    assert len({names[f"{HTC}/{each}"] for each in ("one:1", "one:latest", "sibling:1")}) == 1
    runtime = world.config(f"{HTC}/one:1")["config"]
    assert isinstance(runtime, dict)
    assert runtime["Env"] == ["PATH=/bin", "FROM=flat"]
    assert runtime["Cmd"] == ["/bin/sh", "-c", "echo it's me"]
    assert SYNTHESISED_LABEL in runtime["Labels"]
    assert not world.sync().changed
    # The registry is back: the genuine ones take their places.
    report = world.sync(registry=Hub(GENUINE))
    assert set(report.moved) == NAMES and not report.synthesised
    assert world.names[f"{HTC}/sibling:1"] == SIBLING.image_id


def test_a_tag_that_has_moved_is_not_taken(world: OsgWorld) -> None:
    moved = {**GENUINE, f"{HTC}/one:1": describe("xyz"), f"{HTC}/one:latest": describe("ab")}
    report = world.sync(registry=Hub(moved))
    assert not report.failed and report.synthesised == 1
    assert world.stored(f"{HTC}/one:1").config_origin == "synthesised"
    # The same layers with another config: nothing in /cvmfs tells that apart.
    assert world.names[f"{HTC}/one:latest"] == moved[f"{HTC}/one:latest"].image_id


def test_images_called_after_their_index(world: OsgWorld) -> None:
    index = json.dumps(
        {
            "schemaVersion": 2,
            "manifests": [
                {
                    "digest": str(Digest.of(TWO.manifest)),
                    "platform": {"os": "linux", "architecture": "amd64"},
                }
            ],
        }
    ).encode()
    digest = Digest.of(index).hex
    merged = f".images/sha256:{digest[:2]}/{digest[2:]}"
    shutil.rmtree(world.repository / "htc")
    world.links["library/two:1"].unlink()
    (add_root(world.repository, merged) / "bin").mkdir()
    elf = b"\x7fELF\x02\x01" + bytes(12) + (62).to_bytes(2, "little")
    (world.repository / merged / "bin/sh").write_bytes(elf)
    add_link(world.repository, "library/two:1", merged)
    hub = Blobs({TWO.image_id: TWO.config})
    hub.manifests = {"1": index, str(Digest.of(TWO.manifest)): TWO.manifest}
    assert not world.sync(registry=hub).synthesised
    assert world.names == {"docker.io/library/two:1": TWO.image_id}
    # Another index lists the same manifest by now: it may have been another image.
    shutil.rmtree(world.root / "store")
    shutil.rmtree(world.root / "cache")
    hub.manifests["1"] = index + b"\n"
    assert world.sync(registry=hub).synthesised == 1


def test_names_come_and_go(world: OsgWorld) -> None:
    hub = Hub(GENUINE)
    world.sync(registry=hub)
    # The name that was first goes, the other stays with the image.
    world.links["htc/one:1"].unlink()
    report = world.sync(registry=hub)
    assert list(report.removed) == [f"{HTC}/one:1"] and not report.failed
    assert world.names[f"{HTC}/one:latest"] == ONE.image_id
    # A retag.
    world.links["htc/one:latest"].unlink()
    add_link(world.repository, "htc/one:latest", TWO.merged)
    report = world.sync(registry=Hub({**GENUINE, f"{HTC}/one:latest": TWO}))
    assert list(report.moved) == [f"{HTC}/one:latest"]
    assert world.names[f"{HTC}/one:latest"] == world.names["docker.io/library/two:1"]


def test_what_vanishes_or_cannot_be_read_takes_nothing_out(world: OsgWorld) -> None:
    world.sync(registry=Hub(GENUINE))
    before = world.names
    (world.repository / "htc").rename(world.repository / "away")
    (world.repository / "htc").write_text("no directory")
    (world.repository / "away").rename(world.root / "away")
    add_link(world.repository, "broken/x:1", "elsewhere")
    report = world.sync()
    assert set(report.removed) == {name for name in before if name.startswith(HTC)}
    assert "not to a merged root" in report.failed["broken/x:1"].message
    shutil.rmtree(world.root / "store")
    (world.repository / "htc").unlink()
    (world.root / "away").rename(world.repository / "htc")
    world.sync(registry=Hub(GENUINE))
    # Unmounted: an empty directory.
    world.repository.rename(world.root / "mounted")
    world.repository.mkdir()
    with pytest.raises(RepositoryError, match="has no images"):
        world.sync()
    assert world.names == before


def test_a_merged_root_that_is_removed_leaves_the_store_before_its_time(world: OsgWorld) -> None:
    world.sync(registry=Hub(GENUINE))
    top = world.stored("docker.io/library/two:1").top_layer
    world.links["library/two:1"].unlink()
    world.sync(registry=Hub(GENUINE))
    assert top in world.content.layers
    shutil.rmtree(world.repository / TWO.merged)
    world.sync(registry=Hub(GENUINE))
    assert top not in world.content.layers


def test_a_missing_merged_root_is_named(world: OsgWorld) -> None:
    shutil.rmtree(world.repository / TWO.merged)
    report = world.sync()
    assert list(report.failed) == ["docker.io/library/two:1"]
    assert "which is missing" in report.failed["docker.io/library/two:1"].message


def test_old_singularity_files_are_enough_to_run(world: OsgWorld) -> None:
    shutil.rmtree(world.repository / ONE.merged / ".singularity.d/env")
    (world.repository / ONE.merged / ".singularity.d/runscript").unlink()
    assert not world.sync().failed
    runtime = world.config(f"{HTC}/one:1")["config"]
    assert isinstance(runtime, dict)
    assert runtime["Env"] == [] and "Cmd" not in runtime


def test_a_dead_registry_is_asked_once(world: OsgWorld) -> None:
    dead = Blobs({}, RegistryUnreachable("hub.example.org doesn't answer"))
    report = world.sync(registry=dead)
    assert not report.failed and set(world.names) == NAMES
    hosts = {text.partition("/")[0] for text in dead.asked_manifests}
    assert hosts == {"hub.example.org", "docker.io"} and len(dead.asked_manifests) <= 3


def test_a_part_that_cannot_be_read_keeps_its_images(
    world: OsgWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.sync(registry=Hub(GENUINE))
    before = world.names
    real = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("repository/htc"):
            raise OSError(5, os.strerror(5), path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    report = world.sync(registry=Hub(GENUINE))
    assert list(report.failed) == ["htc"] and world.names == before


def test_names_added_one_by_one_share_the_image(world: OsgWorld) -> None:
    world.sync(f"{HTC}/one:1", registry=Hub(GENUINE))
    content = world.content
    image = content.images[ONE.image_id]
    assert image.published == (f"{HTC}/one:1",)
    report = world.sync(f"{HTC}/one:latest", registry=Hub(GENUINE))
    assert list(report.added) == [f"{HTC}/one:latest"] and not report.failed
    assert world.stored(f"{HTC}/one:latest").published == (f"{HTC}/one:1", f"{HTC}/one:latest")
    assert len(world.stored(f"{HTC}/one:1").all_sources) == 2


@pytest.mark.parametrize("labels", [None, b"{", b"[]", b"3", b"{}", "\u00e9".encode("latin-1")])
def test_without_a_list_images_are_docker_hubs(world: OsgWorld, labels: bytes | None) -> None:
    for image in (ONE, TWO):
        if labels is not None:
            (world.repository / image.merged / ".singularity.d/labels.json").write_bytes(labels)
    assert not world.sync(everything=True).failed
    hub = "docker.io/htc"
    assert set(world.names) == {
        *(f"{hub}/one:1", f"{hub}/one:latest", f"{hub}/sibling:1", "docker.io/library/two:1")
    }


def test_without_a_list_the_registry_that_singularity_noted_counts(world: OsgWorld) -> None:
    for image, name in ((ONE, f"{HTC}/one:1"), (TWO, "registry.hub.docker.com/library/two:1")):
        labels = {"org.label-schema.usage.singularity.deffile.from": name}
        place = world.repository / image.merged / ".singularity.d/labels.json"
        place.write_text(json.dumps(labels))
    report = world.sync(everything=True)
    assert set(report.failed) == {
        f"docker.io/htc/{each}" for each in ("one:1", "one:latest", "sibling:1")
    }
    error = report.failed["docker.io/htc/one:1"]
    assert f"its merged root was made from {HTC}/one:1" in error.message
    assert "as a wish list" in str(error.hint)
    assert set(world.names) == {"docker.io/library/two:1"}
    assert not world.sync().failed and set(world.names) == NAMES


@pytest.mark.parametrize("path", ["joe.doe/app:1", "joe.doe/a/b:1", "x/y/z:1"])
def test_no_host_is_asked_that_cannot_be_a_registry(world: OsgWorld, path: str) -> None:
    """Users' names with dots, and names too long for Docker Hub."""
    add_link(world.repository, path, TWO.merged)
    hub = Hub({**GENUINE, path: TWO, f"docker.io/{path}": TWO})
    name = path if "." in path else f"docker.io/{path}"
    report = world.sync(name, registry=hub)
    assert not report.failed and set(world.names) == {name}
    assert hub.requests == 0 and report.synthesised == 1
    offers = collect([str(world.repository)], {}, specs=list(map(ImageSpec.parse, LIST)))
    rows = catalogue(world.content, offers, Selection())
    found = upstream(rows, lambda: hub, Platform("amd64"))
    assert {row.name: state.value for row, state in zip(rows, found)}[name] == "no answer"


def test_stamps_know_the_directories_of_links(world: OsgWorld) -> None:
    long_ago = time.time_ns() - 10**12
    for directory, _, _ in os.walk(world.repository):
        os.utime(directory, ns=(long_ago, long_ago))
    assert set(directories_of(str(world.repository)) or ()) == {".", "htc", "library"}


def test_whether_tags_have_moved(world: OsgWorld) -> None:
    world.sync(f"{HTC}/one:1", registry=Hub(GENUINE))
    offers = collect([str(world.repository)], {}, specs=list(map(ImageSpec.parse, LIST)))
    rows = catalogue(world.content, offers, Selection())
    moved = Hub({**GENUINE, f"{HTC}/one:latest": describe("xyz")})
    found = upstream(rows, lambda: moved, Platform("amd64"))
    assert {row.name: state.value for row, state in zip(rows, found) if row.offer} == {
        f"{HTC}/one:1": "same",
        f"{HTC}/one:latest": "moved",
        f"{HTC}/sibling:1": "same",
        "docker.io/library/two:1": "same",
    }


def test_a_damaged_store_is_mended(world: OsgWorld) -> None:
    world.sync(registry=Hub(GENUINE))
    before = world.names
    for path in (world.root / "store/pool").rglob("manifest"):
        path.write_text("{}")
    shutil.rmtree(next((world.root / "store/pool/layers").iterdir()))
    repair(verify(world.store.path), world.request())
    assert not [f for f in verify(world.store.path).findings if f.severity is Severity.ERROR]
    assert world.names == before
