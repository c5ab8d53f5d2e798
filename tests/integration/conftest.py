# SPDX-License-Identifier: Apache-2.0
"""The gallery of the end-to-end tests: everything published, synced, and pulled for comparison."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from podman_cvmfs.podman.storage_conf.generation import Generation, find_generation
from tests.support.cli import Target, podman_cvmfs, succeed
from tests.support.cvmfs_publisher import Server, publishing_machine
from tests.support.ducc_sample import Sample
from tests.support.images import IMAGES, Built, build, push
from tests.support.one_user import STORE, UID, Machine
from tests.support.patient import Patient
from tests.support.podman import Host, Podman, running
from tests.support.registry import Registry


@dataclass(frozen=True)
class Gallery:
    """All test images three times: in a repository, in a store made of it, and pulled.

    ``images`` maps an image's name in the table to what was built; ``podman`` has the store,
    ``plain`` has pulled the same images from the registry.
    """

    registry: str
    images: dict[str, Built]
    target: Target
    podman: Podman
    plain: Podman

    def name(self, image: str) -> str:
        """The full name of an image of the table."""
        return f"{self.registry}/{image}"


@pytest.fixture(scope="session")
def gallery(
    tmp_path_factory: pytest.TempPathFactory, podman_host: Host, registry_process: Registry
) -> Iterator[Gallery]:
    """Publish and sync all images of the table from a registry that then isn't needed again."""
    server = registry_process
    server.start()
    root = tmp_path_factory.mktemp("gallery")
    images = {image.name: build(image) for image in IMAGES}
    names = [push(built, server) for built in images.values()]
    insecure = [server.address]
    target = Target(root / "repository", root / "store", root / "cache")
    with running(root / "plain", stores=[], insecure=insecure) as plain:
        plain.run("pull", "--quiet", *names)
        sources = [f"http://{name}" for name in names]
        succeed("publish", *sources, "--repository", target.repository)
        aliases = {"the-app": f"{server.address}/t/app"}
        with running(
            root / "ours", stores=[target.store], insecure=insecure, aliases=aliases
        ) as podman:
            target.sync()
            server.stop()
            yield Gallery(server.address, images, target, podman, plain)


@pytest.fixture(scope="session")
def generation() -> Generation:
    """What the podman under test understands."""
    return find_generation()


@pytest.fixture
def machine(tmp_path: Path, podman_host: Host) -> Iterator[Machine]:
    """A machine on which nothing is set up."""
    with running(tmp_path / "podman", stores=[], on=podman_host) as podman:
        machine = Machine(podman, tmp_path)
        try:
            yield machine
        finally:
            machine.close()


@pytest.fixture
def filled(machine: Machine, sample: Sample) -> Machine:
    """The same, with a store of DUCC's repository in the default place."""
    return _fill(machine, sample)


@pytest.fixture
def shared(machine: Machine, sample: Sample) -> Machine:
    """The same, with a store that all users may read."""
    return _fill(machine, sample, "--shared")


def _fill(machine: Machine, sample: Sample, *options: str) -> Machine:
    target = Target(sample.repository, Path(STORE), machine.podman.root / "cache")
    done = podman_cvmfs(*target.argv("--offline", *options), within=machine.namespace)
    assert done.returncode == 0, done.stderr
    return machine


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A machine that publishes a CernVM-FS repository."""
    with publishing_machine(tmp_path, monkeypatch) as found:
        yield found


@pytest.fixture(scope="session")
def published(
    tmp_path_factory: pytest.TempPathFactory, registry_process: Registry
) -> tuple[Path, str]:
    """A repository of one image, and the image's name."""
    registry_process.start()
    repository = tmp_path_factory.mktemp("published") / "repository"
    name = push(build(next(each for each in IMAGES if each.name == "t/single:1")), registry_process)
    succeed("publish", f"http://{name}", "--repository", repository)
    # Rootless podman starts no container on files of another user, root's own included.
    subprocess.run(["chown", "-hR", f"{UID}:{UID}", repository], check=True)
    return repository, name


@pytest.fixture
def patient(machine: Machine, published: tuple[Path, str]) -> Patient:
    """Everything is well: root and the user run the image."""
    patient = Patient(machine, *published)
    patient.do("podman-cvmfs -q setup --users && podman-cvmfs -q sync")
    return patient
