# SPDX-License-Identifier: Apache-2.0
"""Records which files a container opens, while it runs as it would otherwise."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from podman_cvmfs.errors import PodmanCvmfsError, printable
from podman_cvmfs.profiles.fanotify import OpenedFiles
from podman_cvmfs.profiles.profile import MAX_FILES, Profile, Use, is_path
from podman_cvmfs.profiles.shown import ShownImage
from podman_cvmfs.store.records import StoredImage

#: How often to look whether the container has ended, in seconds.
_LOOK = 0.1


@dataclass(frozen=True)
class Recording:
    """``code`` is the container's exit code; None if it was ended after the time limit."""

    profile: Profile
    code: int | None
    is_incomplete: bool


def record(
    shown: ShownImage, image: StoredImage, command: Sequence[str], seconds: float
) -> Recording:
    """Run a new container of ``image`` by podman, and record the files that it opens.

    After ``seconds`` the container is ended; it is removed in any case. Its output goes where ours
    goes. Raises PodmanCvmfsError if podman or the kernel refuse.
    """
    container = _podman("create", "--pull=never", image.image_id, *command)
    try:
        mounted = _podman("mount", container)
        opened = OpenedFiles(mounted)
        try:
            paths, code = _watch(opened, container, seconds)
        finally:
            opened.close()
    finally:
        _remove(container)
    inside = (_inside(path, mounted) for path in paths)
    return Recording(profile_of(shown, image, inside), code, opened.is_incomplete)


def profile_of(shown: ShownImage, image: StoredImage, paths: Iterable[str]) -> Profile:
    """The profile of an image of which these paths were used, in this order, maybe repeatedly. Only
    files of its repository count: all others are here anyway."""
    repository = os.path.realpath(image.repository)
    uses = []
    for path in dict.fromkeys(paths):
        with contextlib.suppress(OSError):
            where = shown.locate(path) if is_path(path) else None
            if where is not None and where.startswith(f"{repository}/"):
                uses.append(Use(path))
        if len(uses) == MAX_FILES:
            break
    return Profile(image.source_id, tuple(uses))


def _watch(opened: OpenedFiles, container: str, seconds: float) -> tuple[list[str], int | None]:
    """The paths opened until the container's end, and its exit code."""
    deadline = time.monotonic() + seconds
    paths: dict[str, None] = {}
    with subprocess.Popen(
        ["podman", "start", "--attach", container], stdin=subprocess.DEVNULL
    ) as run:
        try:
            while run.poll() is None and time.monotonic() < deadline:
                select.select([opened.descriptor], [], [], _LOOK)
                paths.update(dict.fromkeys(opened.paths()))
            paths.update(dict.fromkeys(opened.paths()))
            code = run.poll()
        finally:
            if run.poll() is None:
                _remove(container)
    return list(paths), code


def _remove(container: str) -> None:
    """End and remove the container, with the volumes made for it."""
    with contextlib.suppress(PodmanCvmfsError):
        _podman("rm", "--force", "--ignore", "--volumes", "--time=1", container)


def _inside(path: str, mounted: str) -> str:
    """The path in the container: it is told by the container's own mount, or by the one that
    podman has made of the container."""
    return path[len(mounted) + 1 :] if path.startswith(f"{mounted}/") else path.lstrip("/")


def _podman(*args: str) -> str:
    try:
        done = subprocess.run(
            ["podman", *args],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
        )
    except OSError as err:
        raise PodmanCvmfsError(f"can't run podman: {err.strerror}") from None
    if done.returncode != 0:
        said = printable(done.stderr.strip().rpartition("\n")[2])
        raise PodmanCvmfsError(f"podman {args[0]} failed: {said}")
    return done.stdout.strip()
