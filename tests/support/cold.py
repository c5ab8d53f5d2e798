# SPDX-License-Identifier: Apache-2.0
"""A repository of programs that the emulated CernVM-FS client shows, to start containers from."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

from podman_cvmfs.profiles.shown import ShownImage, shown_image
from podman_cvmfs.settings.files import VARIABLE
from podman_cvmfs.setup.hook import hook
from podman_cvmfs.store.reader import read_store
from podman_cvmfs.store.records import StoreContent, StoredImage
from tests.support.cli import Target, succeed
from tests.support.images import Built, write_layout
from tests.support.mounted import Mounted, mounted
from tests.support.podman import Podman, running


class Stage:
    """Images in a repository, and a store whose layers lead to its mount.

    Each ``cold`` mount has an empty cache. ``delay`` is what a request to the server takes, in
    seconds.
    """

    def __init__(self, root: Path, images: list[Built], *options: str) -> None:
        self.root = root
        self.repository = root / "repository"
        self.target = Target(root / "mount", root / "store", root / "cache")
        self.hooks = root / "hooks"
        self.hooks.mkdir()
        self.marks = root / "marks"
        (root / "profiles").mkdir()
        settings = root / "config.toml"
        settings.write_text(f'offline = true\nprofiles = "{root / "profiles"}"\n')
        self.settings = settings
        for built in images:
            layout = root / "layouts" / built.image_id
            write_layout([built], layout)
            succeed(
                "publish",
                f"oci:{layout}:{built.tag}",
                "--name",
                self.name(built),
                "--repository",
                self.repository,
            )
        with self.cold(0):
            self.target.sync("--offline", *options)

    @staticmethod
    def name(built: Built) -> str:
        """podman's name of an image."""
        return f"registry.example.org/{built.image.name}"

    @contextlib.contextmanager
    def cold(self, delay: float) -> Iterator[Mounted]:
        """The mount of a client that has nothing in its cache. No image has been read until now."""
        shutil.rmtree(self.marks, ignore_errors=True)
        place = self.root / "client"
        with mounted(self.repository, self.target.repository, place) as client:
            client.tell(delay=delay)
            yield client

    @contextlib.contextmanager
    def podman(self) -> Iterator[Podman]:
        """A podman with the store, that has started once."""
        with running(self.root / "podman", stores=[self.target.store]) as found:
            found.run("ps")
            yield found

    def stored(self, built: Built) -> tuple[StoreContent, StoredImage]:
        """What the store holds, and an image in it."""
        content = read_store(str(self.target.store))
        assert content is not None
        return content, content.images[content.names[self.name(built)]]

    def shown(self, built: Built) -> ShownImage:
        """Where an image's files are."""
        return shown_image(str(self.target.store), *self.stored(built))

    def profile(self, built: Built) -> Path:
        """Where the site has the profile of an image."""
        return self.root / "profiles" / built.image_id

    def run(self, podman: Podman, *args: str) -> str:
        """Run ``podman-cvmfs ARGS`` beside a podman; return its standard output."""
        # podman's environment leads to its own configuration.
        env = {**podman.env, VARIABLE: str(self.settings), "PYTHONPATH": os.pathsep.join(sys.path)}
        command, *more = args
        argv = [sys.executable, "-m", "podman_cvmfs", command]
        argv += ["--store", str(self.target.store), *more]
        return podman.namespace.run(argv, env=env).stdout

    def add_hook(self) -> Path:
        """A directory of hooks for ``podman --hooks-dir``, with the one that reads early."""
        with patch.dict(os.environ, {VARIABLE: str(self.settings)}):
            made = hook(str(self.target.store), str(self.marks))
        (self.hooks / "prefetch.json").write_bytes(made)
        return self.hooks
