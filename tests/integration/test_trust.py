# SPDX-License-Identifier: Apache-2.0
"""What one repository says of a layer counts for its own images: attacks by a repository's owner on
the images of others, with real podman. A repository that is trusted shows that they are real."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.cli import podman_cvmfs, succeed
from tests.support.images import LAYERS, Built, Image, build, push
from tests.support.layers import directory, file
from tests.support.podman import Host, Podman, running
from tests.support.registry import Registry

LAYERS["trust-app"] = [directory("opt/app"), file("opt/app/file", "app\n")]
LAYERS["trust-data"] = [directory("opt/data"), file("opt/data/file", "data\n")]
LAYERS["trust-extra"] = [directory("opt/extra"), file("opt/extra/file", "extra\n")]
_SH = {"Env": ["PATH=/bin"], "Cmd": ["sh"]}
#: All stand on one base. Nobody publishes the first; the hostile repository has the last.
PULLED = Image("trust/pulled:1", ["base", "trust-app"], _SH)
OURS = Image("trust/ours:1", ["base", "trust-data"], _SH)
ONE = Image("trust/one:1", ["base"], _SH)
EVIL = Image("trust/evil:1", ["base", "trust-extra"], _SH)

GENUINE = "root:x:0:0::/root:/bin/sh"
FORGED = "EVIL"


@dataclass
class Site:
    """Two repositories, of which ``theirs`` has changed its base after it was published."""

    root: Path
    registry: Registry
    built: dict[str, Built]

    @property
    def ours(self) -> Path:
        return self.root / "ours"

    @property
    def theirs(self) -> Path:
        return self.root / "theirs"

    def name(self, image: Image) -> str:
        return f"{self.registry.address}/{image.name}"

    def sync(
        self,
        store: Path,
        repositories: Sequence[Path],
        reuse_from: Sequence[Path] | None,
        **settings: str,
    ) -> str:
        """Sync as an administrator would: with a settings file. Return the messages."""
        values: dict[str, object] = {"repositories": [str(each) for each in repositories]}
        if reuse_from is not None:
            values["reuse_from"] = [str(each) for each in reuse_from]
        lines = [f"{key} = {json.dumps(value)}\n" for key, value in {**values, **settings}.items()]
        config = store.parent / "config.toml"
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text("".join(lines))
        places = ("--store", store, "--cache", store.parent / "cache")
        done = podman_cvmfs("sync", "--offline", *places, settings=config)
        assert done.returncode == 0, done.stderr
        return done.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, registry_process: Registry) -> Site:
    registry_process.start()
    root = tmp_path_factory.mktemp("trust")
    built = {image.name: build(image) for image in (PULLED, OURS, ONE, EVIL)}
    for each in built.values():
        push(each, registry_process)
    made = Site(root, registry_process, built)
    for repository, images in ((made.ours, (OURS, ONE)), (made.theirs, (EVIL,))):
        sources = [f"http://{made.name(image)}" for image in images]
        succeed("publish", *sources, "--repository", repository)
    base = built[EVIL.name].blobs[0].digest.partition(":")[2]
    (made.theirs / ".layers" / base[:2] / base / "layerfs/etc/passwd").write_text(f"{FORGED}\n")
    for merged in (made.theirs / ".flat").glob("*/*"):
        (merged / "etc/passwd").write_text(f"{FORGED}\n")
    return made


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def podman(
    site: Site, store: Path, tmp_path: Path, podman_host: Host, registry: Registry
) -> Iterator[Podman]:
    insecure = [registry.address]
    with running(tmp_path / "podman", stores=[store], insecure=insecure, on=podman_host) as made:
        yield made


def first_line(podman: Podman, image: str) -> str:
    """Of the file that the hostile repository has changed."""
    done = podman.run("run", "--rm", image, "cat", "/etc/passwd")
    return done.stdout.splitlines()[0]


def pull(podman: Podman, site: Site) -> None:
    """By its digest: nothing that the registry says can differ."""
    name, digest = site.name(PULLED).rpartition(":")[0], site.built[PULLED.name].digest
    podman.run("pull", "--quiet", f"{name}@{digest}")
    podman.run("tag", f"{name}@{digest}", "localhost/pulled")


@pytest.mark.parametrize("reuse", ["base", "all"])
@pytest.mark.parametrize("ours_first", [True, False])
@pytest.mark.parametrize("trusts_ours", [True, False], ids=["trusts-ours", "default"])
def test_a_pull_takes_no_layer_of_a_repository_that_is_not_trusted(
    site: Site, store: Path, podman: Podman, reuse: str, ours_first: bool, trusts_ours: bool
) -> None:
    repositories = [site.ours, site.theirs] if ours_first else [site.theirs, site.ours]
    site.sync(store, repositories, [site.ours] if trusts_ours else None, reuse=reuse)
    pull(podman, site)
    assert first_line(podman, "localhost/pulled") == GENUINE
    assert first_line(podman, site.name(EVIL)) == FORGED, "its own image is what it says"


def test_the_attack_is_real(site: Site, store: Path, podman: Podman) -> None:
    site.sync(store, [site.ours, site.theirs], [site.theirs])
    pull(podman, site)
    assert first_line(podman, "localhost/pulled") == FORGED


def test_of_two_that_are_trusted_the_earlier_one_decides(
    site: Site, store: Path, podman: Podman
) -> None:
    both = [site.ours, site.theirs]
    site.sync(store, [site.theirs], None)
    site.sync(store, both, both)
    pull(podman, site)
    assert first_line(podman, "localhost/pulled") == GENUINE
    site.sync(store, both[::-1], both)
    podman.run("rmi", "--all")
    pull(podman, site)
    assert first_line(podman, "localhost/pulled") == FORGED


def test_trust_that_is_taken_back_counts_at_once(site: Site, store: Path, podman: Podman) -> None:
    both = [site.ours, site.theirs]
    site.sync(store, both, [site.theirs])
    site.sync(store, both, [])
    pull(podman, site)
    assert first_line(podman, "localhost/pulled") == GENUINE


@pytest.mark.parametrize("view", ["auto", "layers"])
@pytest.mark.parametrize("ours_first", [True, False])
@pytest.mark.parametrize("trusted", ["nobody", "theirs", "both"])
def test_an_image_shows_files_of_its_own_repository(
    site: Site, store: Path, podman: Podman, view: str, ours_first: bool, trusted: str
) -> None:
    repositories = [site.ours, site.theirs] if ours_first else [site.theirs, site.ours]
    trust = {"nobody": [], "theirs": [site.theirs], "both": repositories}[trusted]
    # The hostile one comes first.
    site.sync(store, [site.theirs], None, view=view)
    site.sync(store, repositories, trust, view=view)
    assert first_line(podman, site.name(OURS)) == GENUINE
    if trusted != "both" or ours_first:
        assert first_line(podman, site.name(ONE)) == GENUINE


def test_what_one_repository_deletes_is_there_in_the_images_of_another(
    site: Site, store: Path, podman: Podman
) -> None:
    base = site.built[EVIL.name].blobs[0].digest.partition(":")[2]
    marker = site.theirs / ".layers" / base[:2] / base / "layerfs/etc/.wh.group"
    marker.touch()
    try:
        site.sync(store, [site.theirs], None, view="layers")
    finally:
        marker.unlink()
    site.sync(store, [site.ours, site.theirs], None, view="layers")
    seen = podman.run("run", "--rm", site.name(OURS), "ls", "-a", "/etc").stdout.split()
    assert {"group", "passwd"} <= set(seen)
    assert ".wh.group" not in seen


def test_a_layer_that_somebody_stands_on_is_found_until_he_leaves(
    site: Site,
    store: Path,
    podman: Podman,
    tmp_path: Path,
    podman_host: Host,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A store can't have a layer for one user alone: podman looks for layers by their IDs."""
    site.sync(store, [site.theirs], None)
    insecure = [site.registry.address]
    with running(tmp_path / "other", stores=[store], insecure=insecure, on=podman_host) as other:
        monkeypatch.setenv("CONTAINERS_STORAGE_CONF", other.env["CONTAINERS_STORAGE_CONF"])
        pull(other, site)
        said = site.sync(store, [site.theirs], None, reuse="none")
        assert "pulls and builds still find layers" in said and str(other.graphroot) in said
        pull(podman, site)
        assert first_line(podman, "localhost/pulled") == FORGED
        podman.run("rmi", "--all")
        other.run("rmi", "--all")
        site.sync(store, [site.theirs], None, reuse="none")
        pull(podman, site)
        assert first_line(podman, "localhost/pulled") == GENUINE
