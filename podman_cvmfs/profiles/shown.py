# SPDX-License-Identifier: Apache-2.0
"""Finds an image's files in the repository, as the store shows the image to podman.

No mount of podman's has a part in it: an overlay has nothing to say about where a file comes from,
and reading through it could disturb a container.
"""

from __future__ import annotations

import os
import stat

from podman_cvmfs.errors import InputError
from podman_cvmfs.store.layout import COMPOSEFS, CURRENT, OVERLAY
from podman_cvmfs.store.piece_target import piece_target
from podman_cvmfs.store.records import StoreContent, StoredImage

#: As many as the kernel follows in one path.
_MAX_LINKS = 40
#: An overlay directory that hides all below it (Linux ``Documentation/filesystems/overlayfs.rst``).
_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")


class ShownImage:
    """The files of an image. ``roots`` are the directories that show it, nearest first.

    Safe to use from several threads.
    """

    def __init__(self, roots: tuple[str, ...]) -> None:
        self.roots = roots
        #: Path of a directory -> the roots that show it, as directories.
        self._directories: dict[str, tuple[str, ...]] = {"": roots}

    def locate(self, path: str) -> str | None:
        """Where the regular file ``path`` of the image is; None if there is none. No link is
        followed. Raises OSError if a repository can't be read."""
        found = self._entry(path)
        return None if found is None or not stat.S_ISREG(found[1].st_mode) else found[0]

    def resolve(self, path: str, beside: str = "") -> str | None:
        """The path of the regular file that ``path`` leads to in a container, through links of the
        image; ``path`` starts at the directory ``beside``. None if there is none. Raises
        OSError."""
        done: list[str] = []
        pending = f"{'' if path.startswith('/') else beside}/{path}".split("/")[::-1]
        links = 0
        while pending:
            part = pending.pop()
            if part in ("", "."):
                continue
            if part == "..":
                del done[-1:]
                continue
            here = "/".join([*done, part])
            found = self._entry(here)
            if found is None:
                return None
            where, status = found
            if not stat.S_ISLNK(status.st_mode):
                done.append(part)
                continue
            links += 1
            if links > _MAX_LINKS:
                return None
            target = os.readlink(where)
            if target.startswith("/"):
                done.clear()
            pending += target.split("/")[::-1]
        whole = "/".join(done)
        return whole if whole and self.locate(whole) else None

    def list(self, path: str) -> list[str]:
        """The names in the directory ``path`` of the image, whiteouts among them. Raises
        OSError."""
        names: set[str] = set()
        for root in self._roots_of(path):
            names.update(os.listdir(f"{root}/{path}"))
        return sorted(names)

    def _entry(self, path: str) -> tuple[str, os.stat_result] | None:
        """Where ``path`` is, and what is there; None for what is missing, or hidden by a
        whiteout."""
        for root in self._roots_of(path.rpartition("/")[0]):
            where = f"{root}/{path}"
            try:
                status = os.lstat(where)
            except FileNotFoundError:
                continue
            return None if _is_whiteout(status) else (where, status)
        return None

    def _roots_of(self, directory: str) -> tuple[str, ...]:
        """The roots that show the directory in the image, nearest first."""
        roots, here = self.roots, ""
        for part in directory.split("/") if directory else ():
            here = f"{here}/{part}" if here else part
            known = self._directories.get(here)
            roots = self._that_show(here, roots) if known is None else known
            if not roots:
                break
        return roots

    def _that_show(self, directory: str, above: tuple[str, ...]) -> tuple[str, ...]:
        """Those of the roots ``above``, which show the directory's parent."""
        found = []
        for root in above:
            where = f"{root}/{directory}"
            try:
                status = os.lstat(where)
            except FileNotFoundError:
                continue
            # A file or a link hides directories below it.
            if not stat.S_ISDIR(status.st_mode):
                break
            found.append(root)
            if root != above[-1] and _is_opaque(where):
                break
        return self._directories.setdefault(directory, tuple(found))


def shown_image(store: str, content: StoreContent, image: StoredImage) -> ShownImage:
    """The files of ``image`` of the store in the directory ``store``.

    In the exact view a file that a layer deletes still counts: only podman's metadata know of it.
    Raises InputError for an image in the layout of earlier versions, or without layers.
    """
    layer = content.layers.get(image.top_layer or "")
    if layer is None or not layer.lowers:
        raise InputError(
            f"the store has no files of image {image.image_id[:12]} that can be read early",
            "sync the image again: 'podman-cvmfs sync IMAGE'",
        )
    overlay = f"{store}/{CURRENT}/{OVERLAY}"
    roots = (_root_of(os.path.realpath(f"{overlay}/{piece_id}")) for piece_id in layer.lowers)
    return ShownImage(tuple(root for root in roots if root is not None))


def _root_of(piece: str) -> str | None:
    """Where the files of the piece in this directory are; None if it shows no files itself."""
    target = piece_target(piece)
    if target is not None:
        return os.path.realpath(target)
    return None if os.path.lexists(f"{piece}/{COMPOSEFS}") else f"{piece}/diff"


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _is_opaque(directory: str) -> bool:
    for name in _OPAQUE:
        try:
            if os.getxattr(directory, name, follow_symlinks=False) == b"y":
                return True
        except OSError:
            continue
    return False
