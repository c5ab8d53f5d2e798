# SPDX-License-Identifier: Apache-2.0
"""``setup`` with a real podman as the judge: the system's own files, root and an ordinary user.

The directories that it writes to are the test's own, bound over the real ones in a mount
namespace.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomlkit

from podman_cvmfs.setup import snippet
from podman_cvmfs.storage_conf.generation import Generation, find_generation
from tests.support.cli import Target, podman_cvmfs
from tests.support.ducc_sample import Sample
from tests.support.podman import BUSYBOX, Host, Podman, running

_UID = 4242
_HOME = "/home/u"
_STORE = "/var/lib/podman-cvmfs/store"
#: Bound over by empty directories.
_OWN = ("/etc/profile.d", "/etc/systemd", "/var/lib", "/home", "/usr/share/containers")
_CONFIGURATION = ("/etc/containers", "/etc/profile.d", "/etc/systemd", f"{_HOME}/.config")
#: Variables that would lead set-up and podman to other files.
_NAMING = (
    *("CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF", "CONTAINER_HOST"),
    *("STORAGE_DRIVER", "STORAGE_OPTS", "XDG_CONFIG_HOME", "XDG_DATA_HOME"),
)
#: A podman that understands no token in arrays.
_OLDER = """\
#!/bin/sh
[ "$1" != --version ] || { echo podman version 4.0.0; exit; }
! grep -q append "$CONTAINERS_STORAGE_CONF" "$CONTAINERS_CONF"
"""


class Machine:
    """A machine of its own as far as set-up and podman see: root and one ordinary user."""

    def __init__(self, podman: Podman, scratch: Path) -> None:
        self.podman = podman
        self.namespace = podman.namespace
        for number, path in enumerate(_OWN):
            if os.path.isdir(path):
                self._bind(scratch / f"own{number}", path)
        for path in ("/var/lib/containers", "/home/u/run", "/home/u/.config/containers"):
            self.namespace.run(["mkdir", "-p", path])
        self.namespace.run(["chown", "-R", f"{_UID}:{_UID}", _HOME])
        self.namespace.run(["chmod", "0700", f"{_HOME}/run"])
        self._make_user(scratch)
        self._configure()
        self.namespace.run(["chmod", "1777", "/dev/shm"])
        # As systemd leaves it; podman warns ordinary users of anything else.
        self.namespace.run(["mount", "--make-rshared", "/"])

    def _bind(self, source: Path, target: str) -> None:
        source.mkdir(parents=True, exist_ok=True)
        source.chmod(0o755)
        self.namespace.run(["mount", "--bind", source, target])

    def _make_user(self, scratch: Path) -> None:
        lines = {
            "passwd": f"u:x:{_UID}:{_UID}::{_HOME}:/bin/sh\n",
            "group": f"u:x:{_UID}:\n",
            "subuid": "u:500000:65536\n",
            "subgid": "u:500000:65536\n",
        }
        for name, line in lines.items():
            file, real = scratch / name, Path("/etc", name)
            file.write_text(real.read_text() + line)
            self.namespace.run(["mount", "--bind", file, real])

    def _configure(self) -> None:
        """Have podman run as it can here; nothing about storage."""
        etc = self.namespace.outside("/etc/containers")
        shutil.copy(self.podman.root / "home/.config/containers/policy.json", etc / "policy.json")
        document = tomlkit.parse((self.podman.root / "etc/containers.conf").read_text()).unwrap()
        # Places of root's own, which an ordinary user can't write to.
        del document["network"], document["engine"]["tmp_dir"]
        del document["engine"]["image_copy_tmp_dir"]
        (etc / "containers.conf").write_text(tomlkit.dumps(document))

    def root(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command as root, with an environment in which no variable names a file."""
        env = {name: self.podman.env[name] for name in ("PATH", "HOME", "TMPDIR", "LANG")}
        return self.namespace.run(argv, env=env, check=check)

    def user(
        self, script: str, *, login: bool = True, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell script as the ordinary user, after a login or without one."""
        profile = "for f in /etc/profile.d/*.sh; do [ ! -r $f ] || . $f; done; "
        argv = ["setpriv", f"--reuid={_UID}", f"--regid={_UID}", "--clear-groups", "sh", "-c"]
        places = {"PATH": self.podman.env["PATH"], "HOME": _HOME, "XDG_RUNTIME_DIR": f"{_HOME}/run"}
        text = profile + script if login else script
        return self.namespace.run([*argv, text], env={**places, **env}, check=False)

    def images(self) -> list[str]:
        """The names that root's podman lists."""
        return _names(self.root("podman", "images", "--format", "json").stdout)

    def user_images(self, *, login: bool = True) -> list[str]:
        """The names that the user's podman lists."""
        done = self.user("podman images --format json", login=login)
        assert done.returncode == 0, done.stderr
        return _names(done.stdout)

    def set_up(self, *args: str, path: str = "") -> str:
        """Run ``podman-cvmfs setup ARGS`` as root, which must work; return what it says."""
        prefix = ["env", *(word for name in _NAMING for word in ("-u", name))]
        prefix += [f"HOME={self.podman.env['HOME']}", f"PATH={path or self.podman.env['PATH']}"]
        done = podman_cvmfs("setup", *args, within=self.namespace, prefix=prefix)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def set_up_user(self, *args: str) -> str:
        """The same as the ordinary user, by the distribution's interpreter: they can use that."""
        import click

        import podman_cvmfs as package

        places = [str(Path(str(each.__file__)).parents[1]) for each in (package, click)]
        done = self.user(
            "exec /usr/bin/python3 -m podman_cvmfs setup " + " ".join(args),
            PYTHONPATH=os.pathsep.join(places),
            PYTHONDONTWRITEBYTECODE="1",
            LC_ALL="C.UTF-8",
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def close(self) -> None:
        """Remove the user's containers, and end the process that keeps their namespaces."""
        self.user("podman rm --all --force --time=0")
        pause = self.namespace.outside(f"{_HOME}/run/libpod/tmp/pause.pid")
        if pause.exists():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pause.read_text()), signal.SIGKILL)

    def files(self) -> dict[str, tuple[bytes, int, int]]:
        """All configuration: content, mode and owner of each file; directories too."""
        found = {}
        for top in _CONFIGURATION:
            for path in self.namespace.outside(top).rglob("*"):
                # podman makes lock files and directories for networks.
                if not {"networks", "cni"} & set(path.parts):
                    data = path.read_bytes() if path.is_file() else b""
                    found[str(path)] = (data, path.stat().st_mode, path.stat().st_uid)
        return found


def _names(listed: str) -> list[str]:
    return sorted(name for image in json.loads(listed) for name in image.get("Names") or [])


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
    target = Target(sample.repository, Path(_STORE), machine.podman.root / "cache")
    done = podman_cvmfs(*target.argv("--offline"), within=machine.namespace)
    assert done.returncode == 0, done.stderr
    return machine


@pytest.fixture(scope="module")
def generation() -> Generation:
    """What the podman under test understands."""
    return find_generation()


def test_root_and_users_get_the_store_and_undo_restores_every_byte(filled: Machine) -> None:
    before = filled.files()
    assert (filled.images(), filled.user_images()) == ([], [])
    # Where the driver was left to podman, the user's first command may have chosen another.
    filled.namespace.run(["rm", "-rf", f"{_HOME}/.local"])
    filled.set_up()
    listed = filled.images()
    assert len(listed) == 3
    assert filled.user_images() == listed
    after = filled.files()
    assert "already uses" in filled.set_up()
    assert filled.files() == after
    filled.set_up("--undo")
    assert filled.files() == before
    assert (filled.images(), filled.user_images()) == ([], [])


def test_dry_run_shows_and_changes_nothing(machine: Machine) -> None:
    before = machine.files()
    assert f'+additionalimagestores = ["{_STORE}"' in machine.set_up("--dry-run")
    assert machine.files() == before
    assert not machine.namespace.outside("/var/lib/podman-cvmfs").exists()


def test_podman_works_with_the_empty_store(machine: Machine) -> None:
    machine.set_up()
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
        assert added == {f'"{_STORE}",'}
    filled.set_up("--undo")
    assert filled.files() == before


def test_user_with_settings_of_their_own_is_left_alone_and_named(
    filled: Machine, generation: Generation
) -> None:
    own = filled.namespace.outside(f"{_HOME}/.config/containers/storage.conf")
    own.write_text('[storage]\ndriver = "overlay"\n[storage.options.overlay]\nmountopt = "nodev"\n')
    os.chown(own, _UID, _UID)
    said = filled.set_up()
    info = filled.user("podman info --format json")
    assert "nodev" in json.dumps(json.loads(info.stdout)["store"]["graphOptions"])
    if generation.drop_ins:
        assert len(filled.user_images()) == 3
        return
    assert f"not reached: u: {_HOME}/.config/containers/storage.conf" in said
    assert filled.user_images() == []
    filled.set_up_user("--user", "--store", _STORE)
    assert len(filled.user_images()) == 3
    filled.set_up_user("--undo")
    assert filled.user_images() == []


def test_user_whose_images_are_in_vfs_goes_on_working(
    filled: Machine, generation: Generation
) -> None:
    made = filled.user("STORAGE_DRIVER=vfs podman images -q")
    assert made.returncode == 0, made.stderr
    said = filled.set_up()
    if not generation.drop_ins:
        assert "not reached: u: keeps images with the driver vfs" in said
        done = filled.user("podman images -q")
        assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_user_sets_up_alone(filled: Machine) -> None:
    before = filled.files()
    filled.set_up_user("--store", _STORE)
    assert len(filled.user_images(login=False)) == 3
    assert filled.images() == []
    filled.set_up_user("--undo")
    assert filled.files() == before


def test_service_manager_gets_what_a_login_gets(filled: Machine, generation: Generation) -> None:
    filled.set_up()
    script = "/etc/systemd/user-environment-generators/60-podman-cvmfs"
    needed = os.path.isdir("/etc/systemd") and not generation.drop_ins
    assert filled.namespace.outside(script).exists() == needed
    if needed:
        printed = filled.user(script, login=False).stdout
        assert printed == f"STORAGE_OPTS=overlay.imagestore={_STORE}\n"


def test_login_asks_a_podman_it_has_not_seen(filled: Machine, generation: Generation) -> None:
    """After an upgrade the options of the environment may replace all others."""
    filled.set_up()
    profile = filled.namespace.outside("/etc/profile.d/podman-cvmfs.sh")
    profile.write_text(snippet.profile_text(_STORE, None, "another"))
    told = "" if generation.drop_ins else f"overlay.imagestore={_STORE}"
    assert filled.user('printf %s "${STORAGE_OPTS-}"').stdout == told
    assert len(filled.user_images()) == 3


def test_driver_left_to_podman_leaves_users_working(
    filled: Machine, generation: Generation
) -> None:
    path = filled.namespace.outside("/etc/containers/storage.conf")
    places = 'runroot = "/run/containers/storage"\ngraphroot = "/var/lib/containers/storage"\n'
    path.write_text("[storage]\n" + places)
    said = filled.set_up()
    assert len(filled.images()) == 3
    assert ("sets no driver" in said) != generation.drop_ins
    if not generation.drop_ins:  # Newer ones take the system's directories for users.
        assert filled.user("podman images").returncode == 0


def test_what_was_set_up_for_an_older_podman_serves_a_newer_one(filled: Machine) -> None:
    """No command of root or a user may fail between podman's upgrade and the next set-up."""
    older = filled.podman.root / "older"
    older.mkdir()
    (older / "podman").write_text(_OLDER)
    (older / "podman").chmod(0o755)
    before = filled.files()
    said = filled.set_up(path=f"{older}:{filled.podman.env['PATH']}")
    assert "podman 4.0.0 now uses" in said
    assert len(filled.images()) == 3
    assert len(filled.user_images()) == 3
    filled.set_up()
    assert len(filled.images()) == 3
    assert len(filled.user_images()) == 3
    filled.set_up("--undo")
    assert filled.files() == before


@pytest.fixture
def cvmfs(machine: Machine, tmp_path: Path) -> Iterator[Machine]:
    """The machine with two repositories below /cvmfs, and a root file system for containers."""
    made = not os.path.isdir("/cvmfs")
    if made:
        os.mkdir("/cvmfs")
    try:
        for name in ("atlas.cern.ch", "sft.cern.ch"):
            (tmp_path / "cvmfs" / name).mkdir(parents=True)
            (tmp_path / "cvmfs" / name / "file").write_text(name)
        machine._bind(tmp_path / "cvmfs", "/cvmfs")
        for name in ("bin", "dev", "proc", "sys", "tmp", "etc", "run", "cvmfs", "data"):
            machine.user(f"mkdir -p ~/rootfs/{name}")
        machine.user(f"cp {BUSYBOX} ~/rootfs/bin/busybox")
        yield machine
    finally:
        if made:
            with contextlib.suppress(OSError):
                os.rmdir("/cvmfs")


_RUN = f"podman run --rm --rootfs {_HOME}/rootfs /bin/busybox"


def _both(machine: Machine, command: str) -> list[str]:
    """What ``command`` prints in a container of root and in one of the user."""
    printed = []
    for done in (
        machine.root("sh", "-c", f"{_RUN} {command}", check=False),
        machine.user(f"{_RUN} {command}"),
    ):
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout)
    return printed


def test_containers_see_cvmfs(cvmfs: Machine) -> None:
    before = cvmfs.files()
    assert _both(cvmfs, "ls /cvmfs") == [""] * 2
    cvmfs.set_up("--mount-cvmfs")
    assert _both(cvmfs, "ls /cvmfs") == ["atlas.cern.ch\nsft.cern.ch\n"] * 2
    assert _both(cvmfs, "cat /cvmfs/sft.cern.ch/file") == ["sft.cern.ch"] * 2
    refused = cvmfs.root("sh", "-c", f"{_RUN} touch /cvmfs/new", check=False)
    assert "Read-only file system" in refused.stderr
    cvmfs.set_up("--mount-cvmfs=sft.cern.ch")
    assert _both(cvmfs, "ls /cvmfs") == ["sft.cern.ch\n"] * 2
    cvmfs.set_up("--undo")
    assert cvmfs.files() == before


def test_containers_see_what_is_mounted_later(cvmfs: Machine, tmp_path: Path) -> None:
    """As autofs does: on the host, while the container runs."""
    cvmfs.set_up("--mount-cvmfs")
    later = tmp_path / "later"
    later.mkdir()
    (later / "late").write_text("late")
    script = (
        "i=0; until test -e /cvmfs/atlas.cern.ch/late;"
        " do i=$((i+1)); [ $i -lt 100 ] || exit 1; sleep 0.1; done"
    )
    started = f"podman run -d --name waiting --rootfs {_HOME}/rootfs /bin/busybox sh -c '{script}'"
    for done in (cvmfs.root("sh", "-c", started), cvmfs.user(started)):
        assert done.returncode == 0, done.stderr
    cvmfs.namespace.run(["mount", "--bind", later, "/cvmfs/atlas.cern.ch"])
    assert cvmfs.root("podman", "wait", "waiting").stdout == "0\n"
    assert cvmfs.user("podman wait waiting").stdout == "0\n"


def test_admin_s_volumes_stay_in_containers(cvmfs: Machine, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "mine").write_text("")
    cvmfs._bind(data, "/usr/share/containers")
    drop_in = cvmfs.namespace.outside("/etc/containers/containers.conf.d/50-admin.conf")
    drop_in.parent.mkdir(exist_ok=True)
    drop_in.write_text('[containers]\nvolumes = ["/usr/share/containers:/data:ro"]\n')
    cvmfs.set_up("--mount-cvmfs=sft.cern.ch")
    assert _both(cvmfs, "ls /cvmfs /data") == ["/cvmfs:\nsft.cern.ch\n\n/data:\nmine\n"] * 2


def test_missing_repository_is_refused(cvmfs: Machine) -> None:
    before = cvmfs.files()
    done = podman_cvmfs("setup", "--mount-cvmfs=none.cern.ch", within=cvmfs.namespace)
    assert done.returncode == 3
    assert "/cvmfs/none.cern.ch is not there" in done.stderr
    assert cvmfs.files() == before
