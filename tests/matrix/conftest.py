# SPDX-License-Identifier: Apache-2.0
"""The podmans of the matrix, for pytest."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tomlkit

import podman_cvmfs
from tests.matrix.bench import Bench
from tests.matrix.site import Site
from tests.support import roots
from tests.support.required import required

#: What the commands under test import and no root has; all of it is Python alone.
_LIBRARIES = ("click", "tomlkit", "rich", "markdown_it", "mdurl", "pygments", "typing_extensions")
_COMMAND = """\
#!/bin/sh
export PYTHONPATH={library} PYTHONDONTWRITEBYTECODE=1 PODMAN_CVMFS_CONFIG={library}/config.toml
exec python3 -m podman_cvmfs "$@"
"""


@pytest.fixture(scope="module", params=[each.codename for each in roots.GENERATIONS])
def bench(request: pytest.FixtureRequest, matrix_site: Site) -> Bench:
    """The podman of each release."""
    codename = str(request.param)
    is_here = codename == roots.host_codename()
    root = Path("/") if is_here else roots.present(roots.default_directory(), codename)
    if root is None:
        required(f"no root of {codename}: python -m tests.matrix makes it")
    return Bench(matrix_site, root)


@pytest.fixture(scope="session")
def tools(matrix_site: Site) -> Path:
    """A directory with ``podman-cvmfs``, for the Python of any machine of the site."""
    place = matrix_site.data / "tools"
    package = Path(podman_cvmfs.__file__).parent
    shutil.copytree(package, place / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in _LIBRARIES:
        found = _found(name)
        if found.is_dir():
            shutil.copytree(found, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(found, place)
    repository = matrix_site.repository("root")
    (place / "config.toml").write_text(f'repositories = ["{repository}"]\noffline = true\n')
    command = place / "podman-cvmfs"
    command.write_text(_COMMAND.format(library=place))
    command.chmod(0o755)
    return place


def _found(name: str) -> Path:
    packages = Path(tomlkit.__file__).parents[1]
    directory = packages / name
    return directory if directory.is_dir() else packages / f"{name}.py"
