# SPDX-License-Identifier: Apache-2.0
"""What all tests of the binding use; built and synced once a session."""

from __future__ import annotations

from pathlib import Path

import pytest

from podman_cvmfs.storage_native import Artefact, Kind
from tests.support.cli import Target
from tests.support.ducc_sample import Sample
from tests.support.many import make_repository
from tests.support.native import JudgeMissingError, host_directory
from tests.support.required import required

VIEWS = ("auto", "flat", "layers")
REUSES = ("base", "all", "none")


@pytest.fixture(scope="session")
def built() -> Path:
    """The directory with the library and the program for this machine."""
    try:
        return host_directory()
    except JudgeMissingError as err:
        required(str(err))
        raise


@pytest.fixture(params=list(Kind), ids=lambda kind: kind.name.lower())
def artefact(request: pytest.FixtureRequest, built: Path) -> Artefact:
    """Each of the two in turn."""
    kind: Kind = request.param
    return Artefact(kind, str(built / kind.value))


@pytest.fixture(scope="session")
def library(built: Path) -> str:
    """The path of the shared library."""
    return str(built / Kind.LIBRARY.value)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of five images, eight layers each."""
    root = tmp_path_factory.mktemp("native")
    target = Target(make_repository(root / "repository", 5), root / "store", root / "cache")
    target.sync("--offline", "--view", "layers")
    return target.store


@pytest.fixture(scope="session")
def sample_store(tmp_path_factory: pytest.TempPathFactory, sample: Sample) -> Path:
    """A store made of the repository that DUCC wrote, which ordinary users may read."""
    root = tmp_path_factory.mktemp("native-sample")
    target = Target(sample.repository, root / "store", root / "cache")
    target.sync("--offline", "--shared")
    return target.store


@pytest.fixture(scope="session")
def all_stores(tmp_path_factory: pytest.TempPathFactory, sample: Sample) -> dict[str, Path]:
    """Stores of both repositories with every view and every reuse, by name; one of deep images."""
    root = tmp_path_factory.mktemp("native-all")
    many = make_repository(root / "many", 10)
    found = {}
    for name, repository in (("many", many), ("ducc", sample.repository)):
        for view in VIEWS:
            for reuse in REUSES:
                store = root / f"{name}-{view}-{reuse}"
                target = Target(repository, store, root / "cache")
                target.sync("--offline", "--view", view, "--reuse", reuse)
                found[store.name] = store
    # A short path: podman 4 has one page for all of an image's layers.
    deep = make_repository(root / "deep", 1, layers=40)
    target = Target(deep, root / "d", root / "cache")
    target.sync("--offline", "--view", "layers")
    return {**found, "deep": target.store}
