# SPDX-License-Identifier: Apache-2.0
"""The containers/storage libraries of this machine and of other Debian releases, as judges.

What is built is kept in the user's cache, by what it was built from. The programs of other
releases run here, with those releases' C library, so a judgement costs a tenth of a second.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from podman_cvmfs.storage_native import Artefact, Kind, Unavailable, judge
from podman_cvmfs.storage_native.build import SOURCE, Toolchain, build, toolchain
from podman_cvmfs.store.reader import read_store
from podman_cvmfs.store.records import StoreContent
from podman_cvmfs.verify.native import differences
from tests.support.namespace import Namespace
from tests.support.roots import GENERATIONS, default_directory, host_codename, present

CHECKOUT = Path(__file__).resolve().parents[2]

#: The Debian releases whose containers/storage we know: 1.43, 1.57, 1.64.
RELEASES = [each.codename for each in GENERATIONS]

_PACKAGES = "golang-go gcc libc6-dev golang-github-containers-storage-dev"
_CACHE = Path.home() / ".cache/podman-cvmfs-test/native"
#: Seconds for which artefacts that nobody builds any more are kept.
_KEPT = 7 * 24 * 3600
_CHECKOUT_INSIDE = "/mnt"


class JudgeMissingError(RuntimeError):
    """A library can't be built here; the text says why."""


class Root:
    """Another Debian release to run commands in: as a chroot, with this machine's temporary files
    at the same place and the checkout's package for Python. Close it in the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._namespace = Namespace()
        scratch = tempfile.gettempdir()
        (path / scratch.lstrip("/")).mkdir(parents=True, exist_ok=True)
        # A mount point itself, or no namespace inside can say how its mounts are shared.
        self._namespace.run(["mount", "--rbind", path, path])
        for words in (
            ("-t", "proc", "proc", "/proc"),
            ("--rbind", "/dev", "/dev"),
            ("--rbind", "/sys", "/sys"),
            ("-t", "tmpfs", "tmpfs", "/run"),
            ("--bind", scratch, scratch),
            ("--bind", str(CHECKOUT), _CHECKOUT_INSIDE),
        ):
            self._namespace.run(["mount", *words[:-1], f"{path}{words[-1]}"])

    def python(self, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run ``python3 ARGS`` inside; no exit status is an error here."""
        variables = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "PYTHONPATH": _CHECKOUT_INSIDE,
            "PYTHONDONTWRITEBYTECODE": "1",
            **environment,
        }
        words = [f"{name}={value}" for name, value in variables.items()]
        chroot = ["chroot", str(self.path), "env", "-i", *words, "python3", *args]
        return self._namespace.run(chroot, check=False)

    def close(self) -> None:
        """Drop the mounts."""
        self._namespace.close()


def other_releases() -> dict[str, Path]:
    """Code name -> root file system of the releases that this machine doesn't run.

    Raises JudgeMissingError for the first that isn't there or can't compile.
    """
    return {name: _root_of(name) for name in RELEASES if name != host_codename()}


def _root_of(name: str) -> Path:
    root = present(default_directory(), name)
    if root is None:
        raise JudgeMissingError(f"there is no Debian {name} in {default_directory()}")
    if not (root / "usr/bin/go").exists() or not (root / "usr/share/gocode/src").exists():
        raise JudgeMissingError(f"in {root} these packages are missing: {_PACKAGES}")
    return root


def _key(status: Path) -> str:
    """What is built depends on: our sources, and the packages installed."""
    content = hashlib.sha256(f"{status} {status.stat().st_mtime_ns}".encode())
    for source in (*sorted(Path(SOURCE).glob("*.go")), Path(SOURCE).with_name("build.py")):
        content.update(source.read_bytes())
    return content.hexdigest()[:16]


def _publish(made: Path, target: Path) -> None:
    """Copy an executable file to where other test sessions may be looking for it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f"{target.name}.{os.getpid()}")
    shutil.copyfile(made, fresh)
    fresh.chmod(0o755)
    fresh.rename(target)


def _cached(status: Path, make: Callable[[str], None]) -> Path:
    """The directory of artefacts, which ``make`` fills if they aren't there yet."""
    target = _CACHE / _key(status)
    if not all((target / kind.value).exists() for kind in Kind):
        with tempfile.TemporaryDirectory() as scratch:
            make(scratch)
            for kind in Kind:
                _publish(Path(scratch, kind.value), target / kind.value)
        for other in _CACHE.iterdir():
            if time.time() - other.stat().st_mtime > _KEPT:
                shutil.rmtree(other, ignore_errors=True)
    return target


@functools.cache
def host_directory() -> Path:
    """The directory with both artefacts for this machine. Raises JudgeMissingError."""
    try:
        tools = toolchain()
    except Unavailable as err:
        raise JudgeMissingError(f"{err.message} ({err.hint})") from None
    return _cached(Path("/var/lib/dpkg/status"), lambda scratch: _build_here(scratch, tools))


def _build_here(scratch: str, tools: Toolchain) -> None:
    build(scratch, tools)


@functools.cache
def root_directory(root: Path) -> Path:
    """The same for a release's root file system."""
    return _cached(root / "var/lib/dpkg/status", lambda scratch: _build_inside(scratch, root))


def _build_inside(scratch: str, root: Path) -> None:
    inside = Root(root)
    try:
        done = inside.python("-m", "podman_cvmfs.storage_native.build", "--output", scratch)
    finally:
        inside.close()
    if done.returncode:
        raise JudgeMissingError(f"can't build in {root}: {done.stderr}")


def _wrapped(root: Path) -> Artefact:
    """The program built in ``root`` to be run here: with the C library it was built against."""
    directory = root_directory(root)
    loader = next((root / "usr").glob("lib*/**/ld-linux-*.so.*"))
    words = [loader, "--library-path", loader.parent, directory / Kind.PROGRAM.value]
    script = directory / "here"
    fresh = script.with_name(f"here.{os.getpid()}")
    fresh.write_text(f"#!/bin/sh\nexec {shlex.join(map(str, words))}\n")
    fresh.chmod(0o755)
    fresh.rename(script)
    return Artefact(Kind.PROGRAM, str(script))


@functools.cache
def _judge_of(release: str) -> Artefact:
    """A release's library as a program, which starts fastest. Raises JudgeMissingError."""
    if release == host_codename():
        return Artefact(Kind.PROGRAM, str(host_directory() / Kind.PROGRAM.value))
    return _wrapped(_root_of(release))


def judges(*, all_of_them: bool = True) -> dict[str, Artefact]:
    """Code name -> what to judge with: the library of each release, this machine's first.

    Raises JudgeMissingError where any is missing, unless whichever are here will do.
    """
    found = {}
    for release in dict.fromkeys((host_codename(), *RELEASES)):
        try:
            found[release] = _judge_of(release)
        except JudgeMissingError:
            if all_of_them:
                raise
    return found


def disagreements(store: Path, judges: Mapping[str, Artefact]) -> list[str]:
    """What any of the judges finds wrong in a store, or otherwise than our own reader does."""
    content = read_store(str(store)) or StoreContent()

    def found_by(name: str) -> list[str]:
        report = judge(str(store), artefact=judges[name])
        return [f"{name}: {each}" for each in (*report.errors, *differences(report, content))]

    with ThreadPoolExecutor(len(judges) or 1) as pool:
        return [each for found in pool.map(found_by, judges) for each in found]


def judged(store: Path) -> None:
    """Assert that the judges find nothing wrong in a store: all in CI, elsewhere those here."""
    assert disagreements(store, judges(all_of_them=bool(os.environ.get("CI")))) == []
