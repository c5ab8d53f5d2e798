# SPDX-License-Identifier: Apache-2.0
"""The on-disk format of the additional image store. Pure: names and paths only.

What podman reads is the format of containers/storage (1.43 to 1.64: ``store.go``, ``layers.go``,
``images.go``, ``drivers/overlay/overlay.go``), seen on podman 4.3, 5.4 and 5.8. What stands behind
it is ours::

    STORE/overlay          -> .current/overlay          what podman opens
    STORE/overlay-layers   -> .current/overlay-layers
    STORE/overlay-images   -> .current/overlay-images
    STORE/.current         -> generations/<number>      flipped by one rename
    STORE/generations/<number>/
        state.json                                      ours: what podman has no field for
        SHA256SUMS                                      of the three JSON files, as sha256sum has it
        overlay/<layer or piece id> -> ../../../pool/layers/<entry>
        overlay/<entry>             -> ../../../pool/layers/<entry>, of a retired directory
        overlay/l/<link name>       -> ../<layer or piece id, or entry>/diff
        overlay-layers/layers.json, layers.lock
        overlay-layers/<layer id>.tar-split.gz -> ../../../pool/layers/<entry>/tar-split.gz
        overlay-images/images.json, images.lock
        overlay-images/<image id>   -> ../../../pool/images/<entry>
    STORE/pool/layers/<layer id>-<key>/
        link                        <link name>, no newline
        lower                       l/<piece>:l/<piece>:..; absent where nothing lies below
        diff/                       an empty directory
        empty/                      where there is no lower
        files                       ours: link to the layer's files, if it has a tar-split
        tar-split.gz                its tar-split
    STORE/pool/layers/<piece id>-<the first 16 digits of it>/
        link                        <link name>, no newline
        diff                        link into the repository, or a directory of our own
    STORE/pool/layers/<piece id>-<the first 16 digits of it>/, of an exact layer
        link                        <link name>, no newline
        diff/                       an empty directory
        composefs-data/composefs.blob   all metadata of one layer of the image
        files                       ours: link to the layer's files in the repository
        list                        ours: the digest of its file list, and the blob's
    STORE/pool/layers/<piece id>-<the first 16 digits of it>/, of a repository
        link                        <link name>, no newline
        diff                        link to the root of the repository
        composefs-data/composefs.blob   an empty directory
    STORE/pool/images/<image id>-<key>/
        manifest, =<base64 of "sha256:<image id>">,
        =<base64 of "manifest-<digest>"> for the index that lists the manifest, if one does
    STORE/locks/layers.lock, images.lock, sync.lock

A *piece* is a directory that layers mount: a layer of the repository, a merged root, or directories
and whiteouts of our own. podman finds it by the ``lower`` of a layer alone, so it has no record in
layers.json. All that a layer shows is in its pieces, for two reasons. podman looks for what a
container has deleted in what ``lower`` names, and would overlook a ``diff1``
(``pkg/archive/archive_linux.go``, ConvertWrite). And newer podman finds the layers below another by
their IDs (``overlay.go`` getLowerLayerIDs, 1.63): the ``diff`` of the real layer of the same ID,
once somebody has pulled it, takes the place of ours. As ours is empty, that changes nothing.

An *exact* layer mounts only pieces with ``composefs-data``: one for each layer of the image, and
the repository's below them. podman 5.4 and later mount their blobs (EROFS, see ``erofs``) as
metadata, and look for the data in each ``diff`` (``drivers/overlay/composefs.go``). So the paths in
the blobs begin at the repository's root. The kernel refuses a directory that lies inside another
one of the same mount: no piece of such a layer may lead to files below that root. For a user
namespace podman 5.4 mounts a copy of ``STORE/overlay`` elsewhere, where relative links lead to
nothing. So the place of an exact layer in ``overlay`` is an absolute link.

An exact layer may have a tar-split. With it podman makes the layer's tar again, byte for byte, to
push or save it (``layers.go``, ``Diff``). podman looks for the content of a file below the layer's
``diff``, by the name in the tar-split (``overlay.go``, ``DiffGetter``). So the names begin with
``../files/``.

A *retired* directory is one that a layer no longer has. What was made on it finds it by its name in
``overlay/l``; newer podman takes the part before ``diff`` in such a link for an ID, so it has a
place in ``overlay``, too.

A generation and the entries of the pool never change once they are written, so podman sees either
the old store or the new one. The lock files of all generations are hard links to those in
``locks``: one inode for good, as containers/storage's lock protocol needs. The key of an entry is a
hash of its content, so an unchanged layer keeps its entry from one generation to the next.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from enum import Enum

#: Format of state.json and of everything here that podman doesn't read.
FORMAT = 2
#: Other formats that can be read. In format 1 layers have no pieces, but ``diff1``, ``diff2``, ..
KNOWN_FORMATS = (1, FORMAT)

#: The directory that makes podman mount a piece's metadata, and the image in it.
COMPOSEFS, BLOB = "composefs-data", "composefs-data/composefs.blob"
#: What else we keep of a piece with metadata: a link to the files, and digests.
FILES, LIST = "files", "list"
#: The tar-split in a layer's directory. The names in it begin with the prefix.
TAR_SPLIT, TAR_SPLIT_PREFIX = "tar-split.gz", f"../{FILES}/"

CURRENT = ".current"
GENERATIONS = "generations"
POOL_LAYERS = "pool/layers"
POOL_IMAGES = "pool/images"
LOCKS = "locks"
#: The directories that we make in a store, parents first.
DIRECTORIES = (LOCKS, GENERATIONS, "pool", POOL_LAYERS, POOL_IMAGES)
STATE = "state.json"
SUMS = "SHA256SUMS"

OVERLAY = "overlay"
LAYERS = "overlay-layers"
IMAGES = "overlay-images"
#: The three names that podman opens in a store.
PUBLIC = (OVERLAY, LAYERS, IMAGES)
LAYERS_JSON = "layers.json"
IMAGES_JSON = "images.json"
#: In the order of locking (containers/storage ``store.go``: layers, then images).
LOCK_FILES = {"layers.lock": LAYERS, "images.lock": IMAGES}
SYNC_LOCK = "sync.lock"
#: Every user who can read it could hold it, and keep the owner out.
SYNC_LOCK_MODE = 0o600
#: Longer documents of a store are not read, in bytes. A record has about 1 KB.
MAX_JSON = 1 << 30
#: The modes of a store for its writer only, and of a store for all users.
CLOSED, OPEN = 0o700, 0o755
#: Bytes of the last-writer token in a lock file (containers/storage ``pkg/lockfile``).
TOKEN_BYTES = 64

#: An empty layer in stores of layout 4, which their other layers mount.
SPACER_ID = hashlib.sha256(b"podman-cvmfs spacer").hexdigest()


class Form(str, Enum):
    """The forms in which one layer ID has been laid out.

    Containers and images made on a layer always name the directories mounted below it, so each form
    has its own link names. In layout 4 a layer lay above everything below its parent, or ``ALONE``
    on a merged root. Since then it mounts ``PIECES``.
    """

    PLAIN = ""
    ALONE = "alone"
    PIECES = "pieces"


def link_name(identifier: str, form: Form = Form.PLAIN) -> str:
    """The short name of a piece, or of a layer in some form, in ``overlay/l``: 13 letters and
    digits.

    It derives from the ID, so a container that was made on one generation starts on every later
    one. Short, because podman 4 joins all of them into one page of mount options; 65 bits, because
    it is looked up in the user's own store and other stores as well.
    """
    number = bytes.fromhex(identifier[:18])
    if form is not Form.PLAIN:
        number = hashlib.sha256(f"podman-cvmfs {form.value} ".encode() + number).digest()[:9]
    return base64.b32encode(number).decode()[:13]


def layer_link(store: str, entry: str, *, is_exact: bool) -> str:
    """The target of the link ``overlay/<layer id>`` of the store at the absolute path ``store``."""
    above = store if is_exact else "../../.."
    return f"{above}/{POOL_LAYERS}/{entry}"


def tar_split_link(layer_id: str, entry: str) -> tuple[str, str]:
    """The name in ``overlay-layers`` of a layer's tar-split, and the link's target."""
    return f"{layer_id}.{TAR_SPLIT}", f"../../../{POOL_LAYERS}/{entry}/{TAR_SPLIT}"


def piece_entry(piece_id: str) -> str:
    """The name of a piece's directory in the pool."""
    return f"{piece_id}-{piece_id[:16]}"


def piece_of_entry(entry: str) -> str | None:
    """The ID of the piece whose directory in the pool has the name ``entry``; None for others."""
    piece_id = entry.partition("-")[0]
    return piece_id if entry == piece_entry(piece_id) else None


def lower_of(piece_ids: Iterable[str]) -> str:
    """The content of a ``lower`` file for the pieces below, nearest first."""
    return ":".join(f"l/{link_name(piece_id)}" for piece_id in piece_ids)


def synthetic_diff_id(layer_id: str) -> str:
    """A diff digest that no layer has, for a layer that must not be found by digest.

    containers/storage wants one on every layer, but whoever finds a layer by it may re-read
    ``diff`` and store the result as genuine.
    """
    return "sha256:" + hashlib.sha256(f"podman-cvmfs hidden layer {layer_id}".encode()).hexdigest()


def entry_key(content: bytes) -> str:
    """The key of a pool entry whose whole content ``content`` describes."""
    return hashlib.sha256(content).hexdigest()[:16]


def sums(files: Mapping[str, bytes]) -> bytes:
    """The content of ``SHA256SUMS`` for these files, by their path in the generation.

    Only these show whether a record is damaged, because not every number in it can be computed
    again.
    """
    lines = [f"{hashlib.sha256(files[path]).hexdigest()}  {path}\n" for path in sorted(files)]
    return "".join(lines).encode()
