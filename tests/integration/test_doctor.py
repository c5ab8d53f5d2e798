# SPDX-License-Identifier: Apache-2.0
"""``doctor`` at real sick-beds: podman is seen to fail, doctor names why, and the very cure that it
prints makes podman work again; as root and as an ordinary user."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from podman_cvmfs.errors import InputError, PartialError, RepositoryError, StoreError
from podman_cvmfs.podman.storage_conf.generation import Generation
from tests.support.many import make_repository
from tests.support.one_user import HOME, STORE, UID
from tests.support.patient import REPOSITORY, SETTINGS, Patient

_CONF = "/etc/containers/storage.conf"


def test_the_healthy(patient: Patient) -> None:
    for user in (False, True):
        assert patient.works(user=user)
        print(patient.run("podman info; podman ps", user=user))
        found = patient.doctor(user=user)
        assert found.errors == [], found
        assert found.code in (0, PartialError.exit_code)


def test_missing_store(patient: Patient) -> None:
    patient.do(f"mv {STORE} /home/away")
    failed = patient.run("podman ps")
    assert failed.returncode != 0
    found = patient.doctor()
    assert (found.code, found.errors[0]) == (StoreError.exit_code, "store-missing")
    patient.do(found.cure("store-missing"))
    assert patient.do("podman ps -q") == ""
    found = patient.doctor()
    patient.do(found.cure("store-empty"))
    assert patient.works()


def test_missing_store_of_others(patient: Patient) -> None:
    conf = patient.path(_CONF)
    conf.write_text(conf.read_text().replace(f'"{STORE}"', f'"{STORE}", "/home/theirs"'))
    assert patient.run("podman ps").returncode != 0
    found = patient.doctor()
    assert (found.code, found.errors[0]) == (StoreError.exit_code, "store-missing")
    assert "/home/theirs" in found.findings["store-missing"]["found"]
    patient.do(found.cure("store-missing"))
    assert patient.works()
    assert patient.doctor().errors == []


def test_driver_vfs(patient: Patient) -> None:
    # It leaves no storage, but can't remove what is mounted below /run here.
    patient.run("podman system reset --force")
    conf = patient.path(_CONF)
    conf.write_text(conf.read_text().replace('driver = "overlay"', '\t"driver" = "vfs"'))
    assert not patient.lists()
    assert patient.path("/var/lib/containers/storage/vfs-images").exists()
    found = patient.doctor()
    assert (found.code, found.errors[0]) == (InputError.exit_code, "driver-not-overlay")
    done = patient.run(found.cure("driver-not-overlay"))
    assert "overlay" in done.stdout, done.stderr
    assert not patient.path("/var/lib/containers/storage/vfs-images").exists()
    assert patient.works()
    assert patient.doctor().errors == []


def test_the_database_says_vfs_and_the_configuration_overlay(patient: Patient) -> None:
    """What is left of a podman that was used before anybody chose a driver."""
    patient.run("podman system reset --force")
    conf = patient.path(_CONF)
    text = conf.read_text()
    conf.write_text('[storage]\ndriver = "vfs"\nrunroot = "/run/containers/storage"\n'
                    'graphroot = "/var/lib/containers/storage"\n')  # fmt: skip
    patient.do("podman images -q")
    conf.write_text(text)
    assert not patient.works()
    said = patient.run(f"podman-cvmfs setup --store {STORE}").stderr
    assert "storage driver vfs (its database in" in said and "now uses" not in said, said
    assert "already uses" not in said and "podman doesn't use" in said, said
    why = patient.run(f"podman-cvmfs why {patient.image}")
    assert why.returncode and "storage driver vfs (its database in" in why.stdout, why.stdout
    found = patient.doctor()
    assert (found.code, found.errors) == (InputError.exit_code, ["driver-not-overlay"])
    patient.run(found.cure("driver-not-overlay"))
    assert patient.works()
    assert patient.doctor().errors == []


def test_user_whose_images_are_in_vfs(patient: Patient) -> None:
    """What podman 4 chooses for those who begin before there is a storage.conf."""
    patient.do("unset STORAGE_OPTS; STORAGE_DRIVER=vfs podman images -q", user=True)
    assert not patient.lists(user=True)
    found = patient.doctor(user=True)
    assert (found.code, found.errors[0]) == (InputError.exit_code, "driver-not-overlay")
    patient.do(found.cure("driver-not-overlay"), user=True)
    assert patient.works(user=True)


def test_user_whose_ids_can_not_be_mapped(patient: Patient) -> None:
    program = shutil.which("newuidmap")
    patient.do(f"touch /home/none; mount --bind /home/none {program}")
    assert patient.run("podman ps", user=True).returncode != 0
    found = patient.doctor(user=True)
    assert (found.code, found.errors[0]) == (1, "id-maps-broken")
    patient.do(f"umount {program}")
    assert patient.works(user=True)


def test_store_that_users_may_not_read(patient: Patient) -> None:
    patient.do(f"chmod 0700 {STORE}")
    named = f"export STORAGE_OPTS=overlay.imagestore={STORE};"
    assert patient.run(f"{named} podman ps", user=True).returncode != 0
    assert "store-closed" in patient.doctor(user=True, before=named).errors
    found = patient.doctor("--system", user=True, before=named)
    assert found.code == StoreError.exit_code
    assert "as root: podman-cvmfs sync --shared" in found.findings["store-closed"]["cure"]
    by_root = patient.doctor()
    assert (by_root.code, by_root.errors) == (StoreError.exit_code, ["users-locked-out"])
    patient.do(by_root.cure("users-locked-out"))
    assert patient.works(user=True)
    assert patient.doctor().errors == []
    # Or it is taken from them.
    patient.do(f"chmod 0700 {STORE}; podman-cvmfs setup --no-users")
    assert patient.doctor().errors == []
    assert patient.works() and not patient.lists(user=True)
    found = patient.doctor(user=True)
    patient.do(found.cure("store-not-configured"), user=True)
    patient.do(patient.doctor(user=True).cure("store-empty"), user=True)
    assert patient.works(user=True)


def test_store_that_nobody_has_asked_to_open(patient: Patient) -> None:
    """As all stores of earlier versions are."""
    patient.do("podman-cvmfs setup --no-users")
    assert patient.path(STORE).stat().st_mode & 0o777 == 0o755
    found = patient.doctor()
    assert (found.code, found.errors) == (PartialError.exit_code, [])
    patient.do(found.cure("store-open"))
    assert patient.path(STORE).stat().st_mode & 0o777 == 0o700
    assert "store-open" not in patient.doctor().findings
    assert patient.works()


def test_unmounted_repository(patient: Patient) -> None:
    patient.do(f"umount {REPOSITORY}")
    assert not patient.works()
    found = patient.doctor()
    assert (found.code, found.errors) == (RepositoryError.exit_code, ["repository-missing"])
    patient.do(found.cure("repository-missing"))
    assert patient.works()
    assert patient.doctor().errors == []


def test_empty_lock_files(patient: Patient, generation: Generation, tmp_path: Path) -> None:
    if not generation.version.startswith("4."):
        return  # later ones don't mind
    repository = make_repository(tmp_path / "many", 40)
    patient.do(f"podman-cvmfs -q sync --repository {repository}")
    locks = f"{STORE}/overlay-layers/layers.lock {STORE}/overlay-images/images.lock"
    patient.do(f"truncate --size=0 {locks}")
    slow = patient.seconds("podman images -q")
    found = patient.doctor()
    assert found.code == PartialError.exit_code
    patient.do(found.cure("lock-empty"))
    assert "lock-empty" not in patient.doctor().findings
    assert patient.do("podman-cvmfs verify") == ""
    assert patient.seconds("podman images -q") < slow / 2


def test_damaged_store(patient: Patient) -> None:
    patient.do(f"rm {STORE}/overlay-images/*/manifest")
    assert patient.run("podman images").returncode != 0
    found = patient.doctor()
    assert (found.code, found.errors[0]) == (StoreError.exit_code, "store-damaged")
    patient.do(found.cure("store-damaged"))
    assert patient.works()


def test_store_that_is_not_named(patient: Patient) -> None:
    patient.do("podman-cvmfs setup --undo")
    assert not patient.lists()
    found = patient.doctor()
    assert found.code == InputError.exit_code
    patient.do(found.cure("store-not-configured"))
    assert patient.works()


def test_a_byte_order_mark(patient: Patient, generation: Generation) -> None:
    conf = patient.path(_CONF)
    conf.write_bytes(b"\xef\xbb\xbf" + conf.read_bytes())
    found = patient.doctor()
    if not generation.version.startswith("4."):
        assert patient.works() and found.errors == []
        return
    assert patient.run("podman ps").returncode != 0
    assert "byte order mark" in found.findings["storage-conf-broken"]["found"]
    refused = patient.run("podman-cvmfs setup")
    assert refused.returncode == InputError.exit_code and "byte order mark" in refused.stderr
    patient.do(found.findings["storage-conf-broken"]["cure"].partition(" removes it")[0])
    assert patient.works()


def test_append_read_by_an_older_podman(patient: Patient, generation: Generation) -> None:
    if generation.drop_ins:
        return
    conf = patient.path(_CONF)
    conf.write_text(conf.read_text().replace(f'"{STORE}"', f'"{STORE}", {{append=true}}'))
    assert patient.run("podman ps").returncode != 0
    found = patient.doctor()
    assert "storage-conf-append" in found.errors
    patient.do(found.cure("storage-conf-append"))
    assert patient.works()


def test_mount_program_that_is_not_there(patient: Patient) -> None:
    conf = patient.path(_CONF)
    healthy = conf.read_text()
    conf.write_text(healthy + '[storage.options.overlay]\nmount_program = "/none"\n')
    # The site's own program stays.
    theirs = patient.doctor().findings["mount-program-missing"]
    assert "install /none" in theirs["cure"] and not theirs["is_command"]
    program = "/none/fuse-overlayfs"
    conf.write_text(healthy + f'[storage.options.overlay]\nmount_program = "{program}"\n')
    assert patient.run("podman ps").returncode != 0
    found = patient.doctor()
    assert found.errors[0] == "mount-program-missing"
    patient.do(found.cure("mount-program-missing"))
    assert patient.works()


def test_user_with_settings_of_their_own(patient: Patient, generation: Generation) -> None:
    own = patient.path(f"{HOME}/.config/containers/storage.conf")
    own.write_text('[storage]\ndriver = "overlay"\n')
    os.chown(own, UID, UID)
    if generation.drop_ins:
        return
    assert not patient.lists(user=True)
    found = patient.doctor(user=True)
    assert (found.code, found.errors) == (InputError.exit_code, ["store-not-configured"])
    assert "u: " in patient.doctor().findings["users-not-reached"]["found"]
    patient.do(found.cure("store-not-configured"), user=True)
    assert patient.works(user=True)
    shadowing = "export STORAGE_OPTS=overlay.mountopt=nodev;"
    assert not patient.lists(user=True, before=shadowing)
    found = patient.doctor(user=True, before=shadowing)
    cure = found.cure("options-replaced")
    assert patient.works(user=True, before=f"{shadowing} {cure};")


def test_users_where_no_driver_is_set(patient: Patient, generation: Generation) -> None:
    if generation.drop_ins:
        return
    patient.do("podman-cvmfs setup --undo")
    conf = patient.path(_CONF)
    places = {"runroot": "/run/containers/storage", "graphroot": "/var/lib/containers/storage"}
    conf.write_text("[storage]\n" + "".join(f'{key} = "{places[key]}"\n' for key in places))
    patient.path("/home/config.toml").write_text(f"{SETTINGS}shared = true\n")
    patient.do("podman-cvmfs setup --users")
    assert not patient.path("/etc/profile.d/podman-cvmfs.sh").exists()
    patient.do(patient.doctor().cure("users-unserved"))
    assert patient.works(user=True)


def test_user_who_has_not_logged_in_since(patient: Patient, generation: Generation) -> None:
    if generation.drop_ins:
        return
    earlier = "unset STORAGE_OPTS;"
    assert not patient.lists(user=True, before=earlier)
    found = patient.doctor(user=True, before=earlier)
    assert (found.code, found.errors) == (InputError.exit_code, ["login-needed"])
    assert patient.works(user=True, before=f"{earlier} {found.cure('login-needed')};")


def test_files_of_a_stranger(patient: Patient, tmp_path: Path) -> None:
    """What a default CernVM-FS client shows."""
    copy = tmp_path / "foreign"
    patient.do(f"cp -a {REPOSITORY} {copy}; chown -R 999:995 {copy}; chmod 0755 {tmp_path}")
    patient.do(f"umount {REPOSITORY}; mount --bind {copy} {REPOSITORY}")
    patient.do("podman-cvmfs sync")
    assert not patient.works(user=True)
    found = patient.doctor(user=True)
    assert (found.code, found.errors) == (StoreError.exit_code, ["owner-unmapped"])
    patient.do(found.cure("owner-unmapped"), user=True)
    assert patient.works(user=True)
    found = patient.doctor(user=True)
    assert found.errors == [] and "owner-kept" in found.findings
    assert "owner-foreign" in patient.doctor().findings
    # One more cure, and what it leads to is no trouble again.
    patient.do("mknod -m 0666 /home/fuse c 10 229; mount --bind /home/fuse /dev/fuse")
    found = patient.doctor(user=True)
    patient.do(found.cure("owner-kept"), user=True)
    assert patient.works(user=True)
    changed = patient.doctor(user=True).findings
    assert not {"owner-kept", "overlay-mismatch", "fuse-overlayfs-slow"} & set(changed)
    cure = changed["policy-changed"]["cure"]
    assert cure == 'set overlay = "fuse-overlayfs" in /home/config.toml'
    with patient.path("/home/config.toml").open("a") as file:
        file.write('overlay = "fuse-overlayfs"\n')
    after = patient.doctor(user=True)
    assert after.errors == [] and set(after.findings) <= set(changed) - {"policy-changed"}


@pytest.fixture
def stopped(patient: Patient, published: tuple[Path, str]) -> Iterator[tuple[Patient, int]]:
    """The repository on a file system whose server doesn't answer, and the server's process."""
    patient.do(f"umount {REPOSITORY}; mknod -m 0666 /home/fuse c 10 229")
    patient.do("mount --bind /home/fuse /dev/fuse")
    server = subprocess.Popen(
        patient.inside.command(
            ["fuse-overlayfs", "-f", "-o", f"lowerdir={published[0]}", REPOSITORY]
        )
    )
    try:
        until = time.monotonic() + 10
        while not patient.path(f"{REPOSITORY}/.layers").exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        server.send_signal(signal.SIGSTOP)
        yield patient, server.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            server.send_signal(signal.SIGCONT)
            server.kill()
        server.wait()


def test_repository_that_hangs(stopped: tuple[Patient, int]) -> None:
    patient, server = stopped
    start = time.monotonic()
    found = patient.doctor("--wait=0.5")
    assert time.monotonic() - start < 30
    assert (found.code, found.errors) == (RepositoryError.exit_code, ["repository-hangs"])
    conf = patient.path(_CONF)
    healthy = conf.read_text()
    conf.write_text(healthy.replace(f'"{STORE}"', f'"{STORE}", "{REPOSITORY}"'))
    found = patient.doctor("--wait=0.5")
    assert (found.code, found.errors[0]) == (StoreError.exit_code, "store-hangs")
    conf.write_text(healthy)
    os.kill(server, signal.SIGKILL)
    os.kill(server, signal.SIGCONT)
    conf.write_text(healthy.replace(f'"{STORE}"', f'"{STORE}", "{REPOSITORY}"'))
    assert patient.run("podman ps").returncode != 0
    assert patient.doctor().errors[0] == "store-hangs"
    conf.write_text(healthy)
    assert not patient.works()
    found = patient.doctor()
    assert (found.code, found.errors) == (RepositoryError.exit_code, ["repository-broken"])
    patient.do(found.cure("repository-broken"))
    assert patient.works()
