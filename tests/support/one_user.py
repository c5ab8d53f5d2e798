# SPDX-License-Identifier: Apache-2.0
"""A machine of its own as far as set-up and podman see: root, one ordinary user, no settings.

The directories that are written to are the test's own, bound over the real ones in a mount
namespace.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import tomlkit

from tests.support.cli import podman_cvmfs
from tests.support.podman import Podman

UID = 4242
HOME = "/home/u"
STORE = "/var/lib/podman-cvmfs/store"
#: Bound over by empty directories.
_OWN = ("/etc/profile.d", "/etc/systemd", "/var/lib", "/home", "/usr/share/containers")
_SETTINGS = "/etc/podman-cvmfs"
_CONFIGURATION = (
    *("/etc/containers", "/etc/profile.d", "/etc/systemd", _SETTINGS),
    f"{HOME}/.config",
)
#: Variables that would lead set-up and podman to other files.
_NAMING = (
    *("CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF", "CONTAINER_HOST"),
    *("STORAGE_DRIVER", "STORAGE_OPTS", "XDG_CONFIG_HOME", "XDG_DATA_HOME"),
)


class Machine:
    """A machine of its own as far as set-up and podman see: root and one ordinary user."""

    def __init__(self, podman: Podman, scratch: Path) -> None:
        self.podman = podman
        self.namespace = podman.namespace
        # Set-up writes there: it must be the test's own. Other tests may be using it as well, so it
        # stays, empty.
        os.makedirs(_SETTINGS, exist_ok=True)
        self.bind(scratch / "settings", _SETTINGS)
        for number, path in enumerate(_OWN):
            if os.path.isdir(path):
                self.bind(scratch / f"own{number}", path)
        for path in ("/var/lib/containers", "/home/u/run", "/home/u/.config/containers"):
            self.namespace.run(["mkdir", "-p", path])
        self.namespace.run(["chown", "-R", f"{UID}:{UID}", HOME])
        self.namespace.run(["chmod", "0700", f"{HOME}/run"])
        self._make_user(scratch)
        self._configure()
        self.namespace.run(["chmod", "1777", "/dev/shm"])
        # As systemd leaves it; podman warns ordinary users of anything else.
        self.namespace.run(["mount", "--make-rshared", "/"])

    def bind(self, source: Path, target: str) -> None:
        source.mkdir(parents=True, exist_ok=True)
        source.chmod(0o755)
        self.namespace.run(["mount", "--bind", source, target])

    def _make_user(self, scratch: Path) -> None:
        lines = {
            "passwd": f"u:x:{UID}:{UID}::{HOME}:/bin/sh\n",
            "group": f"u:x:{UID}:\n",
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
        argv = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "sh", "-c"]
        places = {"PATH": self.podman.env["PATH"], "HOME": HOME, "XDG_RUNTIME_DIR": f"{HOME}/run"}
        text = profile + script if login else script
        return self.namespace.run([*argv, text], env={**places, **env}, check=False)

    def ours(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``podman-cvmfs ARGS`` as root."""
        return self.root(sys.executable, "-m", "podman_cvmfs", *args, check=check)

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
        done = self.user(
            "exec /usr/bin/python3 -m podman_cvmfs setup " + " ".join(args),
            PYTHONPATH=python_path(),
            PYTHONDONTWRITEBYTECODE="1",
            LC_ALL="C.UTF-8",
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def close(self) -> None:
        """Remove the user's containers, and end the process that keeps their namespaces."""
        self.user("podman rm --all --force --time=0")
        pause = self.namespace.outside(f"{HOME}/run/libpod/tmp/pause.pid")
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


def python_path() -> str:
    """Where the distribution's interpreter finds this checkout and what it needs."""
    import click

    import podman_cvmfs as package

    places = [str(Path(str(each.__file__)).parents[1]) for each in (package, click)]
    return os.pathsep.join(places)
