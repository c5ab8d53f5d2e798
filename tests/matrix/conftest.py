# SPDX-License-Identifier: Apache-2.0
"""The podmans of the matrix, for pytest."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.matrix.bench import Bench
from tests.matrix.site import Site
from tests.support import roots
from tests.support.required import required


@pytest.fixture(scope="module", params=[each.codename for each in roots.GENERATIONS])
def bench(request: pytest.FixtureRequest, matrix_site: Site) -> Bench:
    """The podman of each release."""
    codename = str(request.param)
    is_here = codename == roots.host_codename()
    root = Path("/") if is_here else roots.present(roots.default_directory(), codename)
    if root is None:
        required(f"no root of {codename}: python -m tests.matrix makes it")
    return Bench(matrix_site, root)
