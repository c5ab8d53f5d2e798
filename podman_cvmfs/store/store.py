# SPDX-License-Identifier: Apache-2.0
"""Changes a store: builds the next generation beside the current one, then switches to it.

``layout`` draws the directory tree. If a change fails or is killed before the switch, podman keeps
the old generation. The next change removes the leftovers.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator

from podman_cvmfs.errors import InputError, StoreError, printable
from podman_cvmfs.lists.known import GoodLists, KnownLists, NoLists
from podman_cvmfs.store import access, layout
from podman_cvmfs.store.entries import (
    remove_entry,
    retired_links,
    write_file,
)
from podman_cvmfs.store.filling import fill_pool
from podman_cvmfs.store.json_files import images_json, layers_json, state_json
from podman_cvmfs.store.locks import create_lock_files, podman_locked_out, sync_lock
from podman_cvmfs.store.metadata_size import DEFAULT_BUDGET
from podman_cvmfs.store.reader import read_store
from podman_cvmfs.store.records import ImageFiles, LayerDirectory, Piece, StoreContent
from podman_cvmfs.store.strangers import Stranger
from podman_cvmfs.util.files import sync_file_system
from podman_cvmfs.util.foreign_file import read_bounded
from podman_cvmfs.util.trusted_place import require_own_place

log = logging.getLogger(__name__)

_OUR_NAMES = {
    *layout.PUBLIC,
    layout.CURRENT,
    layout.CURRENT + ".new",
    layout.GENERATIONS,
    layout.LOCKS,
    "pool",
}
#: These separate layers and options in the mount data that podman gives to the kernel.
_BAD_IN_PATH = ':,"\\'


class Store:
    """The additional image store in the directory ``path``."""

    def __init__(
        self,
        path: str,
        read: Callable[[str], StoreContent | None] = read_store,
        lists: KnownLists | None = None,
        budget: int = DEFAULT_BUDGET,
    ) -> None:
        """``read`` reads its content. ``lists`` are the file lists that its layers are made from;
        what is made from them may take ``budget`` bytes. Raises InputError for a path that podman
        can't mount from."""
        self._budget = budget
        self._read = read
        self.lists = GoodLists(lists or NoLists())
        self.path = os.path.abspath(path)
        bad = [c for c in self.path if c in _BAD_IN_PATH or not c.isprintable()]
        if bad:
            raise InputError(
                f"podman can't use a store whose path holds {bad[0]!r}: {printable(self.path)}",
                "name another directory with --store DIR",
            )

    def require_own(self) -> None:
        """Raise InputError for root in a place where somebody else could exchange directories. It
        is told before anything is done, and so all that is done goes by paths. Raises StoreError.
        """
        try:
            require_own_place(self.path)
        except OSError as err:
            raise self.write_error(err) from err

    @contextlib.contextmanager
    def opened(self) -> Iterator[StoreContent]:
        """Lock the store against other syncs and yield its content.

        A missing store is begun, and removed again if nothing is written to it. Raises StoreError,
        and InputError as ``require_own`` does.
        """
        self.require_own()
        begun = not os.path.lexists(self.path)
        try:
            self._begin()
            with sync_lock(self.path):
                yield self._content()
        except OSError as err:
            raise self.write_error(err) from err
        finally:
            if begun and not os.path.lexists(f"{self.path}/{layout.CURRENT}"):
                shutil.rmtree(self.path, ignore_errors=True)

    def _content(self) -> StoreContent:
        return self._read(self.path) or StoreContent()

    def write_error(self, err: OSError) -> StoreError:
        """The error to raise if the system doesn't let us write the store."""
        where = os.fsdecode(err.filename) if err.filename else self.path
        return StoreError(
            f"can't write the store {printable(self.path)}: {err.strerror} ({printable(where)})",
            "free some space" if err.errno in (28, 122) else None,
        )

    def _begin(self) -> None:
        if os.path.lexists(self.path) and not os.path.isdir(self.path):
            raise StoreError(f"the store {printable(self.path)} is not a directory")
        if not os.path.isdir(self.path):
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            # Nobody but the writer, until somebody asks for it.
            os.mkdir(self.path, layout.CLOSED)
        foreign = set(os.listdir(self.path)) - _OUR_NAMES
        if foreign:
            raise StoreError(
                f"{printable(self.path)} is not a store of podman-cvmfs: "
                f"it holds {printable(min(foreign))!r}",
                "name an empty or new directory with --store DIR",
            )
        for name in layout.DIRECTORIES:
            path = f"{self.path}/{name}"
            if os.path.islink(path):
                raise StoreError(
                    f"{printable(path)} is a symbolic link where the store has a directory",
                    "podman-cvmfs verify --repair replaces it",
                )
            os.makedirs(path, mode=0o755, exist_ok=True)
            # What wasn't there hasn't been looked at, nor these.
            require_own_place(path)
        create_lock_files(self.path)

    def replace(
        self,
        content: StoreContent,
        layers: Iterable[LayerDirectory],
        images: Iterable[ImageFiles],
        pieces: Iterable[Piece] = (),
        *,
        anew: bool = False,
    ) -> bool:
        """Make ``content`` the store's content; False if it already is.

        To be called within ``opened``. ``layers``, ``images`` and ``pieces`` describe at least the
        missing pool entries that ``content`` refers to. With ``anew`` even the same content is
        written, as the next generation. Raises
        StoreError, and BadListError for a file list that can't be written; then the store is
        unchanged.
        """
        files = _files(content)
        if not anew and all(self._current_bytes(name) == data for name, data in files.items()):
            self._finish(content)
            return False
        try:
            begun = not os.path.lexists(f"{self.path}/{layout.CURRENT}")
            previous = self._current_generation()
            # A half-written entry must not be mistaken for one of the new ones.
            needed = content.entries()
            self._sweep(self._content(), keep=set() if begun else {previous}, needed=needed)
            made: list[str] = []
            number = max([previous, *self._generations()]) + 1
            try:
                if begun:
                    self._build(0, StoreContent(), _files(StoreContent()), made)
                self._show()
                fill_pool(self.path, layers, images, pieces, self.lists, self._budget, made)
                self._build(number, content, files, made)
            except BaseException:
                # An interrupt may arrive just after the switch: then the whole generation is in
                # use.
                if self._current_generation() != number:
                    if begun:
                        self._hide()
                    for path in made:
                        with contextlib.suppress(OSError):
                            remove_entry(path)
                raise
        except OSError as err:
            raise self.write_error(err) from err
        try:
            self._sweep(content, keep={previous or number, number})
        except OSError as err:
            log.warning("%s", self.write_error(err).message)
        return True

    def keep_others_out(self, shared: bool, seize: bool) -> list[Stranger]:
        """Let only the writer change the store, and unless it is ``shared`` only the writer read
        it. Returns the files that others have put into it (see ``access``). Raises StoreError."""
        try:
            return access.keep_others_out(self.path, shared, seize)
        except OSError as err:
            raise self.write_error(err) from err

    def share(self, content: StoreContent, *, anew: bool) -> None:
        """Let all users read the store, which holds ``content``; see ``access``. Raises
        StoreError."""
        try:
            access.share(self.path, content, anew=anew)
        except OSError as err:
            raise self.write_error(err) from err

    def _current_bytes(self, name: str) -> bytes | None:
        try:
            path = f"{self.path}/{layout.CURRENT}/{name}"
            return read_bounded(path, layout.MAX_JSON, follow=False)
        except FileNotFoundError:
            return None

    def _current_generation(self) -> int:
        """The number of the current generation; 0 if there is no generation yet, or only the empty
        one with which a store begins."""
        try:
            return int(os.path.basename(os.readlink(f"{self.path}/{layout.CURRENT}")))
        except (FileNotFoundError, ValueError):
            return 0

    def _generations(self) -> list[int]:
        names = os.listdir(f"{self.path}/{layout.GENERATIONS}")
        return [int(name) for name in names if name.isdecimal()]

    def _build(
        self, number: int, content: StoreContent, files: dict[str, bytes], made: list[str]
    ) -> None:
        """Write the generation ``number`` and flip to it."""
        generation = f"{self.path}/{layout.GENERATIONS}/{number}"
        made.append(generation)
        for name in ("", layout.OVERLAY, f"{layout.OVERLAY}/l", layout.LAYERS, layout.IMAGES):
            os.mkdir(f"{generation}/{name}", 0o755)
        overlay = f"{generation}/{layout.OVERLAY}"
        for layer in content.layers.values():
            layer_id = layer.layer_id
            place = f"{overlay}/{layer_id}"
            os.symlink(layout.layer_link(self.path, layer.entry, is_exact=layer.exact), place)
            os.symlink(f"../{layer_id}/diff", f"{overlay}/l/{layer.link}")
            if layer.tar_split is not None:
                name, target = layout.tar_split_link(layer_id, layer.entry)
                os.symlink(target, f"{generation}/{layout.LAYERS}/{name}")
        for piece_id in content.pieces():
            entry = layout.piece_entry(piece_id)
            os.symlink(f"../../../{layout.POOL_LAYERS}/{entry}", f"{overlay}/{piece_id}")
            os.symlink(f"../{piece_id}/diff", f"{overlay}/l/{layout.link_name(piece_id)}")
        for name, entry in retired_links(self.path, content).items():
            os.symlink(f"../../../{layout.POOL_LAYERS}/{entry}", f"{overlay}/{entry}")
            os.symlink(f"../{entry}/diff", f"{overlay}/l/{name}")
        for image in content.images.values():
            target = f"../../../{layout.POOL_IMAGES}/{image.entry}"
            os.symlink(target, f"{generation}/{layout.IMAGES}/{image.image_id}")
        for name, data in files.items():
            write_file(f"{generation}/{name}", data)
        for name, directory in layout.LOCK_FILES.items():
            os.link(f"{self.path}/{layout.LOCKS}/{name}", f"{generation}/{directory}/{name}")
        # Otherwise a power cut after the switch could leave a current generation with empty files.
        sync_file_system(self.path)
        self._flip(number)

    def _flip(self, number: int) -> None:
        new = f"{self.path}/{layout.CURRENT}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
        os.symlink(f"{layout.GENERATIONS}/{number}", new)
        try:
            with podman_locked_out(self.path):
                os.rename(new, f"{self.path}/{layout.CURRENT}")
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new)
            raise

    def _show(self) -> None:
        """Make the missing names that podman opens.

        A generation must exist before the first name: if a name leads to nothing, every podman
        command fails. It must be empty, because podman must not see one part without the others.
        """
        for name in layout.PUBLIC:
            path = f"{self.path}/{name}"
            if not os.path.islink(path):
                _make_way(path)
                os.symlink(f"{layout.CURRENT}/{name}", path)

    def _hide(self) -> None:
        """Undo the beginning of a store."""
        for name in (*reversed(layout.PUBLIC), layout.CURRENT):
            with contextlib.suppress(OSError):
                os.unlink(f"{self.path}/{name}")

    def _finish(self, content: StoreContent) -> None:
        """Finish a change that was killed after the switch to ``content``."""
        current = self._current_generation()
        before = max((n for n in self._generations() if 0 < n < current), default=current)
        try:
            self._show()
        except OSError as err:
            raise self.write_error(err) from err
        try:
            self._sweep(content, keep={before, current})
        except OSError as err:
            log.warning("%s", self.write_error(err).message)

    def _sweep(
        self, content: StoreContent, keep: set[int], needed: Collection[str] = frozenset()
    ) -> None:
        """Remove everything except the entries of ``content`` and the generations in ``keep``.

        An entry that can't be removed is left for the next time, for example on NFS while somebody
        reads a file in it. Raises OSError if it is one of the entries ``needed``.
        """
        left = [f"{layout.GENERATIONS}/{n}" for n in self._generations() if n not in keep]
        used = content.entries() | set(content.retired_entries)
        for pool in (layout.POOL_LAYERS, layout.POOL_IMAGES):
            found = os.listdir(f"{self.path}/{pool}")
            left.extend(f"{pool}/{entry}" for entry in found if entry not in used)
        for path in left:
            try:
                remove_entry(f"{self.path}/{path}")
            except OSError as err:
                if os.path.basename(path) in needed:
                    raise
                log.warning("can't remove %s/%s: %s", self.path, path, err.strerror)


def _files(content: StoreContent) -> dict[str, bytes]:
    """The files of a generation, by their path in it."""
    files = {
        layout.STATE: state_json(content),
        f"{layout.LAYERS}/{layout.LAYERS_JSON}": layers_json(content),
        f"{layout.IMAGES}/{layout.IMAGES_JSON}": images_json(content),
    }
    files[layout.SUMS] = layout.sums(files)
    return files


def _make_way(path: str) -> None:
    """Remove the directory that podman, run as root, makes for a lock file in an empty store."""
    with contextlib.suppress(FileNotFoundError):
        found = os.listdir(path)
        if layout.LOCK_FILES.keys() >= set(found):
            for name in found:
                os.unlink(f"{path}/{name}")
            os.rmdir(path)
