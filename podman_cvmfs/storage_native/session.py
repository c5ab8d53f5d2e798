# SPDX-License-Identifier: Apache-2.0
"""Ask the real library about a store or about this user's configuration."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from types import TracebackType

from podman_cvmfs.errors import StoreError, printable
from podman_cvmfs.storage_native.artefact import Artefact, locate
from podman_cvmfs.storage_native.binding import check_abi
from podman_cvmfs.storage_native.calls import Calls
from podman_cvmfs.storage_native.child import CALL_TIMEOUT, Child, private_prefix
from podman_cvmfs.storage_native.records import CheckResult, Config, Image, Layer, Version


@contextlib.contextmanager
def started(
    artefact: Artefact | None = None,
    prefix: Sequence[str] = (),
    *,
    timeout: float = CALL_TIMEOUT,
) -> Iterator[tuple[Calls, Version]]:
    """A process with the library (``locate``'s unless ``artefact`` is given), ended at the end.

    Raises Unavailable, WrongAbi, ChildError.
    """
    artefact = artefact or locate()
    with Child(artefact, prefix, timeout=timeout) as child:
        calls = Calls(child.call)
        version = calls.version()
        check_abi(artefact.path, version.abi)
        yield calls, version


def effective_config(artefact: Artefact | None = None) -> Config:
    """The configuration that the library finds for this user, in this environment.

    Raises Unavailable, and CallError with the library's words where it can't read it.
    """
    with started(artefact) as (calls, _):
        return calls.config()


class OpenStore:
    """Additional stores as the library sees them, for a ``with`` statement.

    They are opened read-only beside an empty graph root that is thrown away: a store opened *as*
    graph root is written to, and silently healed. No configuration of the machine or the user
    plays a part. Methods raise CallError, ChildError.
    """

    def __init__(
        self, *stores: str, artefact: Artefact | None = None, timeout: float = CALL_TIMEOUT
    ) -> None:
        """``stores`` are directories, searched in this order. Raises StoreError, Unavailable."""
        paths = [os.path.abspath(store) for store in stores]
        for path in paths:
            # The library separates by commas, and in mount options by colons.
            if "," in path or ":" in path:
                raise StoreError(f"containers/storage can't open {printable(path)}")
        with contextlib.ExitStack() as stack:
            root = _throwaway(stack)
            conf = os.path.join(root, "storage.conf")
            with open(conf, "w", encoding="ascii") as file:
                file.write('[storage]\ndriver = "overlay"\n')
            environment = [
                *("-u", "STORAGE_OPTS"),
                *("-u", "STORAGE_DRIVER"),
                f"CONTAINERS_STORAGE_CONF={conf}",
            ]
            self._calls, self.version = stack.enter_context(
                started(artefact, private_prefix(environment), timeout=timeout)
            )
            self._store = self._calls.open(
                paths, os.path.join(root, "graph"), os.path.join(root, "run")
            )
            self._stack = stack.pop_all()

    def images(self) -> tuple[Image, ...]:
        """All images."""
        return self._calls.images(self._store)

    def layers(self) -> tuple[Layer, ...]:
        """All layers."""
        return self._calls.layers(self._store)

    def lookup(self, image: str) -> str:
        """The ID of the image with this name or ID, or one that begins with it."""
        return self._calls.lookup(self._store, image)

    def images_by_digest(self, digest: str) -> tuple[str, ...]:
        """The IDs of the images that have a manifest with this digest."""
        return self._calls.images_by_digest(self._store, digest)

    def big_data(self, image: str, key: str) -> bytes:
        """The content of a file that belongs to an image: its manifest or config."""
        return self._calls.big_data(self._store, image, key)

    def image_size(self, image: str) -> int:
        """The size of an image in bytes: layers as they are unpacked, manifest and config."""
        return self._calls.image_size(self._store, image)

    def check(self, *, digests: bool = False) -> CheckResult:
        """What the library finds damaged, with ``digests`` in the layers' files too."""
        return self._calls.check(self._store, digests=digests)

    @contextlib.contextmanager
    def mounted(self, image: str) -> Iterator[str]:
        """Mount an image; yield the directory where this process sees its root file system.

        More layers than mount data have room for in one page need the program, not the library.
        """
        mount = self._calls.mount(self._store, image)
        try:
            yield f"/proc/{self.version.pid}/root{mount.path}"
        finally:
            self._calls.unmount(self._store, mount.layer)

    def close(self) -> None:
        """End the process and remove what it was given to write to."""
        self._stack.close()

    def __enter__(self) -> OpenStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)


def _throwaway(stack: contextlib.ExitStack) -> str:
    """A directory that is removed with the stack, after the process that writes to it."""
    root = tempfile.mkdtemp(prefix="podman-cvmfs-")
    stack.callback(_remove, root)
    return root


def _remove(root: str) -> None:
    shutil.rmtree(root, ignore_errors=True)
    if not os.path.lexists(root):
        return
    # An ordinary user can't look into the directories of mode 0 that overlay makes.
    for directory, names, _ in os.walk(root):
        for path in (os.path.join(directory, name) for name in names):
            if not os.path.islink(path):
                with contextlib.suppress(OSError):
                    os.chmod(path, 0o700)
    shutil.rmtree(root, ignore_errors=True)
