# SPDX-License-Identifier: Apache-2.0
"""Many containers that start at once never hang, though CernVM-FS's client fetches meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.matrix.site import Site
from tests.support import roots
from tests.support.lock_up import Outcome, Trial, attempt
from tests.support.required import required

#: With a user, a working directory and a volume; of five layers.
_IMAGE = "t/app:1"

pytestmark = pytest.mark.usefixtures("as_root")


@pytest.fixture(params=[each.codename for each in roots.GENERATIONS])
def root(request: pytest.FixtureRequest) -> Path:
    """The root file system with the podman of each release."""
    codename = str(request.param)
    if codename == roots.host_codename():
        return Path("/")
    found = roots.present(roots.default_directory(), codename)
    if found is None:
        required(f"no root of {codename}: python -m tests.support.roots makes it")
    return found


def _try(site: Site, root: Path, who: str, view: str, owner: str, shared: bool = False) -> Outcome:
    repository = str(site.repository("root"))
    image = site.name(_IMAGE)
    return attempt(Trial(str(root), who == "rootless", view, repository, image, owner, shared))


@pytest.mark.parametrize(("who", "owner"), [("root", "foreign"), ("rootless", "user")])
def test_without_directories_of_the_store_s_own_it_hangs(
    matrix_site: Site, root: Path, who: str, owner: str
) -> None:
    """Else the other tests here prove nothing."""
    outcome = _try(matrix_site, root, who, "", owner)
    assert outcome.hung, outcome
    assert outcome.done == 0
    # umount -f ends it.
    assert outcome.released


@pytest.mark.parametrize("view", ["flat", "layers"])
@pytest.mark.parametrize(
    ("who", "owner"), [("root", "foreign"), ("rootless", "user"), ("rootless", "foreign")]
)
def test_no_start_from_our_store_hangs(
    matrix_site: Site, root: Path, who: str, owner: str, view: str
) -> None:
    _does_not_hang(_try(matrix_site, root, who, view, owner))


def test_no_start_from_a_shared_store_hangs(matrix_site: Site, root: Path) -> None:
    _does_not_hang(_try(matrix_site, root, "root", "flat", "foreign", shared=True))


def _does_not_hang(outcome: Outcome) -> None:
    assert not outcome.hung, outcome
    assert (outcome.done, outcome.said) == (20, ())
    # No directory that a start writes to is the repository's: that is what hangs.
    assert outcome.copied == ()
