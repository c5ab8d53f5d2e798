# SPDX-License-Identifier: Apache-2.0
"""Write the entries of a store's pool: what ``overlay/<layer or piece id>`` and
``overlay-images/<image id>`` lead to. All functions raise OSError, and StoreError where the file
system can't hold layers."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable
from typing import BinaryIO, Optional

from podman_cvmfs.errors import InputError, StoreError, printable
from podman_cvmfs.lists.entry import Entry
from podman_cvmfs.lists.known import BadListError
from podman_cvmfs.lists.tar_split import renamed
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.store.erofs import write_image
from podman_cvmfs.store.layout import (
    BLOB,
    COMPOSEFS,
    FILES,
    LIST,
    POOL_LAYERS,
    TAR_SPLIT,
    TAR_SPLIT_PREFIX,
    link_name,
    lower_of,
    piece_of_entry,
)
from podman_cvmfs.store.records import (
    Data,
    ImageFiles,
    LayerDirectory,
    Link,
    LocalPart,
    Metadata,
    Node,
    Piece,
    StoreContent,
    TarSplit,
)
from podman_cvmfs.util.foreign_file import read_bounded

_WHITEOUT = os.makedev(0, 0)
_LINK = re.compile(r"[A-Z2-7]{13}\Z")
#: In an ordinary user's mount overlayfs reads the first, in root's mount the second. Only root may
#: write the second. fuse-overlayfs reads both (kernel ``Documentation/filesystems/overlayfs.rst``).
_OPAQUE = ("user.overlay.opaque", "trusted.overlay.opaque")


#: Gives the entries of the file list with a digest. Raises PodmanCvmfsError.
FileLists = Callable[[str], Iterable[Entry]]
#: The directory of a piece that shows nothing itself.
NOTHING = LocalPart((Node("", mode=0o555),))
#: The file list of a piece with data alone.
NO_FILES = (Entry("", stat.S_IFDIR | 0o555),)


def write_file(path: str, data: bytes) -> None:
    """Make the file ``path``, which must not exist, with ``data``."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
    finally:
        os.close(descriptor)


#: Gives the tar-split of the layer with a diff ID, compressed with gzip; None if it is gone.
TarSplits = Callable[[Digest], Optional[bytes]]


def write_layer_entry(path: str, layer: LayerDirectory, tar_splits: TarSplits) -> None:
    """Make the directory ``path`` of a layer. Raises BadListError if it has a tar-split that
    ``tar_splits`` lacks."""
    os.mkdir(path, 0o755)
    write_file(f"{path}/link", layer.link.encode())
    if layer.lowers:
        write_file(f"{path}/lower", lower_of(layer.lowers).encode())
    else:
        # podman's overlay driver uses it as the lower directory if there is no other.
        os.mkdir(f"{path}/empty", 0o755)
    _write_part(f"{path}/diff", layer.part)
    if layer.tar_split is not None:
        _write_tar_split(path, layer.tar_split, tar_splits)


def _write_tar_split(path: str, part: TarSplit, tar_splits: TarSplits) -> None:
    """Make the tar-split of the layer at ``path``, and the link that its names lead over."""
    os.symlink(part.files, f"{path}/{FILES}")
    try:
        data = tar_splits(Digest(part.diff_id))
        if data is None:
            raise InputError("it is gone from the cache")
        with open(f"{path}/{TAR_SPLIT}", "xb") as out, gzip.GzipFile("", "wb", 6, out, 0) as file:
            for line in renamed(io.BytesIO(data), TAR_SPLIT_PREFIX):
                file.write(line)
    except InputError as err:
        message = f"the tar-split of {printable(part.files)} can't be used: {err.message}"
        raise BadListError([part.diff_id], message, err.hint) from err


def write_piece_entry(path: str, piece: Piece, lists: FileLists) -> None:
    """Make the directory ``path`` of a piece; ``lists`` has the entries of its file list. Raises
    BadListError."""
    os.mkdir(path, 0o755)
    write_file(f"{path}/link", piece.link.encode())
    part = piece.part
    if isinstance(part, Metadata):
        _write_local_part(f"{path}/diff", NOTHING)
        os.symlink(part.target, f"{path}/{FILES}")
        try:
            digest = _write_blob(path, lists(part.digest), part.target[len(part.root) :])
        except (InputError, StoreError) as err:
            where = printable(part.target)
            message = f"the file list of {where} can't be used: {err.message}"
            raise BadListError([part.digest], message, err.hint) from err
        write_file(f"{path}/{LIST}", f"{part.digest} {digest}\n".encode())
    elif isinstance(part, Data):
        os.symlink(part.root, f"{path}/diff")
        _write_blob(path, NO_FILES, "")
    else:
        _write_part(f"{path}/diff", part)


def _write_blob(path: str, entries: Iterable[Entry], data: str) -> str:
    """Make the metadata of the piece at ``path``, whose data are at the path ``data`` in the
    repository; return the digest of the blob in hexadecimal."""
    os.mkdir(f"{path}/{COMPOSEFS}", 0o755)
    with open(f"{path}/{BLOB}", "xb") as out:
        write_image(entries, lambda inner: f"{data}/{inner}", out)
    with open(f"{path}/{BLOB}", "rb") as blob:
        return digest_of(blob)


def digest_of(file: BinaryIO) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    while portion := file.read(1 << 20):
        digest.update(portion)
    return digest.hexdigest()


def _write_part(place: str, part: Link | LocalPart) -> None:
    if isinstance(part, Link):
        os.symlink(part.target, place)
    else:
        _write_local_part(place, part)


def _write_local_part(place: str, part: LocalPart) -> None:
    is_root = os.geteuid() == 0
    for node in part.nodes:
        path = f"{place}/{node.path}" if node.path else place
        if node.is_whiteout:
            try:
                os.mknod(path, stat.S_IFCHR | 0o600, _WHITEOUT)
            except OSError as err:
                raise _not_held(err, place, "whiteouts (character devices 0:0)") from err
        elif node.content is not None:
            write_file(path, node.content)
        else:
            os.mkdir(path, 0o755)
            if node.opaque:
                for name in _OPAQUE if is_root else _OPAQUE[:1]:
                    try:
                        os.setxattr(path, name, b"y")
                    except OSError as err:
                        raise _not_held(err, place, f"opaque directories ({name})") from err
    # Attributes come last and from the bottom up: writing into a directory changes its time, and
    # its mode may forbid writing.
    for node in reversed(part.nodes):
        path = f"{place}/{node.path}" if node.path else place
        if node.is_whiteout:
            continue
        if node.owner is not None and is_root:
            os.chown(path, *node.owner)
        if node.mode != 0o755 or node.content is not None:
            os.chmod(path, node.mode)
        if node.mtime_ns is not None:
            os.utime(path, ns=(node.mtime_ns, node.mtime_ns))


def _not_held(err: OSError, place: str, what: str) -> OSError | StoreError:
    """The error if ``what`` couldn't be made below ``place``. Some network file systems refuse it
    to everybody, and so does overlayfs, the file system of a container's root."""
    if err.errno not in (errno.EPERM, errno.EINVAL, errno.EOPNOTSUPP):
        return err
    directory = printable(os.path.dirname(place))
    return StoreError(
        f"the file system can't hold {what}: {err.strerror} ({directory})",
        "put the store on another file system; in a container, on a volume",
    )


def remove_entry(path: str) -> None:
    """Remove a directory of ours with everything below it, whatever modes it has from an image; or
    another thing in its place."""
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        os.unlink(path)  # rmtree would wait for a writer of a FIFO
        return
    if os.geteuid() != 0:
        os.chmod(path, 0o700)
        for directory, names, _ in os.walk(path):
            for name in names:
                if not os.path.islink(f"{directory}/{name}"):
                    os.chmod(f"{directory}/{name}", 0o700)
    shutil.rmtree(path)


def write_image_entry(path: str, image: ImageFiles) -> None:
    """Make the directory ``path`` of an image."""
    os.mkdir(path, 0o755)
    for name, data in image.files().items():
        write_file(f"{path}/{name}", data)


def retired_links(store: str, content: StoreContent) -> dict[str, str]:
    """Names in ``overlay/l`` that lead to retired directories of layers: name -> pool entry.

    Containers and pulled images still name the directories on which they were made, whatever shows
    the layer now. If several have a name, the one retired last counts. If a listed layer has the
    name, it gets no such link.
    """
    taken = {layer.link for layer in content.layers.values()}
    taken.update(map(link_name, content.pieces()))
    found: dict[str, str] = {}
    for entry, _ in sorted(content.retired_entries.items(), key=lambda each: (-each[1], each[0])):
        if piece_of_entry(entry) is not None:
            continue
        try:
            path = f"{store}/{POOL_LAYERS}/{entry}/link"
            name = read_bounded(path, 64, follow=False).decode("ascii")
        except (OSError, ValueError):
            continue  # an image's entry, or a spoilt one
        if _LINK.match(name) and name not in taken:
            found.setdefault(name, entry)
    return found
