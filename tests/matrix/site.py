# SPDX-License-Identifier: Apache-2.0
"""What all cells of the matrix share: the images in a registry, repositories of them, machines."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from podman_cvmfs.settings.policy import Reuse
from tests.matrix import change_scripts
from tests.matrix.host import FOREIGN, USER, Machine, User, interpreter
from tests.support.cli import succeed
from tests.support.comparison import EXTRA
from tests.support.ducc_losses import lossy_copy
from tests.support.images import IMAGES, build, deep, push
from tests.support.mounted import Mounted
from tests.support.registry import Registry
from tests.support.tar_lists import TarLists, sync_exact

#: Owners of a repository's files: as published (by root); one foreign user's, as a default
#: CernVM-FS client shows them; the user's own, as where the user has mounted it.
OWNERS = {"root": None, "foreign": FOREIGN, "user": (USER.uid, USER.uid)}


class SyncError(AssertionError):
    """A sync that should have worked didn't; the text is what it said."""


class Site:
    """A registry and repositories in a directory that machines see at the same path.

    ``deep`` images are in repositories of their own, since not every podman can mount them.
    """

    def __init__(self, data: Path) -> None:
        self.data = data
        # The machines' users live here; a rootless build of podman 5 wants the directory.
        (data / ".config").mkdir()
        os.chown(data / ".config", USER.uid, USER.uid)
        self.registry = Registry(data / "registry")
        self.images = {image.name: build(image) for image in [*IMAGES, *EXTRA]}
        self.deep = {image.name: build(image) for image in (deep(60), deep(120))}
        self._clients: dict[Path, Mounted] = {}
        # Not on the file system of the graphroots: there, starts can lock up with a client.
        self._caches = Path(tempfile.mkdtemp(prefix="pcm", dir="/dev/shm"))
        self._home: Machine | None = None
        self._python: list[str] = []
        for built in (*self.images.values(), *self.deep.values()):
            push(built, self.registry)

    def name(self, image: str) -> str:
        """An image's full name."""
        return f"{self.registry.address}/{image}"

    def repository(self, owner: str = "root", *, deep: bool = False) -> Path:
        """The repository of all images whose files belong to ``owner``; made on first use."""
        kind = "deep" if deep else "plain"
        path = self.data / f"{kind}-{owner}"
        if path.exists():
            return path
        if owner == "root":
            images = self.deep if deep else self.images
            sources = [f"http://{self.name(image)}" for image in images]
            succeed("publish", *sources, "--repository", path)
            return path
        return self.owned(self.repository("root", deep=deep), owner, path)

    def owned(self, repository: Path, owner: str, path: Path | None = None) -> Path:
        """A copy of ``repository`` whose files belong to ``owner``; made on first use, at ``path``
        or beside it."""
        path = path or repository.with_name(f"{repository.name}-{owner}")
        ids = OWNERS[owner]
        if ids is not None and not path.exists():
            subprocess.run(["cp", "-a", repository, path], check=True)
            give(path, *ids)
        return path if ids is not None else repository

    def shown(self, repository: Path, owner: str, mount: bool) -> Path:
        """Where ``repository`` is shown with files of ``owner``: as a plain directory, or with
        ``mount`` as DUCC leaves it and CernVM-FS's client shows it; made on first use.

        On a mount, "root" stands for a client that doesn't claim the files: merged roots have the
        image's owners, layers the publisher's. Podmans see a mount if they are made after it.
        """
        if not mount:
            return self.owned(repository, owner)
        # A short path: podman 4 has but a page for the paths of all lower directories.
        place = self.data / f"m-{repository.name}-{owner}"
        if place not in self._clients:
            lossy = repository.with_name(f"{repository.name}-lossy")
            if not lossy.exists():
                lossy_copy(repository, lossy)
            self._clients[place] = Mounted(lossy, place, self.data / "clients", owner=OWNERS[owner])
            self._forget_home()
        return place

    def client(self, place: Path) -> Mounted:
        """The client that shows what ``shown`` has given."""
        return self._clients[place]

    def _forget_home(self) -> None:
        """Sync in another machine from now on: one sees no mounts that are younger than it."""
        if self._home is not None:
            self._home.close()
        self._home, self._python = None, []

    def sync(
        self,
        repository: Path,
        store: Path,
        *options: str,
        user: User | None,
        version: str,
        code: Path | None = None,
    ) -> str:
        """Sync ``repository`` into ``store`` as ``user``, as on a machine with podman ``version``.

        Returns what it said; raises SyncError. The code under test, or another release's in the
        directory ``code``, runs on this machine, with its own Python; only the version of podman is
        asked for by it, so a stand-in answers for the other machine's. The exact view needs file
        lists: it is written by this process, which has them.
        """
        if "exact" in options:
            reuse = options[options.index("--reuse") + 1] if "--reuse" in options else "base"
            sync_exact(repository, store, self._lists(), Reuse(reuse))
            return ""
        cache = store.with_name(f"{store.name}-cache")
        if user is not None:
            for path in (store.parent, cache):
                path.mkdir(exist_ok=True)
                os.chown(path, user.uid, user.uid)
        places = ["--repository", str(repository), "--store", str(store), "--cache", str(cache)]
        words = ("sync", "--offline", *places, *options)
        return self.command(*words, user=user, version=version, code=code)

    def _lists(self) -> TarLists:
        """The file lists of all layers, as their tars tell them."""
        changed = [build(image) for image in change_scripts.IMAGES]
        return TarLists([*self.images.values(), *self.deep.values(), *changed])

    def command(self, *args: str, user: User | None, version: str, code: Path | None = None) -> str:
        """Run ``podman-cvmfs ARGS`` so; return what it said. Raises SyncError."""
        home = self._home = self._home or Machine(Path("/"), self.data)
        self._python = self._python or interpreter(home)
        binaries = self.data / f"bin-{version}"
        if not binaries.exists():
            binaries.mkdir()
            stand_in = binaries / "podman"
            stand_in.write_text(f"#!/bin/sh\necho podman version {version}\n")
            stand_in.chmod(0o755)
        python = [
            word if code is None else word.replace("PYTHONPATH=", f"PYTHONPATH={code}:")
            for word in self._python
        ]
        done = home.run_as(
            user,
            [*python, "-m", "podman_cvmfs", *args],
            env={"PATH": f"{binaries}:/usr/bin:/bin", "HOME": str(self.data), "LANG": "C.UTF-8"},
            check=False,
        )
        if done.returncode:
            raise SyncError(done.stderr.strip())
        return done.stderr

    def close(self) -> None:
        """End what runs."""
        self.registry.stop()
        self._forget_home()
        for client in self._clients.values():
            client.close()
        shutil.rmtree(self._caches)


@contextmanager
def site() -> Iterator[Site]:
    """A Site in a temporary directory that every user can reach."""
    # A short path: podman 4 has but a page for the paths of all lower directories.
    data = Path(tempfile.mkdtemp(prefix="pcm", dir="/var/tmp"))
    data.chmod(0o755)
    try:
        made = Site(data)
        try:
            yield made
        finally:
            made.close()
    finally:
        shutil.rmtree(data, ignore_errors=True)


def give(tree: Path, uid: int, gid: int) -> None:
    """Give every file below ``tree`` to one owner and keep its mode: a plain chown clears setuid
    and setgid bits, which a CernVM-FS client goes on showing."""
    for parent, directories, files in os.walk(os.fsencode(tree)):
        for name in (*directories, *files, b"."):
            path = os.path.join(parent, name)
            mode = os.lstat(path).st_mode
            os.lchown(path, uid, gid)
            if not stat.S_ISLNK(mode):
                os.chmod(path, stat.S_IMODE(mode))
