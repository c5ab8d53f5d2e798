# SPDX-License-Identifier: Apache-2.0
"""``setup`` with a real podman as the judge: the system's own files, root and an ordinary user.

The directories that it writes to are the test's own, bound over the real ones in a mount
namespace.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from podman_cvmfs.errors import StoreError
from podman_cvmfs.podman.storage_conf.generation import Generation
from podman_cvmfs.settings.paths import SYSTEM_CACHE
from podman_cvmfs.setup import snippet
from tests.packaging.conftest import CHECKOUT
from tests.support.cli import Target, podman_cvmfs
from tests.support.ducc_sample import Sample
from tests.support.one_user import HOME, STORE, UID, Machine, python_path

#: A podman that understands no token in arrays.
_OLDER = """\
#!/bin/sh
[ "$1" != --version ] || { echo podman version 4.0.0; exit; }
! grep -q append "$CONTAINERS_STORAGE_CONF" "$CONTAINERS_CONF"
"""


def test_root_gets_the_store_and_undo_restores_every_byte(filled: Machine) -> None:
    before = filled.files()
    assert (filled.images(), filled.user_images()) == ([], [])
    filled.set_up()
    assert len(filled.images()) == 3
    # To whom it is closed nothing names it.
    assert filled.user_images() == []
    after = filled.files()
    assert "already uses" in filled.set_up()
    assert filled.files() == after
    filled.set_up("--undo")
    assert filled.files() == before
    assert (filled.images(), filled.user_images()) == ([], [])


def test_root_and_users_get_the_store_and_undo_restores_every_byte(shared: Machine) -> None:
    before = shared.files()
    assert (shared.images(), shared.user_images()) == ([], [])
    # Where the driver was left to podman, the user's first command may have chosen another.
    shared.namespace.run(["rm", "-rf", f"{HOME}/.local"])
    shared.set_up("--users")
    listed = shared.images()
    assert len(listed) == 3
    assert shared.user_images() == listed
    after = shared.files()
    # Who has asked for it once needn't say it again.
    for options in ((), ("--users",)):
        assert "already uses" in shared.set_up(*options)
        assert shared.files() == after
    shared.set_up("--undo")
    assert shared.files() == before
    assert (shared.images(), shared.user_images()) == ([], [])


def test_users_are_taken_in_and_left_out(shared: Machine) -> None:
    before = shared.files()
    for _ in range(2):
        shared.set_up("--users")
        assert shared.user_images() == shared.images() != []
        settings = shared.ours("config").stdout
        assert re.search(r"^shared = true +# /etc/podman-cvmfs/config.d/", settings, re.MULTILINE)
        shared.set_up("--no-users")
        assert len(shared.images()) == 3 and shared.user_images() == []
        assert "shared = false  # default" in re.sub(" +#", "  #", shared.ours("config").stdout)
    shared.set_up("--undo")
    assert shared.files() == before


def test_a_closed_store_is_not_named_to_users(filled: Machine) -> None:
    filled.namespace.run(["chmod", "0700", STORE])
    before = filled.files()
    done = filled.ours("setup", "--users", check=False)
    assert done.returncode == StoreError.exit_code
    assert "closed to other users" in done.stderr
    assert "'podman-cvmfs sync --shared' first" in done.stderr
    assert filled.files() == before
    # An empty one is opened.
    filled.namespace.run(["rm", "-rf", STORE])
    filled.set_up()
    assert filled.namespace.outside(STORE).stat().st_mode & 0o777 == 0o700
    filled.set_up("--users")
    assert filled.namespace.outside(STORE).stat().st_mode & 0o777 == 0o755
    assert (filled.images(), filled.user_images()) == ([], [])


def test_users_whose_containers_could_not_start_are_warned_of(
    shared: Machine,
    sample: Sample,
    generation: Generation,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On the kernel's overlayfs (the matrix shows that)."""
    before = shared.files()
    (tmp_path / "config.toml").write_text(f'repositories = ["{sample.repository}"]\n')
    monkeypatch.setenv("PODMAN_CVMFS_CONFIG", str(tmp_path / "config.toml"))
    assert "starts no container" not in shared.set_up()
    assert "starts no container on the store" in shared.set_up("--users")
    assert shared.user_images() == shared.images() != []
    # With a mount program they start; who has chosen it once needn't say it again.
    for options in (["--overlay", "fuse-overlayfs"], [], ["--no-users"], ["--users"]):
        assert "starts no container" not in shared.set_up(*options)
        assert shared.user_images() == ([] if "--no-users" in options else shared.images())
        if not generation.drop_ins and "--no-users" not in options:
            assert "mount_program=" in shared.user('printf %s "$STORAGE_OPTS"').stdout
    shared.set_up("--undo")
    assert shared.files() == before


def test_dry_run_shows_and_changes_nothing(machine: Machine) -> None:
    before = machine.files()
    assert f'+additionalimagestores = ["{STORE}"' in machine.set_up("--dry-run")
    assert machine.files() == before
    assert not machine.namespace.outside("/var/lib/podman-cvmfs").exists()


@pytest.mark.parametrize("options", [(), ("--users",)])
def test_podman_works_with_the_empty_store(machine: Machine, options: tuple[str, ...]) -> None:
    machine.set_up(*options)
    assert (machine.images(), machine.user_images()) == ([], [])


@pytest.mark.parametrize("directory", ["/usr/share/containers", "/etc/containers"])
def test_another_store_and_other_settings_stay(
    filled: Machine, sample: Sample, generation: Generation, directory: str
) -> None:
    """In the manner of Fedora: the vendor's file names a store of its own."""
    theirs = filled.podman.root / "theirs"
    target = Target(sample.repository, theirs, filled.podman.root / "cache")
    name = sorted(sample.expected)[0]
    done = podman_cvmfs(*target.argv("--offline"), name, within=filled.namespace)
    assert done.returncode == 0, done.stderr
    path = filled.namespace.outside(f"{directory}/storage.conf")
    text = f"""\
# The vendor's.
[storage]
driver = "overlay"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/other"
[storage.options]
additionalimagestores = [
"{theirs}",
]
[storage.options.overlay]
mountopt = "nodev"
"""
    path.write_text(text)
    path.chmod(0o640)
    before = filled.files()
    filled.set_up()
    # The same image in two stores is listed twice.
    listed = filled.images()
    assert listed.count(name) == 2 and len(set(listed)) == 3
    info = json.loads(filled.root("podman", "info", "--format", "json").stdout)
    assert info["store"]["graphRoot"] == "/var/lib/containers/other"
    assert "nodev" in json.dumps(info["store"]["graphOptions"])
    if directory == "/etc/containers" and not generation.drop_ins:
        assert path.stat().st_mode & 0o777 == 0o640
        added = set(path.read_text().splitlines()) - set(text.splitlines())
        assert added == {f'"{STORE}",'}
    filled.set_up("--undo")
    assert filled.files() == before


def test_user_with_settings_of_their_own_is_left_alone_and_named(
    shared: Machine, generation: Generation
) -> None:
    own = shared.namespace.outside(f"{HOME}/.config/containers/storage.conf")
    # The older podmans take the one, the newer the other.
    places = "".join(f'{key} = "{HOME}/kept"\n' for key in ("graphroot", "rootless_storage_path"))
    own.write_text(f'[storage]\ndriver = "overlay"\n{places}')
    os.chown(own, UID, UID)
    said = shared.set_up("--users")
    shared.user_images()
    assert shared.namespace.outside(f"{HOME}/kept/overlay-images").is_dir(), "not the user's own"
    if generation.drop_ins:
        assert len(shared.user_images()) == 3
        return
    assert f"not reached: u: {HOME}/.config/containers/storage.conf" in said
    assert shared.user_images() == []
    shared.set_up_user("--user", "--store", STORE)
    assert len(shared.user_images()) == 3
    shared.set_up_user("--undo")
    assert shared.user_images() == []


def test_user_whose_images_are_in_vfs_goes_on_working(
    shared: Machine, generation: Generation
) -> None:
    made = shared.user("STORAGE_DRIVER=vfs podman images -q")
    assert made.returncode == 0, made.stderr
    said = shared.set_up("--users")
    if not generation.drop_ins:
        assert "not reached: u: podman uses the storage driver vfs" in said
        done = shared.user("podman images -q")
        assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_user_sets_up_alone(shared: Machine) -> None:
    before = shared.files()
    shared.set_up_user("--store", STORE)
    assert len(shared.user_images(login=False)) == 3
    assert shared.images() == []
    shared.set_up_user("--undo")
    assert shared.files() == before


def test_service_manager_gets_what_a_login_gets(shared: Machine, generation: Generation) -> None:
    shared.set_up("--users")
    script = "/etc/systemd/user-environment-generators/60-podman-cvmfs"
    needed = os.path.isdir("/etc/systemd") and not generation.drop_ins
    assert shared.namespace.outside(script).exists() == needed
    if needed:
        printed = shared.user(script, login=False).stdout
        assert printed == f"STORAGE_OPTS=overlay.imagestore={STORE}\n"


def test_login_asks_a_podman_it_has_not_seen(shared: Machine, generation: Generation) -> None:
    """After an upgrade the options of the environment may replace all others."""
    shared.set_up("--users")
    profile = shared.namespace.outside("/etc/profile.d/podman-cvmfs.sh")
    profile.write_text(snippet.profile_text(STORE, None, "another"))
    told = "" if generation.drop_ins else f"overlay.imagestore={STORE}"
    assert shared.user('printf %s "${STORAGE_OPTS-}"').stdout == told
    assert len(shared.user_images()) == 3


def test_driver_left_to_podman_leaves_users_working(
    shared: Machine, generation: Generation
) -> None:
    path = shared.namespace.outside("/etc/containers/storage.conf")
    places = 'runroot = "/run/containers/storage"\ngraphroot = "/var/lib/containers/storage"\n'
    path.write_text("[storage]\n" + places)
    said = shared.set_up("--users")
    assert len(shared.images()) == 3
    assert ("sets no driver" in said) != generation.drop_ins
    if not generation.drop_ins:  # Newer ones take the system's directories for users.
        assert shared.user("podman images").returncode == 0


def test_what_was_set_up_for_an_older_podman_serves_a_newer_one(shared: Machine) -> None:
    """No command of root or a user may fail between podman's upgrade and the next set-up."""
    older = shared.podman.root / "older"
    older.mkdir()
    (older / "podman").write_text(_OLDER)
    (older / "podman").chmod(0o755)
    before = shared.files()
    said = shared.set_up("--users", path=f"{older}:{shared.podman.env['PATH']}")
    assert "podman 4.0.0 now uses" in said
    assert len(shared.images()) == 3
    assert len(shared.user_images()) == 3
    shared.set_up("--users")
    assert len(shared.images()) == 3
    assert len(shared.user_images()) == 3
    shared.set_up("--undo")
    assert shared.files() == before


def test_a_user_deletes_their_own_store(machine: Machine, sample: Sample) -> None:
    """With the commands of podman-cvmfs-setup(1)."""
    machine.bind(sample.repository, "/mnt")
    machine.set_up_user("--user")
    options = "--offline --repository /mnt --view layers"
    done = machine.user(
        f"/usr/bin/python3 -m podman_cvmfs sync {options}",
        PYTHONPATH=python_path(),
        PYTHONDONTWRITEBYTECODE="1",
    )
    assert done.returncode == 0, done.stderr
    machine.set_up_user("--undo")
    page = (CHECKOUT / "packaging/manual/podman-cvmfs-setup.1.rst").read_text()
    change, remove = re.findall(r"^    ((?:chmod|rm) -.*)$", page, re.MULTILINE)
    assert "Permission denied" in machine.user(remove).stderr
    done = machine.user(f"{change} && {remove}")
    assert (done.returncode, done.stderr) == (0, "")
    assert machine.user("ls -A ~/.local/share").stdout == ""


def test_what_users_are_told_of_root_s_store(
    machine: Machine, sample: Sample, tmp_path: Path
) -> None:
    machine.bind(sample.repository, "/mnt")
    machine.bind(tmp_path / "cache", "/var/cache")
    # Of a repository so young nothing is remembered.
    time.sleep(2.1)
    target = Target(Path("/mnt"), Path(STORE), Path(SYSTEM_CACHE))
    argv = target.argv("--offline", "--view", "layers", "--shared")
    done = podman_cvmfs(*argv, within=machine.namespace)
    assert done.returncode == 0, done.stderr

    def ask(command: str) -> subprocess.CompletedProcess[str]:
        script = f"/usr/bin/python3 -m podman_cvmfs {command}"
        return machine.user(script, PYTHONPATH=python_path(), PYTHONDONTWRITEBYTECODE="1")

    for place in ("", f" --store {STORE}"):
        said = ask(f"status --repository /mnt{place}").stdout
        assert "3 images, complete sync " in said
        # Some layers have directories that only root may look into.
        done = ask(f"verify{place}")
        assert (done.returncode, done.stdout.count("warning: ")) == (0, 1), done.stdout
        assert "because it holds directories that you can't read" in done.stdout
        assert f"'podman-cvmfs verify --store {STORE}' as root" in done.stdout
    said = ask("status --repository /mnt --cache /home/u/cache").stdout
    assert "the cache /home/u/cache has no record of a complete sync" in said
    assert "store-damaged" not in ask("doctor --repository /mnt").stdout
    completed = machine.user(
        "/usr/bin/python3 -m podman_cvmfs",
        PYTHONPATH=python_path(),
        _PODMAN_CVMFS_COMPLETE="bash_complete",
        COMP_WORDS="podman-cvmfs why 127",
        COMP_CWORD="2",
    )
    assert "127.0.0.1:5077/proj/" in completed.stdout
