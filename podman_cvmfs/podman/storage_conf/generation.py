# SPDX-License-Identifier: Apache-2.0
"""What the podman on this machine understands in its configuration files.

Version numbers don't tell: distributions build one podman with different libraries. So podman is
asked. ``podman --help`` parses the files that the environment names and fails where it can't; it
opens no storage.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass

from podman_cvmfs.errors import InputError
from podman_cvmfs.podman.storage_conf.ask import ask, ask_version, broken, environment, major_of

#: A storage.conf that every version takes; with ``{append=true}`` in the array, only
#: containers/storage 1.63 and later.
_STORAGE = """\
[storage]
driver = "overlay"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
[storage.options]
additionalimagestores = [{token}]
"""
#: A containers.conf that every version takes; with the token, containers/common 0.57 and later.
_CONTAINERS = "[containers]\nvolumes = [{token}]\n"
_TOKEN = "{append=true}"
#: Engines that may be older than podman, and that can be asked.
OTHER_ENGINES = ("buildah",)
#: The key that an error about the token names.
_KEY = "additionalimagestores"


@dataclass(frozen=True)
class Generation:
    """A podman: its version as it says it, and what it understands.

    ``drop_ins``: storage.conf has drop-in directories, and an ordinary user inherits the system's
    additional stores (containers/storage 1.63 and later, ``pkg/configfile``). ``appends``: the
    arrays in containers.conf take ``{append=true}``.
    """

    version: str
    drop_ins: bool
    appends: bool

    @property
    def major(self) -> int | None:
        """The first number of the version."""
        return major_of(self.version)


def find_generation(environ: Mapping[str, str] | None = None) -> Generation:
    """Ask the podman in PATH. Raises InputError if there is none or it can't start."""
    env = environment(environ)
    version = ask_version(env)
    with tempfile.TemporaryDirectory(prefix="podman-cvmfs-") as scratch:

        def takes(storage_token: str, containers_token: str) -> subprocess.CompletedProcess[str]:
            files = {"storage": _STORAGE, "containers": _CONTAINERS}
            tokens = {"storage": storage_token, "containers": containers_token}
            for name, text in files.items():
                with open(f"{scratch}/{name}.conf", "w", encoding="utf-8") as file:
                    file.write(text.replace("{token}", tokens[name]))
            named = {
                "CONTAINERS_STORAGE_CONF": f"{scratch}/storage.conf",
                "CONTAINERS_CONF": f"{scratch}/containers.conf",
            }
            return ask("--help", {**env, **named})

        drop_ins = takes(_TOKEN, "").returncode == 0
        appends = takes("", _TOKEN).returncode == 0
        if not (drop_ins or appends):
            plain = takes("", "")
            if plain.returncode:
                raise broken(plain)
    return Generation(version, drop_ins, appends)


def reads_no_drop_ins(program: str, environ: Mapping[str, str] | None = None) -> bool:
    """Whether ``program``, an engine beside podman, is there and reads no drop-ins of storage.conf.

    It says so by its complaint about the token: engines load storage.conf before anything else.
    False if it can't be asked. skopeo loads storage.conf too late for that.
    """
    with tempfile.TemporaryDirectory(prefix="podman-cvmfs-") as scratch:
        path = f"{scratch}/storage.conf"
        with open(path, "w", encoding="utf-8") as file:
            file.write(_STORAGE.replace("{token}", _TOKEN))
        env = {**environment(environ), "CONTAINERS_STORAGE_CONF": path}
        try:
            done = ask("--help", env, program=program)
        except InputError:
            return False
    return _KEY in done.stderr
