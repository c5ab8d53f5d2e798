# SPDX-License-Identifier: Apache-2.0
"""Asks a CernVM-FS client for the catalogue of a directory: its hash, server and proxy.

The client (2.12, ``magic_xattr.cc``) answers by extended attributes. It has checked the catalogue's
hash by the repository's signature: what has this hash is as good as the mount. Other file systems
pass on attributes that the owner of a directory may set, so only mounts that root or we ourselves
have made are asked.
"""

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass

from podman_cvmfs.registry.addresses import ForbiddenAddressError, parse_address

_COUNTERS, _HOST, _PROXY = "user.catalog_counters", "user.host", "user.proxy"
_HASH = re.compile(r"^catalog_hash: ([0-9a-f]{40}(?:-rmd160|-shake128)?)$", re.MULTILINE)
_MOUNT_POINT = re.compile(r"^catalog_mountpoint: (.*)$", re.MULTILINE)
_DIRECTORIES = re.compile(r"^self_dir,([0-9]{1,9})$", re.MULTILINE)
#: How the client says that it uses no proxy.
DIRECT = "DIRECT"


@dataclass(frozen=True)
class CatalogueAddress:
    """The catalogue that describes a directory, and where to get it."""

    #: The hash of the compressed catalogue, in hexadecimal digits, with a suffix for the algorithm.
    hash: str
    #: The directory at which the catalogue begins, from the repository's root; "" is the root.
    begins: str
    #: The base of the repository's addresses at the server.
    server: str
    #: The address of the client's proxy, or ``DIRECT``.
    proxy: str
    #: How many directories the catalogue describes, if the client says so.
    directories: int | None = None

    def of_nested(self, hash_: str, begins: str) -> CatalogueAddress:
        """The address of a catalogue that this one names."""
        return CatalogueAddress(hash_, begins, self.server, self.proxy)

    @property
    def url(self) -> str:
        """Where to get it."""
        return f"{self.server}/data/{self.hash[:2]}/{self.hash[2:]}C"


class CatalogueClient:
    """The client that shows the mount at ``mount_point``. Whether it can be trusted, its server and
    its proxy are asked for once."""

    def __init__(self, mount_point: str) -> None:
        self._mount_point = mount_point

    @functools.cached_property
    def _way(self) -> tuple[str, str] | None:
        """The client's server and proxy; None if it doesn't tell, and if it isn't trusted."""
        if not _is_trusted_mount(self._mount_point):
            return None
        try:
            host, proxy = (_attribute(self._mount_point, name) for name in (_HOST, _PROXY))
        except (OSError, UnicodeDecodeError):
            return None
        host = host.rstrip("/")
        if not _is_address(host) or not (proxy == DIRECT or _is_address(proxy)):
            return None
        return host, proxy

    def address_of(self, directory: str) -> CatalogueAddress | None:
        """The address of the catalogue for ``directory``, a path from the mount point; "" is that
        itself.

        None if the client hides its attributes, and if this isn't a client's mount.
        """
        way = self._way
        if way is None:
            return None
        path = f"{self._mount_point}/{directory}" if directory else self._mount_point
        try:
            counters = _attribute(path, _COUNTERS)
        except (OSError, UnicodeDecodeError):
            return None
        found, begins = _HASH.search(counters), _MOUNT_POINT.search(counters)
        if found is None or begins is None:
            return None
        at = begins[1].strip().strip("/")
        if at and directory != at and not directory.startswith(f"{at}/"):
            return None
        count = _DIRECTORIES.search(counters)
        return CatalogueAddress(found[1], at, *way, None if count is None else int(count[1]))


def _attribute(path: str, name: str) -> str:
    return os.getxattr(path, name).decode("ascii").strip("\0")


def _is_address(text: str) -> bool:
    try:
        parse_address(text)
    except ForbiddenAddressError:
        return False
    return True


def _is_trusted_mount(mount_point: str) -> bool:
    """Whether a program that root or this user has started serves the mount at this place."""
    try:
        if not os.path.ismount(mount_point):
            return False
        device = os.stat(mount_point).st_dev
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
            # proc(5): ID, parent, major:minor, root, .., a hyphen, type, source, options.
            for line in file:
                fields = line.split()
                if fields[2] == f"{os.major(device)}:{os.minor(device)}":
                    at = fields.index("-")
                    options = fields[at + 3].split(",")
                    users = {f"user_id={user}" for user in (0, os.geteuid())}
                    is_whole = fields[3] == "/"
                    is_fuse = fields[at + 1].startswith("fuse")
                    return is_whole and is_fuse and not users.isdisjoint(options)
    except (OSError, ValueError, IndexError):
        pass
    return False
