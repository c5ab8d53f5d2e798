# SPDX-License-Identifier: Apache-2.0
"""Files of storage.conf as distributions and administrators write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from podman_cvmfs.podman.storage_conf.effective import Places
from podman_cvmfs.podman.storage_conf.generation import Generation

OLD = Generation("4.3.1", drop_ins=False, appends=False)
NEW = Generation("6.0.0", drop_ins=True, appends=True)
STORE = "/var/lib/podman-cvmfs/store"
#: In the manner of Fedora: long comments, one more store, a table behind.
FEDORA = b"""\
# This file is the configuration file for all tools
# that use the containers/storage library.

[storage]

# Default storage driver, must be set for proper operation.
driver = "overlay"

runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"

# Transient store mode
# transient_store = true

[storage.options]
# Storage options to be passed to underlying storage drivers

additionalimagestores = [
"/usr/lib/containers/storage",  # from packages
]

# Inodes is used to set a maximum inodes of the container image.
# inodes = ""

[storage.options.overlay]
mountopt = "nodev,metacopy=on"

[storage.options.thinpool]
# Storage Options for thinpool
"""
#: In the manner of Debian's example: the key is there, commented out.
DEBIAN = b"""\
[storage]
driver = "overlay"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"

[storage.options]
#additionalimagestores = [
#]

[storage.options.overlay]
#mount_program = "/usr/bin/fuse-overlayfs"
mountopt = "nodev"
"""
SHAPES = {
    "fedora": FEDORA,
    "debian": DEBIAN,
    "empty": b"",
    "no newline": b'[storage]\ndriver = "overlay"',
    "byte order mark": b"\xef\xbb\xbf" + DEBIAN,
    "carriage returns": FEDORA.replace(b"\n", b"\r\n"),
    "one line": b'[storage.options]\nadditionalimagestores = ["/a", "/b"] # mine\n',
    "dotted": b'storage.driver = "overlay"\nstorage.options.size = "1G"\n',
    "tail first": b'[storage.options.overlay]\nmountopt = "nodev"\n[storage]\ndriver = "overlay"\n',
    "no options": b'[storage]\ndriver = "overlay"\n[other]\nkey = 1\n',
    "empty array": b"[storage.options]\nadditionalimagestores = [\n]\n",
    "appending": b'[storage.options]\nadditionalimagestores = ["/a", {append=true}]\n',
}
every_shape = pytest.mark.parametrize("data", SHAPES.values(), ids=list(SHAPES))


def places_below(root: Path, uid: int = 0, **options: str | None) -> Places:
    """The places of a machine, which are there, below ``root``."""
    names = ("vendor", "admin", "user", "graph")
    for name in names:
        (root / name).mkdir(exist_ok=True)
    vendor, admin, user, graph = (str(root / name) for name in names)
    return Places(uid, vendor, admin, user, graph, **options)


def write_conf(path: Path, *stores: str, driver: str = "", append: bool = False) -> None:
    """Write a file that names these stores."""
    path.parent.mkdir(parents=True, exist_ok=True)
    items = [f'"{store}"' for store in stores] + (["{append=true}"] if append else [])
    head = f'[storage]\ndriver = "{driver}"\n' if driver else ""
    path.write_text(f"{head}[storage.options]\nadditionalimagestores = [{', '.join(items)}]\n")
