# SPDX-License-Identifier: Apache-2.0
"""A layer as podman has unpacked it, to compare file lists and tar-splits with."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from podman_cvmfs.lists.entry import Entry
from podman_cvmfs.lists.from_tar import list_of
from podman_cvmfs.lists.layer_stream import LayerStream
from podman_cvmfs.oci.documents import Descriptor, Digest
from tests.support.layers import Blob


def listed(blob: Blob) -> tuple[list[Entry], bytes]:
    """The list of a layer and its tar-split, made of its tar."""
    descriptor = Descriptor("", Digest.parse(blob.digest), len(blob.data))
    split = io.BytesIO()
    stream = LayerStream(iter([blob.data]), descriptor, Digest.parse(blob.diff_id))
    return list_of(stream, split).entries, split.getvalue()


def unlike(entries: Sequence[Entry], top: Path) -> Iterator[str]:
    """The differences between a list and the files below ``top``, except for the root's
    attributes and the times of directories that the list doesn't know."""
    root = os.fsencode(top)
    known = {os.fsencode(each.path): each for each in entries}
    there = {b""}
    for parent, directories, files in os.walk(root):
        there |= {
            os.path.relpath(os.path.join(parent, name), root) for name in (*directories, *files)
        }
    for path in sorted(there ^ known.keys()):
        yield f"{path!r} is {'missing' if path in there else 'too much'}"
    for path in sorted(there & known.keys() - {b""}):
        for difference in _differences(known[path], known, os.path.join(root, path), root):
            yield f"{path!r}: {difference}"


def _differences(
    entry: Entry, known: dict[bytes, Entry], path: bytes, root: bytes
) -> Iterator[str]:
    status = os.lstat(path)
    if entry.is_whiteout:
        if not (stat.S_ISCHR(status.st_mode) and status.st_rdev == 0):
            yield "is no whiteout"
        return
    inode = known[os.fsencode(entry.hardlink)] if entry.hardlink else entry
    names = os.listxattr(path, follow_symlinks=False)
    is_link = stat.S_ISLNK(status.st_mode)
    wanted = {
        "mode": oct(status.st_mode),
        "owner": (status.st_uid, status.st_gid),
        "time": status.st_mtime_ns,
        "device": status.st_rdev,
        "size": 0 if entry.is_directory else status.st_size,
        "target": os.readlink(os.fsdecode(path)) if is_link else None,
        "attributes": {
            name: os.getxattr(path, name, follow_symlinks=False) for name in sorted(names)
        },
        "links": 0 if entry.is_directory else status.st_nlink,
    }
    same = [each for each in known.values() if each.hardlink == inode.path]
    seen = {
        "mode": oct(entry.mode),
        "owner": (entry.uid, entry.gid),
        "time": entry.mtime_ns,
        "device": entry.rdev,
        "size": entry.size,
        "target": inode.target,
        "attributes": dict(entry.xattrs),
        "links": 0 if entry.is_directory else 1 + len(same),
    }
    if entry.is_directory and not entry.mtime_ns:
        del wanted["time"]
    for key, value in wanted.items():
        if seen[key] != value:
            yield f"{key} is {seen[key]!r}, not {value!r}"
    if inode.backing is not None:
        data = os.path.join(root, os.fsencode(inode.backing))
        if not os.path.samestat(os.lstat(data), status):
            yield f"its data are not at {inode.backing!r}"


def assembled(split: bytes, top: Path) -> str:
    """The digest of the tar that a tar-split and the files below ``top`` make."""
    tar = hashlib.sha256()
    for position, line in enumerate(gzip.decompress(split).splitlines()):
        row = json.loads(line)
        assert row["position"] == position
        if row["type"] == 2:
            tar.update(base64.b64decode(row["payload"]))
            continue
        raw = row.get("name_raw")
        name = os.fsencode(row["name"]) if raw is None else base64.b64decode(raw)
        with open(os.path.join(os.fsencode(top), name), "rb") as file:
            data = file.read()
        assert len(data) == row["size"]
        tar.update(data)
    return f"sha256:{tar.hexdigest()}"
