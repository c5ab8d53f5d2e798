# SPDX-License-Identifier: Apache-2.0
"""Lists what containers see, from inside a machine: ``python3 -m tests.matrix.listing OUT IMAGE..``

In the place of an image, ``container:NAME`` is a container that there is already. Runs with
whatever python3 the machine has, as root or under ``podman unshare``, and writes a literal that
``read`` takes back: image -> path -> the fields of ``Entry``, or an error's text.
"""

from __future__ import annotations

import ast
import dataclasses
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Union

from tests.support import lister
from tests.support.lister import Entry

#: The content of a file that may not be read, the kind of one that can't even be looked up.
UNREADABLE = "unreadable"
#: In front of the name of a container that there is, in the place of an image.
CONTAINER = "container:"

Listed = Union[dict[bytes, Entry], str]


def _podman(*args: str) -> str:
    done = subprocess.run(
        ["podman", *args],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=300,
    )
    if done.returncode:
        raise RuntimeError(f"podman {args[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


def _entry(path: bytes) -> Entry:
    try:
        return lister.entry_of(path)
    except OSError as err:
        reason = f"{UNREADABLE}: {os.strerror(err.errno or 0)}"
        try:
            info = os.lstat(path)
        except PermissionError:
            return Entry(UNREADABLE, 0, 0, 0, 0, 0, 0, reason, b"", (0, 0), ())
        kind = lister.KINDS[stat.S_IFMT(info.st_mode)]
        size, nlink = (0, 0) if kind == "directory" else (info.st_size, info.st_nlink)
        mode = stat.S_IMODE(info.st_mode)
        return Entry(
            kind, mode, info.st_uid, info.st_gid, size, nlink, info.st_mtime_ns, reason,
            target=b"", device=(0, 0), xattrs=(),
        )  # fmt: skip


def list_tree(root: bytes) -> dict[bytes, Entry]:
    """As ``lister.list_tree``, but what can't be read is marked and no error."""
    found = {b".": _entry(root)}
    for parent, directories, files in os.walk(root):
        for name in (*directories, *files):
            path = os.path.join(parent, name)
            found[os.path.relpath(path, root)] = _entry(path)
    return found


def _seen(image: str) -> Listed:
    is_container = image.startswith(CONTAINER)
    try:
        container = (
            image[len(CONTAINER) :]
            if is_container
            else _podman("create", "--pull=never", image, "true")
        )
    except RuntimeError as err:
        return str(err)
    try:
        return list_tree(os.fsencode(_podman("mount", container)))
    except (RuntimeError, OSError) as err:
        return str(err)
    finally:
        try:
            _podman("umount", container)
            if not is_container:
                _podman("rm", container)
        except RuntimeError:
            pass  # what failed before says more


def read(path: Path) -> dict[str, Listed]:
    """Read what a run of this module has written."""
    document = ast.literal_eval(path.read_text())
    return {
        image: listed
        if isinstance(listed, str)
        else {name: Entry(*fields) for name, fields in listed.items()}
        for image, listed in document.items()
    }


def main(out: str, *images: str) -> None:
    """List the root file system of a new container of each image into the file ``out``."""
    document: dict[str, object] = {}
    for image in images:
        listed = _seen(image)
        document[image] = (
            listed
            if isinstance(listed, str)
            else {name: dataclasses.astuple(entry) for name, entry in listed.items()}
        )
    Path(out).write_text(repr(document))


if __name__ == "__main__":
    main(*sys.argv[1:])
