# SPDX-License-Identifier: Apache-2.0
"""Compile the shared library and the program: ``python3 -m podman_cvmfs.storage_native.build``.

Needs Go, a C compiler, and the source of containers/storage as distributions package it: on
Debian golang-go, gcc, libc6-dev, golang-github-containers-storage-dev and, up to Debian 12,
golang-github-ulikunitz-xz-dev, which that one forgets. That is the very source the
distribution's podman is built from. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass

from podman_cvmfs.errors import PodmanCvmfsError, printable
from podman_cvmfs.storage_native.artefact import PACKAGE_DIRECTORY, Kind
from podman_cvmfs.storage_native.errors import Unavailable

SOURCE = os.path.join(PACKAGE_DIRECTORY, "go")

#: Where distributions put the sources of Go libraries; the environment's GOPATH comes first.
_GOPATH = "/usr/share/gocode"
_IMPORT_PATH = "podman-cvmfs/storage"
#: Storage drivers that need further C libraries.
_WITHOUT = tuple(f"exclude_graphdriver_{name}" for name in ("btrfs", "devicemapper", "zfs", "aufs"))
#: pie, not exe: what it compiles is what the shared library needs too, so it is compiled once.
_MODES = {Kind.LIBRARY: "c-shared", Kind.PROGRAM: "pie"}


@dataclass(frozen=True)
class Toolchain:
    """What there is to build with: Go, the GOPATH with containers/storage, the version of that,
    and the build tag of the generation it belongs to."""

    go: str
    gopath: str
    version: str
    tag: str


def toolchain() -> Toolchain:
    """Find it. Raises Unavailable with what is missing."""
    hint = (
        "on Debian: apt install golang-go gcc libc6-dev golang-github-containers-storage-dev "
        "golang-github-ulikunitz-xz-dev"
    )
    go = shutil.which("go")
    if go is None:
        raise Unavailable("Go is not installed, which containers/storage is written in", hint)
    compiler = os.environ.get("CC", "gcc").split()[0]
    if shutil.which(compiler) is None:
        raise Unavailable(f"the C compiler {printable(compiler)} is not installed", hint)
    for gopath in (*os.environ.get("GOPATH", "").split(os.pathsep), _GOPATH):
        found = _generation(gopath) if gopath else None
        if found is not None:
            directory, tag = found
            version = _version(directory) or tag.partition("_")[2].replace("_", ".")
            return Toolchain(go, gopath, version, tag)
    raise Unavailable(f"the source of containers/storage is not in {_GOPATH}", hint)


def _generation(gopath: str) -> tuple[str, str] | None:
    """The directory of containers/storage and the generation's build tag."""
    new = os.path.join(gopath, "src/go.podman.io/storage")
    old = os.path.join(gopath, "src/github.com/containers/storage")
    if os.path.isdir(new):
        return new, "storage_1_64"
    if os.path.isfile(os.path.join(old, "check.go")):
        return old, "storage_1_57"
    if os.path.isdir(old):
        return old, "storage_1_43"
    return None


def _version(directory: str) -> str | None:
    """Its version: in its own file from 1.50 or so on, else as the package manager knows it."""
    try:
        with open(os.path.join(directory, "VERSION"), encoding="ascii") as file:
            return file.read().strip()
    except (OSError, UnicodeDecodeError):
        pass
    query = ["dpkg-query", "-W", "-f", "${Version}", "golang-github-containers-storage-dev"]
    try:
        done = subprocess.run(query, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    except OSError:
        return None
    return done.stdout.partition("+")[0].partition("-")[0] or None


def build(output: str, tools: Toolchain | None = None) -> list[str]:
    """Compile both artefacts into the directory ``output``; their paths.

    Each appears whole or not at all. Raises Unavailable for missing tools and for source that
    doesn't compile.
    """
    tools = tools or toolchain()
    built = []
    with tempfile.TemporaryDirectory(prefix="podman-cvmfs-build-") as scratch:
        # Inside a GOPATH the path of the checkout doesn't get into the result.
        shutil.copytree(SOURCE, os.path.join(scratch, "src", _IMPORT_PATH))
        environment = _environment(tools, scratch)
        for kind, mode in _MODES.items():
            made = os.path.join(scratch, kind.value)
            argv = [
                tools.go,
                "build",
                f"-buildmode={mode}",
                "-trimpath",
                f"-ldflags=-s -w -X main.storageVersion={tools.version}",
                f"-tags={' '.join((*_WITHOUT, tools.tag))}",
                f"-o={made}",
                _IMPORT_PATH,
            ]
            done = subprocess.run(
                argv, cwd=scratch, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            if done.returncode:
                words = done.stdout.decode(errors="replace").strip()
                raise Unavailable(f"{kind.value} doesn't compile:\n{words}")
            built.append(_install(made, os.path.join(output, kind.value)))
    return built


def _environment(tools: Toolchain, scratch: str) -> dict[str, str]:
    """Go as it must be for distributions' sources: no modules, no network, no user's settings."""
    environment = {
        **os.environ,
        "GO111MODULE": "off",
        "GOPATH": scratch + os.pathsep + tools.gopath,
        "GOPROXY": "off",
        "GOTOOLCHAIN": "local",
        "GOENV": "off",
        "GOFLAGS": "",
        "CGO_ENABLED": "1",
    }
    home = environment.get("XDG_CACHE_HOME") or environment.get("HOME")
    if "GOCACHE" not in environment and not (home and os.access(home, os.W_OK)):
        # Package builds have no home.
        environment["GOCACHE"] = os.path.join(scratch, "cache")
    return environment


def _install(made: str, target: str) -> str:
    """Put the file ``made`` in place of ``target``, which a process may just be using."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    shutil.copyfile(made, target + ".new")
    os.chmod(target + ".new", 0o755)
    os.replace(target + ".new", target)
    return target


def main() -> int:
    """Build and say where; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python3 -m podman_cvmfs.storage_native.build",
        description="Compile the containers/storage library for podman-cvmfs.",
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        default=PACKAGE_DIRECTORY,
        help="where to put the two files, to be named by PODMAN_CVMFS_NATIVE_LIBRARY then "
        "(default: where podman-cvmfs finds them by itself)",
    )
    arguments = parser.parse_args()
    try:
        tools = toolchain()
        print(f"containers/storage {tools.version} in {tools.gopath}")
        for path in build(os.path.abspath(arguments.output), tools):
            print(path)
    except PodmanCvmfsError as err:
        print(f"{parser.prog}: error: {err.message}", file=sys.stderr)
        if err.hint:
            print(f"  hint: {err.hint}", file=sys.stderr)
        return err.exit_code
    except OSError as err:
        print(f"{parser.prog}: error: {err.strerror} ({err.filename})", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
