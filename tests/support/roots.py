# SPDX-License-Identifier: Apache-2.0
"""Root file systems of other Debian releases, for the podmans they come with.

They are made once, with mmdebstrap, from the mirror that apt itself is configured for, and kept in
``$PODMAN_CVMFS_ROOTS`` or the user's cache.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

#: What the comparisons use inside, and what the binding to containers/storage is built with.
_PACKAGES = (
    "podman crun fuse-overlayfs uidmap netavark catatonit buildah skopeo ca-certificates python3 "
    "golang-go gcc libc6-dev golang-github-containers-storage-dev golang-github-ulikunitz-xz-dev"
)
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_MINUTES = 60


class RootError(RuntimeError):
    """A root file system can't be made here; the text says why."""


@dataclass(frozen=True)
class Generation:
    """A podman: its version as of writing, and the Debian release that has it."""

    version: str
    suite: str
    codename: str


GENERATIONS = (
    Generation("4.3.1", "Debian 12", "bookworm"),
    Generation("5.4.2", "Debian 13", "trixie"),
    Generation("5.8.6", "Debian sid", "sid"),
)


def host_codename() -> str:
    """The code name of the release this machine runs, "" if it says none."""
    try:
        text = Path("/etc/os-release").read_text()
    except OSError:
        return ""
    found = re.search(r'^VERSION_CODENAME="?(\w+)', text, re.MULTILINE)
    return found.group(1) if found else ""


def default_directory() -> Path:
    """Where roots are kept unless the command line says otherwise."""
    fallback = Path.home() / ".cache/podman-cvmfs-test/roots"
    return Path(os.environ.get("PODMAN_CVMFS_ROOTS") or fallback)


def present(directory: Path, codename: str) -> Path | None:
    """The root of a release if it is there and whole."""
    root = directory / codename
    return root if (root / "usr/bin/podman").exists() else None


def make(directory: Path, codename: str) -> Path:
    """The root of a release; made if it is missing, which takes about two minutes."""
    root = present(directory, codename)
    if root is None:
        root = directory / codename
        bootstrap(root, codename, "minbase", _PACKAGES.split())
    return root


def at_hand(directory: Path) -> list[Path]:
    """This machine's root and those already made of the other releases, oldest podman first."""
    here = host_codename()
    found = [
        Path("/") if each.codename == here else present(directory, each.codename)
        for each in GENERATIONS
    ]
    return [root for root in found if root is not None]


def bootstrap(root: Path, codename: str, variant: str, packages: Sequence[str]) -> None:
    """Make a release's root file system, all of it or nothing. Raises RootError."""
    if shutil.which("mmdebstrap") is None:
        raise RootError("mmdebstrap is not installed")
    root.parent.mkdir(parents=True, exist_ok=True)
    unfinished = root.with_name(f".{root.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    command = ["mmdebstrap", "--quiet", f"--variant={variant}"]
    command += [f"--include={','.join(packages)}"]
    # sid's Release file is often past its date on a mirror; signatures are checked all the same.
    command += ['--aptopt=Acquire::Check-Valid-Until "false"']
    if _KEYRING.exists():
        command += [f"--keyring={_KEYRING}"]
    done = subprocess.run(
        [*command, codename, unfinished, mirror()],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=_MINUTES * 60,
    )
    if done.returncode:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise RootError(f"mmdebstrap can't make {codename}: {done.stderr.strip()[-1000:]}")
    os.rename(unfinished, root)


def mirror() -> str:
    """The Debian mirror of this machine's own apt. Raises RootError if it has none."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(LABEL)"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
    ).stdout
    for line in listed.splitlines():
        uri, _, label = line.partition(" ")
        if label == "Debian":  # the security archive calls itself Debian-Security
            return uri
    raise RootError("apt names no Debian mirror: run apt-get update")


def main() -> None:
    """Make the roots of all releases but this machine's own, side by side."""
    wanted = [each.codename for each in GENERATIONS if each.codename != host_codename()]
    with ThreadPoolExecutor(len(wanted)) as pool:
        for root in pool.map(partial(make, default_directory()), wanted):
            print(root)


if __name__ == "__main__":
    main()
