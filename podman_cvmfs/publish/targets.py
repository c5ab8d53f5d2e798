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
from podman_cvmfs.publish.lock import open_lock
from podman_cvmfs.publish.publisher import Published, check_directory
from podman_cvmfs.publish.unpack.safe_tree import remove
from podman_cvmfs.publish.workspace import LOCK_FILE
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
        log.info("%s: publishing %d images by one transaction", self.name, self._images)
        try:
            ingest(self.name, self.directory)
            self._clear()
        except OSError as err:
            raise RepositoryError(
                f"can't use {printable(self.directory)}: {err.strerror or err}"
            ) from None
        self._catalogues = self._images = 0

    def _clear(self) -> None:
        staging = os.open(self.directory, OPEN_DIRECTORY)
        try:
            for each in os.listdir(staging):
                remove(os.fsencode(each), staging)
        finally:
            os.close(staging)


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
        # If it fails, the transaction stays open.
        run_server("publish", name)
    except BaseException:
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
        yield CernvmfsTarget(place, False, max_size, below=repository, name=name)
    finally:
        os.close(lock)
