# SPDX-License-Identifier: Apache-2.0
"""Where images are published: a plain directory, or a CernVM-FS repository.

For CernVM-FS the images are unpacked into a *staging* directory, which holds only what the
repository lacks. All of them become visible at once, by one transaction. If the publisher is
killed, the next one goes on with what is in the staging directory.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from podman_cvmfs.errors import RepositoryError, printable
from podman_cvmfs.publish.ingest import ingest, run_server
from podman_cvmfs.publish.layout import LAYERFS, LAYERS, ORIGIN_JSON, flat_path, render_origin
from podman_cvmfs.publish.lock import open_lock
from podman_cvmfs.publish.open_repository import OpenRepository
from podman_cvmfs.publish.present import origins
from podman_cvmfs.publish.publisher import Published, check_directory
from podman_cvmfs.publish.removal import links
from podman_cvmfs.publish.unpack.safe_tree import remove
from podman_cvmfs.publish.workspace import LOCK_FILE, Workspace
from podman_cvmfs.util.below import OPEN_DIRECTORY
from podman_cvmfs.util.trusted_place import require_own_place

log = logging.getLogger(__name__)

#: One transaction can't take any number of nested catalogues: 4,500 were too many.
MAX_CATALOGUES = 2000
_CVMFS = "/cvmfs"
#: What CernVM-FS's server knows of the repositories that it publishes.
_SERVED = "/etc/cvmfs/repositories.d"


@dataclass
class Target:
    """A plain directory, and what the user vouches for.

    ``directory`` is written to; what isn't in it is read from ``below``. ``max_size`` is how many
    bytes an image may take unpacked; None for the usual bound. ``profiles`` are start-up profiles
    by the image's ID, in hexadecimal.
    """

    directory: str
    assume_nosuid: bool = False
    max_size: int | None = None
    below: str | None = None
    profiles: Mapping[str, bytes] = field(default_factory=dict)

    def added(self, done: Published) -> None:
        """Be told that an image was published into the directory."""

    def finish(self) -> None:
        """Make visible what was added. Raises RepositoryError, and then nothing is visible."""


@dataclass
class CernvmfsTarget(Target):
    """The staging directory of the CernVM-FS repository ``name``."""

    name: str = ""
    _catalogues: int = field(default=0, init=False)
    _images: int = field(default=0, init=False)

    def added(self, done: Published) -> None:
        if done.changed:
            self._images += 1
            # Its layers and its merged root.
            self._catalogues += done.new_layers + 1
        if self._catalogues >= MAX_CATALOGUES:
            self.finish()

    def finish(self) -> None:
        if not any(not each.startswith(".podman-cvmfs-") for each in os.listdir(self.directory)):
            return
        gone = self.prepare()
        if gone is not None:
            raise RepositoryError(
                f"{printable(gone)} has left {self.name} while images were unpacked",
                "publish again",
            )
        log.info("%s: publishing %d images by one transaction", self.name, self._images)
        try:
            ingest(self.name, self.directory)
            self._clear()
        except OSError as err:
            raise RepositoryError(
                f"can't use {printable(self.directory)}: {err.strerror or err}"
            ) from None
        self._catalogues = self._images = 0

    def prepare(self) -> str | None:
        """Fit what is staged to the repository, which others may have changed since.

        Images whose layers or merged root have left the repository can't be published: then
        nothing stays staged. Returns what has left. Raises RepositoryError.
        """
        try:
            with (
                OpenRepository(self.directory) as staged,
                OpenRepository(self.directory, self.below) as whole,
            ):
                gone = _missing(staged, whole)
                if gone is None:
                    _keep_origins(staged, whole.below)
            if gone is not None:
                self._clear()
            return gone
        except OSError as err:
            raise RepositoryError(
                f"can't use {printable(self.directory)}: {err.strerror or err}"
            ) from None

    def _clear(self) -> None:
        staging = os.open(self.directory, OPEN_DIRECTORY)
        try:
            for each in os.listdir(staging):
                remove(os.fsencode(each), staging)
        finally:
            os.close(staging)


def _layers(repository: OpenRepository) -> Iterator[str]:
    """The directories of all layers."""
    for start in repository.names(LAYERS):
        for name in repository.names(f"{LAYERS}/{start}"):
            yield f"{LAYERS}/{start}/{name}"


def _missing(staged: OpenRepository, whole: OpenRepository) -> str | None:
    """A directory that a staged image needs, and that isn't there; None if all are."""
    needed = [f"{path}/{LAYERFS}" for path in _layers(staged)]
    needed += [flat_path(image) for _, image in links(staged)]
    return next((path for path in needed if not whole.has_directory(path)), None)


def _keep_origins(staged: OpenRepository, below: OpenRepository | None) -> None:
    """Have the staged layers note all images that the repository notes for them now."""
    for path in _layers(staged):
        known, now = origins(staged, path), [] if below is None else origins(below, path)
        if not {*now} <= {*known}:
            with Workspace(staged) as space, space.locked():
                space.put_file(f"{path}/{ORIGIN_JSON}", render_origin([*now, *known]))


def served_name(repository: str) -> str | None:
    """The name of the CernVM-FS repository in the directory ``repository``, if this machine
    publishes it; else None."""
    above, name = os.path.split(os.path.abspath(repository))
    if above != _CVMFS or not os.path.exists(f"{_SERVED}/{name}/server.conf"):
        return None
    return name


@contextlib.contextmanager
def changing(repository: str) -> Iterator[None]:
    """Have the files in ``repository`` writable for a ``with`` statement.

    A CernVM-FS repository is changed by one transaction, which is published at the end, or aborted
    if the statement is left by an error. A plain directory is writable as it is. Raises
    RepositoryError if CernVM-FS refuses.
    """
    name = served_name(repository)
    if name is None:
        yield
        return
    run_server("transaction", name)
    try:
        yield
        # The transaction keeps others out. The lock is nothing to publish.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(repository, LOCK_FILE))
    except BaseException:
        run_server("abort", "-f", name)
        raise
    try:
        run_server("publish", name)
    except RepositoryError:
        # The transaction has stayed open.
        run_server("abort", "-f", name)
        raise


@contextlib.contextmanager
def target_for(
    repository: str, staging: str, assume_nosuid: bool, max_size: int | None
) -> Iterator[Target]:
    """The target for ``repository``, for the ``with`` statement that publishes.

    ``staging`` is a directory for staging directories. Raises RepositoryError and InputError if
    nothing can be published there, or if somebody else publishes there.
    """
    name = served_name(repository)
    if name is None:
        check_directory(repository, assume_nosuid)
        yield Target(repository, assume_nosuid, max_size)
        return
    place = os.path.join(staging, name)
    try:
        os.makedirs(place, 0o700, exist_ok=True)
        require_own_place(place)
        os.chmod(place, 0o700)
        above = os.open(staging, OPEN_DIRECTORY)
        lock = open_lock(f"{name}.lock", above, place)
        os.close(above)
    except OSError as err:
        raise RepositoryError(f"can't use {printable(place)}: {err.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise RepositoryError(
            f"another podman-cvmfs publish is at work on {name}", "wait until it ends"
        ) from None
    try:
        target = CernvmfsTarget(place, False, max_size, below=repository, name=name)
        gone = target.prepare()
        if gone is not None:
            log.info("%s has left %s: all images are unpacked anew", printable(gone), name)
        yield target
    finally:
        os.close(lock)
