# SPDX-License-Identifier: Apache-2.0
"""What a repository lacks that DUCC has filled (2.12, on CernVM-FS 2.12), whoever looks at it.

Our publisher keeps what a plain directory can hold. ``lossy_copy`` lacks what DUCC and
``cvmfs_server ingest`` lose, as seen in a repository of theirs (``ducc_sample``):

* everywhere hard links and extended attributes;
* in merged roots the setuid, setgid and sticky bits, a mode without any bit (it becomes 0600), the
  mode of the root directory, the content of ``etc/resolv.conf``, and the times of links and of
  directories that hold something;
* in layers the owners.

Each merged root and each layer gets an empty ``.cvmfscatalog``.
"""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

#: The time of publication.
PUBLISHED = 1_700_000_000
#: Who publishes, and so owns the files of layers.
PUBLISHER = (999, 995)
_CATALOGUE = b".cvmfscatalog"


def lossy_copy(repository: Path, path: Path) -> None:
    """Copy the repository, which our publisher has filled, to ``path`` and make it what DUCC would
    have made. Must run as root."""
    subprocess.run(["cp", "--archive", "--no-preserve=links", repository, path], check=True)
    _lose(path)


def _lose(repository: Path) -> None:
    for root in sorted(repository.glob(".flat/??/*")):
        _lose_in_root(os.fsencode(root))
    for layer in sorted(repository.glob(".layers/??/*/layerfs")):
        _lose_in_layer(os.fsencode(layer))


def _lose_in_root(root: bytes) -> None:
    resolv = os.path.join(root, b"etc/resolv.conf")
    if os.path.isfile(resolv) and not os.path.islink(resolv):
        os.truncate(resolv, 0)
    _mark(root, 0o644)
    # From the bottom up: what is changed in a directory changes its time.
    for path, info in _below(root):
        if stat.S_ISLNK(info.st_mode):
            _date(path)
            continue
        _drop_attributes(path)
        mode = stat.S_IMODE(info.st_mode) & 0o777
        os.chmod(path, 0o755 if path == root else mode or 0o600)
        if stat.S_ISDIR(info.st_mode) and os.listdir(path):
            _date(path)


def _lose_in_layer(layer: bytes) -> None:
    _mark(layer, 0o664)
    for path, info in _below(layer):
        os.chown(path, *PUBLISHER, follow_symlinks=False)
        if not stat.S_ISLNK(info.st_mode):
            _drop_attributes(path)
            os.chmod(path, stat.S_IMODE(info.st_mode))


def _below(top: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    """All below ``top`` and itself, with what it is; a directory after all in it."""
    for parent, directories, files in os.walk(top, topdown=False):
        for name in (*files, *directories):
            path = os.path.join(parent, name)
            info = os.lstat(path)
            # Each directory comes as a parent of its own, only links to such don't.
            if not stat.S_ISDIR(info.st_mode):
                yield path, info
        yield parent, os.lstat(parent)


def _mark(directory: bytes, mode: int) -> None:
    path = os.path.join(directory, _CATALOGUE)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, mode))
    os.chmod(path, mode)
    _date(path)


def _date(path: bytes) -> None:
    os.utime(path, (PUBLISHED, PUBLISHED), follow_symlinks=False)


def _drop_attributes(path: bytes) -> None:
    for name in os.listxattr(path, follow_symlinks=False):
        os.removexattr(path, name, follow_symlinks=False)
