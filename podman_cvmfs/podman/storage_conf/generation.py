# SPDX-License-Identifier: Apache-2.0
"""What the podman on this machine understands in its configuration files.

Version numbers don't tell: distributions build one podman with different libraries. So podman is
asked. ``podman --help`` parses the files that the environment names and fails where it can't; it
opens no storage.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass

from podman_cvmfs.errors import InputError, printable

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


def find_generation(environ: Mapping[str, str] | None = None) -> Generation:
    """Ask the podman in PATH. Raises InputError if there is none or it can't start."""
    environ = os.environ if environ is None else environ
    # Nothing else of the environment: CONTAINER_HOST would have a podman elsewhere answer.
    env = {
        name: environ[name]
        for name in ("PATH", "HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME")
        if environ.get(name)
    }
    env.setdefault("HOME", os.path.expanduser("~"))
    version = _run(["podman", "--version"], env)
    if version.returncode:
        raise _broken(version)
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
            return _run(["podman", "--help"], {**env, **named})

        drop_ins = takes(_TOKEN, "").returncode == 0
        appends = takes("", _TOKEN).returncode == 0
        if not (drop_ins or appends):
            plain = takes("", "")
            if plain.returncode:
                raise _broken(plain)
    return Generation(version.stdout.split()[-1] if version.stdout else "", drop_ins, appends)


def _run(argv: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            argv,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=60,
        )
    except FileNotFoundError:
        raise InputError("podman is not in PATH", "install podman first") from None
    except (OSError, subprocess.SubprocessError) as err:
        raise InputError(f"can't run podman: {printable(str(err))}") from err


def _broken(done: subprocess.CompletedProcess[str]) -> InputError:
    said = printable(done.stderr.strip()[-300:])
    hint = "run 'podman --help' and cure what it says"
    if r"\ufeff" in said:
        hint = "take the byte order mark out of the file that it names: podman 4 can't read that"
    return InputError(f"podman doesn't start: {said}", hint)
