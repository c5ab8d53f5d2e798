# SPDX-License-Identifier: Apache-2.0
"""No local user can write what others' containers show: attacks on root's store, on a shared one,
and on a user's own. A store of layout 4, on which they succeed, shows that they are real."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.matrix.host import USER, User
from tests.matrix.site import Site
from tests.support.cli import succeed
from tests.support.images import LAYERS, Image, build, push
from tests.support.intruder import Intruder
from tests.support.layers import directory, file, whiteout
from tests.support.podman import Host, running
from tests.support.released import LAYOUT_4, released

#: The image gives a directory to the first; the second has nothing to do with it.
OWNER, OTHER = Intruder(1234), Intruder(4343)

LAYERS["strangers-home"] = [
    directory("home/app", 0o755, OWNER.uid),
    file("home/app/old", "old\n", 0o644, OWNER.uid),
    directory("var/tmp", 0o1777),
]
LAYERS["strangers-delete"] = [
    directory("home/app", 0o755, OWNER.uid),
    whiteout("home/app/old"),
    file("home/app/kept", "kept\n", 0o644, OWNER.uid),
]
IMAGE = Image(
    "strangers/app:1",
    ["base", "strangers-home", "strangers-delete"],
    {"Env": ["PATH=/bin"], "Cmd": ["sh"], "User": "app", "WorkingDir": "/home/app"},
)
VIEWS = ("flat", "layers")


@dataclass
class Place:
    """A directory that everybody reaches, with a repository like DUCC's, and stores of it."""

    site: Site
    root: Path
    repository: Path

    def sync(self, *options: str, user: User | None = None, code: Path | None = None) -> str:
        return self.site.sync(
            self.repository, self.store, *options, user=user, version="4.3.1", code=code
        )

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def name(self) -> str:
        return self.site.name(IMAGE.name)

    def old_store(self, view: str, user: User | None = None) -> None:
        """Have an earlier version write the store."""
        self.sync("--view", view, user=user, code=released(LAYOUT_4, self.site.data))


@pytest.fixture(scope="module")
def repository(matrix_site: Site) -> Path:
    """Its merged roots have lost their sticky bits, as those of DUCC have."""
    path = matrix_site.data / "strangers"
    succeed("publish", f"http://{push(build(IMAGE), matrix_site.registry)}", "--repository", path)
    for name in ("tmp", "var/tmp"):
        (found,) = path.glob(f".flat/*/*/{name}")
        found.chmod(0o777)
    return path


@pytest.fixture
def place(matrix_site: Site, repository: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    root = matrix_site.data / f"strangers-{abs(hash(request.node.nodeid)) % 10**8}"
    root.mkdir()
    yield Place(matrix_site, root, repository)
    shutil.rmtree(root, ignore_errors=True)


def attacks(store: Path) -> list[str]:
    """What either of the two can change."""
    return [f"{who.uid} {what}" for who in (OWNER, OTHER) for what in who.attack(store)[1]]


def seen(place: Place, scratch: Path, script: str, host: Host) -> str:
    """What root's container of the image prints."""
    with running(scratch, stores=[place.store], on=host) as podman:
        command = ("run", "--rm", "--pull=never", "--user=0", place.name, "sh", "-c", script)
        return podman.run(*command).stdout


@pytest.mark.parametrize("view", VIEWS)
def test_the_attacks_are_real(place: Place, view: str) -> None:
    place.old_store(view)
    reached, _ = OTHER.attack(place.store)
    assert reached > 10
    changed = attacks(place.store)
    assert any("creates a file in" in what and f"{OWNER.uid} " in what for what in changed)


@pytest.mark.parametrize("view", VIEWS)
def test_root_s_store_is_closed(place: Place, view: str, tmp_path: Path, podman_host: Host) -> None:
    place.sync("--view", view)
    assert place.store.stat().st_mode & 0o777 == 0o700
    for who in (OWNER, OTHER):
        assert who.attack(place.store)[0] <= 1, "no directory of the store can be read"
        assert who.attack(place.store / "pool")[0] == 0
    assert attacks(place.store) == []
    script = "stat -c '%a %u' /tmp /var/tmp /home/app; ls /tmp /home/app"
    wanted = f"1777 0\n1777 0\n755 {OWNER.uid}\n/home/app:\nkept\n\n/tmp:\n"
    assert seen(place, tmp_path, script, podman_host) == wanted


@pytest.mark.parametrize("view", VIEWS)
def test_a_shared_store_can_be_read_and_not_written(
    place: Place, view: str, tmp_path: Path, podman_host: Host
) -> None:
    place.sync("--view", view, "--shared")
    for who in (OWNER, OTHER):
        assert who.attack(place.store / "pool")[0] > 5, "it can be read"
    assert attacks(place.store) == []
    # Who may do what in the image's directories, as far as the repository has kept it.
    sticky = "1777" if view == "layers" else "777"
    script = "stat -c %a /tmp; ls /tmp /home/app"
    said = seen(place, tmp_path, script, podman_host)
    assert said == f"{sticky}\n/home/app:\nkept\n\n/tmp:\n"


@pytest.mark.parametrize("view", VIEWS)
def test_what_was_meant_for_root_alone_stays_closed_when_a_store_is_shared(
    place: Place, view: str, tmp_path: Path, podman_host: Host
) -> None:
    """Directories that the store retires had the image's modes and owners."""
    place.sync("--view", view)
    place.sync("--view", view, "--shared")
    assert place.store.stat().st_mode & 0o777 == 0o755
    assert attacks(place.store) == []
    script = "ls /tmp /home/app"
    assert seen(place, tmp_path, script, podman_host) == "/home/app:\nkept\n\n/tmp:\n"
    succeed("verify", "--store", place.store)
    place.sync("--view", view, "--shared")
    assert OTHER.sh(f"ls {place.store}/overlay/*/diff > /dev/null 2>&1; ls {place.store}/overlay")


@pytest.mark.parametrize("view", VIEWS)
def test_a_user_s_own_store(place: Place, view: str) -> None:
    place.sync("--view", view, user=USER)
    assert place.store.stat().st_mode & 0o777 == 0o700
    assert attacks(place.store) == []
    shutil.rmtree(place.store)
    place.old_store(view, USER)
    assert attacks(place.store) != [], "else nothing is shown by this"


@pytest.mark.parametrize("options", [(), ("--shared",)], ids=["closed", "shared"])
@pytest.mark.parametrize("view", VIEWS)
def test_an_upgrade_closes_and_cleans(
    place: Place, view: str, options: tuple[str, ...], tmp_path: Path, podman_host: Host
) -> None:
    place.old_store(view)
    planted = []
    for who in (OWNER, OTHER):
        for part in place.store.glob("pool/layers/*/diff*"):
            for inside in (part / "tmp", part / "var/tmp", part / "home/app"):
                evil = inside / f"evil-{who.uid}.sh"
                if not part.is_symlink() and who.sh(f"echo planted > {evil}"):
                    planted.append(evil)
                    assert who.sh(f"ln -s /etc/passwd {inside}/link-{who.uid}")
                    planted.append(inside / f"link-{who.uid}")
                if inside.name == "app" and not part.is_symlink():
                    who.sh(f"rm -f {inside}/old")
    assert planted
    said = place.sync("--view", view, *options)
    assert not [path for path in planted if path.is_symlink() or path.exists()]
    named = [path for path in planted if str(path) in said]
    assert len(named) == min(len(planted), 5), said
    assert len(named) == len(planted) or f"removed {len(planted) - 5} more files" in said
    assert "--shared" in options or place.store.stat().st_mode & 0o777 == 0o700
    assert attacks(place.store) == []
    wanted = "/home/app:\nkept\n\n/tmp:\n"
    assert seen(place, tmp_path, "ls /tmp /home/app", podman_host) == wanted
    assert "no sync had put" not in place.sync("--view", view, *options)
