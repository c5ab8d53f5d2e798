# SPDX-License-Identifier: Apache-2.0
"""Fixtures shared by all tests that use the real tools; each is made once and only if asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.matrix.site import Site, site
from tests.support import ducc_sample
from tests.support.ducc_sample import Sample, SampleMissingError
from tests.support.long_tests import is_long
from tests.support.podman import Host, PodmanUnavailableError, host
from tests.support.registry import Registry
from tests.support.required import required
from tests.support.users import public_directory


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--long``: all variants of the tests that are long (see ``tests.support.long_tests``)."""
    parser.addoption("--long", action="store_true", help="run all variants of long tests")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave long variants out, and say how many, unless all are asked for."""
    if not config.getoption("--long"):
        long = [item for item in items if is_long(item.nodeid)]
        items[:] = [item for item in items if not is_long(item.nodeid)]
        config.hook.pytest_deselected(items=long)


@pytest.fixture
def as_root() -> None:
    """The test is root's: only root can become, or give files to, somebody else."""
    if os.geteuid() != 0:
        required("needs root")


@pytest.fixture
def public_place(as_root: None) -> Iterator[Path]:
    """A directory that only root can change, and that all users reach."""
    with public_directory() as path:
        yield path


@pytest.fixture(scope="session")
def podman_host() -> Host:
    """How podman runs containers here; where it can't, the test fails and says why."""
    try:
        return host()
    except PodmanUnavailableError as err:
        pytest.fail(f"podman can't run containers here: {err}", pytrace=False)


@pytest.fixture(scope="session")
def registry_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """The registry of the whole session, running or stopped: use ``registry`` instead."""
    server = Registry(tmp_path_factory.mktemp("registry"))
    yield server
    server.stop()


@pytest.fixture
def registry(registry_process: Registry) -> Registry:
    """A running registry on loopback."""
    registry_process.start()
    return registry_process


@pytest.fixture
def no_registry(registry_process: Registry) -> Registry:
    """The same registry, stopped: whatever works now needs none."""
    registry_process.stop()
    return registry_process


@pytest.fixture(scope="session")
def matrix_site(podman_host: Host) -> Iterator[Site]:
    """The images, registry and repositories of the matrix."""
    with site() as made:
        yield made


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """The repository DUCC wrote: required in CI, elsewhere the test is skipped without it."""
    path: Path = tmp_path_factory.mktemp("ducc")
    try:
        return ducc_sample.unpack(path)
    except SampleMissingError as err:
        required(str(err))
