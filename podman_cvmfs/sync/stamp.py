# SPDX-License-Identifier: Apache-2.0
"""Find out in one check that nothing has changed since the last sync.

A sync that has done everything leaves a stamp in the cache. It records the repository's state and
the request. The next sync with the same request compares the stamp first. If it still holds, the
sync reads nothing else. This is the usual case and must be cheap, so this module imports little. A
lost stamp costs one full comparison.

The repository's state is CernVM-FS's revision and root hash, or the times of directories (see
``new_stamp``).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from typing import TYPE_CHECKING, Any

from podman_cvmfs.settings import paths
from podman_cvmfs.util.foreign_file import read_bounded
from podman_cvmfs.util.web_address import is_web_address

if TYPE_CHECKING:
    from podman_cvmfs.settings.files import Settings

#: The format of stamps; ``FILES.md`` tells their keys.
FORMAT = 2
#: A stamp with this time in its place never expires.
FOR_EVER = 1 << 62
#: Extended attributes of a CernVM-FS mount (client 2.12): the catalogue's revision and its hash.
_XATTRS = ("user.revision", "user.root_hash")
#: When the client last failed to fetch a file, in seconds since 1970, or 0 (client 2.12).
_LAST_ERROR = "user.timestamp_last_ioerr"
#: A longer file is no stamp, in bytes. A directory has about 100 in it.
_MAX_STAMP = 1 << 28
#: No wish list is longer, in bytes.
_MAX_LIST = 1 << 24


def revision_of(repository: str) -> list[str] | None:
    """Revision and root hash of a CernVM-FS mount, None for a plain directory.

    Listing the directory first makes the client look for a new revision; without that a fresh
    process may be told the old one for up to a minute. Raises OSError.
    """
    os.listdir(repository)
    try:
        return [os.getxattr(repository, name).decode("ascii", "replace") for name in _XATTRS]
    except OSError:
        return None


def last_error(repository: str) -> int:
    """When CernVM-FS's client last failed to fetch a file of ``repository``, in seconds since 1970;
    0 if it didn't, or tells nothing."""
    try:
        return int(os.getxattr(repository, _LAST_ERROR))
    except (OSError, ValueError):
        return 0


def stamp_path(cache: str, store: str, repository: str) -> str:
    """The path, in the directory ``cache``, of the stamp for ``repository`` in ``store``."""
    key = hashlib.sha256(os.fsencode(f"{store}\0{repository}")).hexdigest()
    return f"{_directory(cache)}/{key}.json"


def _directory(cache: str) -> str:
    return f"{cache}/stamps"


def forget(cache: str) -> None:
    """Remove all stamps, so that the next syncs compare everything. Raises OSError, also if a
    symbolic link is in the directory's place."""
    try:
        directory = os.open(_directory(cache), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        for name in os.listdir(directory):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=directory)
    finally:
        os.close(directory)


def is_current(
    cache: str, store: str, repository: str, wishes: str, now: int, errors_count: bool = False
) -> bool:
    """Whether the last sync of ``store`` did everything in ``wishes`` and nothing has changed.

    ``now`` is in seconds since 1970. With ``errors_count`` also a failed fetch of CernVM-FS's
    client is a change. False in every doubt, and on every error.
    """
    try:
        stamp = read_stamp(cache, store, repository)
        if (
            stamp["wishes"] != wishes
            or stamp["repository"] != repository
            or not stamp["written"] <= now < stamp["expires"]
        ):
            return False
        if stamp["revision"] is not None and stamp["revision"] != revision_of(repository):
            return False
        if errors_count and last_error(repository) >= stamp["written"]:
            return False
        for path, times in stamp["directories"].items():
            attributes = os.stat(os.path.join(repository, path), follow_symlinks=False)
            if [attributes.st_mtime_ns, attributes.st_ino] != times:
                return False
        # A link in the place of one of these changes no time that is known.
        if not all(
            stat.S_ISDIR(os.lstat(f"{repository}/{path}").st_mode) for path in stamp["shown"]
        ):
            return False
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return bool(stamp["directories"] or stamp["revision"])


def last_report(cache: str, store: str, repository: str) -> dict[str, object]:
    """The report of the sync that left the stamp; empty if the stamp has gone meanwhile."""
    report = read_stamp(cache, store, repository).get("report")
    return report if isinstance(report, dict) else {}


def read_stamp(cache: str, store: str, repository: str) -> dict[str, Any]:
    """The stamp of the last sync that did everything. It is empty if there is none, or if the store
    has changed since."""
    try:
        path = stamp_path(cache, store, repository)
        stamp = json.loads(read_bounded(path, _MAX_STAMP, follow=False))
        if stamp["format"] == FORMAT and stamp["generation"] == generation_of(store):
            return dict(stamp)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    return {}


def generation_of(store: str) -> str:
    """A text that identifies one state of ``store``. Raises OSError."""
    current = f"{store}/.current"
    attributes = os.lstat(current)
    return f"{os.readlink(current)} {attributes.st_mtime_ns} {attributes.st_ino}"


def wishes_text(settings: Settings) -> str:
    """A text with everything that decides what a sync does, for the stamp."""
    digest = hashlib.sha256(json.dumps(settings.values(), sort_keys=True).encode())
    for place in settings.wish_lists:
        path = _copy_path(settings.cache, place) if is_web_address(place) else place
        # An unreadable list is reported when it is really needed.
        with contextlib.suppress(OSError):
            digest.update(hashlib.sha256(read_bounded(path, _MAX_LIST)).digest())
    # podman's rules for images count, too; which of these files it reads depends on its version.
    for path in sorted({*paths.policy_files(), *paths.policy_files(everywhere=False)}):
        with contextlib.suppress(OSError):
            content = hashlib.sha256(read_bounded(path, _MAX_LIST)).hexdigest()
            digest.update(f"{path} {content}".encode(errors="surrogateescape"))
    # The policy holds the number of the layout that this version writes.
    return f"1 {os.geteuid()} {settings.platform} {settings.policy} {digest.hexdigest()}"


def _copy_path(cache: str, address: str) -> str:
    from podman_cvmfs.cache.list_copies import copy_path

    return copy_path(cache, address)
