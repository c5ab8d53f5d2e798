#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A stand-in for ``cvmfs_server``: it keeps the rules of ``ingest``, and serves plain directories.

It is run as a program. A repository has one transaction at a time, which lasts until it is
published or aborted. A tar is added as a whole or not at all. ``.wh.`` files stay files. Owners are
the tar's only with ``-k``. Each ``.cvmfscatalog`` must be a regular file, and a transaction with
too many of them is aborted. Each transaction adds a line to ``NAME.log`` beside the repository.

``PODMAN_CVMFS_TEST_SERVER`` names the directory of the repositories. A file ``NAME.fails`` in it
makes an ingestion fail after the whole tar has been read.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

_MOST_CATALOGUES = 4500
_OWNER = 999


def main(arguments: list[str]) -> int:
    root = Path(os.environ["PODMAN_CVMFS_TEST_SERVER"])
    command, *options, name = arguments
    lock = root / f"{name}.transaction"
    if command in ("transaction", "publish", "abort"):
        return _whole(command, root, name, lock)
    if command != "ingest":
        return _die(f"no such command: {command}")
    if options[options.index("-t") + 1] != "-" or options[options.index("-b") + 1] != "/":
        return _die("the stand-in only reads standard input, into the whole repository")
    try:
        lock.touch(exist_ok=False)
    except FileExistsError:
        return _die(f"another transaction is already open on {name}")
    scratch = root / f"{name}.scratch"
    try:
        _unpack(scratch, "-k" in options)
        if (root / f"{name}.fails").exists():
            raise ValueError("Synchronization failed")
        _take(scratch, root / name)
    except (tarfile.TarError, ValueError, OSError) as err:
        return _die(str(err))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        lock.unlink()
    with open(root / f"{name}.log", "a") as log:
        log.write("published\n")
    return 0


def _whole(command: str, root: Path, name: str, lock: Path) -> int:
    """A transaction in which files are changed in ``/cvmfs/NAME`` itself."""
    kept, tree = root / f"{name}.kept", root / name
    if command == "transaction":
        try:
            lock.touch(exist_ok=False)
        except FileExistsError:
            return _die(f"another transaction is already open on {name}")
        shutil.copytree(tree, kept, symlinks=True)
        _remount(name, "rw")
        return 0
    if not lock.exists():
        return _die(f"no transaction is open on {name}")
    if command == "publish" and (root / f"{name}.fails").exists():
        # The transaction stays open.
        return _die("Synchronization failed")
    _remount(name, "ro")
    if command == "abort":
        for entry in list(os.scandir(tree)):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)
        shutil.copytree(kept, tree, symlinks=True, dirs_exist_ok=True)
    else:
        with open(root / f"{name}.log", "a") as log:
            log.write("published\n")
    shutil.rmtree(kept)
    lock.unlink()
    return 0


def _remount(name: str, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,bind,{how}", f"/cvmfs/{name}"], check=True)


def _die(message: str) -> int:
    print(message)
    return 1


def _unpack(scratch: Path, keep_owners: bool) -> None:
    scratch.mkdir()
    catalogues = 0
    with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as tar:
        for member in tar:
            if os.path.basename(member.name) == ".cvmfscatalog":
                catalogues += 1
                if not member.isreg() or catalogues > _MOST_CATALOGUES:
                    raise ValueError(f"bad catalogue marker {member.name}")
            tar.extract(member, scratch, numeric_owner=True)
            path = scratch / member.name
            if not keep_owners:
                os.chown(path, _OWNER, _OWNER, follow_symlinks=False)
            for key, value in member.pax_headers.items():
                if key.startswith("SCHILY.xattr.") and not path.is_symlink():
                    data = value.encode("utf-8", "surrogateescape")
                    os.setxattr(path, key[len("SCHILY.xattr.") :], data)


def _take(scratch: Path, repository: Path) -> None:
    """Add everything. What is there and no directory is replaced."""
    for entry in sorted(os.scandir(scratch), key=lambda each: each.name):
        target = repository / entry.name
        if entry.is_dir(follow_symlinks=False) and target.is_dir() and not target.is_symlink():
            _take(Path(entry.path), target)
        else:
            os.replace(entry.path, target)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
