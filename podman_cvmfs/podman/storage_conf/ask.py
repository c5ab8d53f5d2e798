# SPDX-License-Identifier: Apache-2.0
"""Runs the podman in PATH to ask it about itself, without opening its storage."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping

from podman_cvmfs.errors import InputError, printable

#: Seconds an answer may take.
_TIMEOUT = 60


def environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The part of ``environ``, None for this process's, that such a podman needs.

    Nothing else: CONTAINER_HOST would have a podman elsewhere answer, and CONTAINERS_CONF may name
    a broken file.
    """
    environ = os.environ if environ is None else environ
    env = {
        name: environ[name]
        for name in ("PATH", "HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME")
        if environ.get(name)
    }
    env.setdefault("HOME", os.path.expanduser("~"))
    return env


def ask(
    option: str, env: Mapping[str, str], *more: str, program: str = "podman"
) -> subprocess.CompletedProcess[str]:
    """Run podman, or another ``program``, with ``option`` and ``more``. Raises InputError where
    there is none or it can't be run.

    podman may have failed: look at the exit status.
    """
    try:
        return subprocess.run(
            [program, option, *more],
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_TIMEOUT,
        )
    except FileNotFoundError:
        raise InputError(f"{program} is not in PATH", f"install {program} first") from None
    except (OSError, subprocess.SubprocessError) as err:
        raise InputError(f"can't run {program}: {printable(str(err))}") from err


def ask_version(env: Mapping[str, str]) -> str:
    """The version of podman as podman says it, "" if it says nothing. Raises InputError."""
    done = ask("--version", env)
    if done.returncode:
        raise broken(done)
    words = done.stdout.split()
    return words[-1] if words else ""


def broken(done: subprocess.CompletedProcess[str]) -> InputError:
    """The error to raise for a podman that has failed."""
    said = printable(done.stderr.strip()[-300:])
    hint = "run 'podman --help' and correct the error that it reports"
    if r"\ufeff" in said:
        hint = "take the byte order mark out of the file that it names: podman 4 can't read that"
    return InputError(f"podman doesn't start: {said}", hint)


def major_of(version: str) -> int | None:
    """The first number of a version; None where there is none."""
    number = version.partition(".")[0]
    return int(number) if number.isdecimal() else None
