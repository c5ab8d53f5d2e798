# SPDX-License-Identifier: Apache-2.0
"""Look at additional stores: whether they answer, who can read them, and what ours holds."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from podman_cvmfs.doctor.facts import Contents, Place, Presence
from podman_cvmfs.errors import StoreError, printable
from podman_cvmfs.plan.lay_out import mount_bytes
from podman_cvmfs.plan.retirement import is_retired
from podman_cvmfs.podman.features import SHORT_MOUNT_DATA
from podman_cvmfs.reports.status import counts_of
from podman_cvmfs.settings.policy import Policy, View
from podman_cvmfs.settings.sharing import is_open
from podman_cvmfs.setup.store import NEEDED, lacking
from podman_cvmfs.store.layout import CURRENT, LOCK_FILES, PUBLIC
from podman_cvmfs.store.reader import read_store
from podman_cvmfs.store.records import StoreContent
from podman_cvmfs.usage.foreign_store import ForeignStore
from podman_cvmfs.util.probe import HangingError, bounded
from podman_cvmfs.verify.store import glance


def look_at_place(path: str, seconds: float) -> Place:
    """The additional store ``path`` as podman meets it."""
    try:
        return bounded(lambda: _place(path), seconds)
    except (HangingError, OSError):
        return Place(path, Presence.HANGS)


def _place(path: str) -> Place:
    """Raises OSError where the file system is broken."""
    closed = tuple(_closed_on_the_way(path))
    try:
        owner: int | None = os.stat(path).st_uid
    except PermissionError:
        return Place(path, Presence.CLOSED, closed_at=closed)
    except (FileNotFoundError, NotADirectoryError):
        return Place(path, Presence.MISSING, closed_at=closed)
    real = os.path.realpath(path)
    if not os.path.isdir(path):
        return Place(path, Presence.OTHER, real, owner=owner)
    if os.geteuid() != 0 and not os.access(path, os.R_OK | os.X_OK):
        return Place(path, Presence.CLOSED, real, closed, owner=owner)
    # The kernel may still know attributes of files on a dead file system.
    os.listdir(path)
    locks = {}
    for name, directory in LOCK_FILES.items():
        lock = f"{path}/{directory}/{name}"
        if os.path.exists(lock):
            locks[lock] = os.path.getsize(lock)
    return Place(
        path=path,
        real=real,
        closed_at=(*closed, *_closed_inside(path)),
        lacking=lacking(path),
        locks=locks,
        names=_names(path),
        owner=owner,
        is_open=is_open(path),
        by_us=os.path.islink(f"{path}/{CURRENT}"),
    )


def _closed_on_the_way(path: str) -> Iterator[str]:
    """Directories from the root down to ``path`` that a user can't enter, links followed."""
    seen = set()
    for whole in dict.fromkeys((os.path.abspath(path), os.path.realpath(path))):
        parts = whole.strip("/").split("/")
        for number in range(len(parts) + 1):
            directory = "/" + "/".join(parts[:number])
            last = directory == whole
            if directory not in seen and not _open(directory, 0o5 if last else 0o1):
                yield directory
            seen.add(directory)


def _closed_inside(path: str) -> Iterator[str]:
    for name in PUBLIC:
        directory = f"{path}/{name}"
        if not _open(directory, 0o5):
            yield directory
    for name in NEEDED:
        if not _open(f"{path}/{name}", 0o4):
            yield f"{path}/{name}"


def _open(path: str, wanted: int) -> bool:
    """Whether this user, or for root everybody, has the rights ``wanted`` (as in a mode's last
    digit) on ``path``; a missing ``path`` counts as open."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return True
    if os.geteuid() == 0:
        return stat.S_IMODE(mode) & wanted == wanted
    return os.access(path, wanted)


def _names(path: str) -> frozenset[str]:
    """The names of a store's images; an empty set if they can't be read."""
    records = ForeignStore(path).images()
    return frozenset(
        str(name)
        for record in records
        if isinstance(record.get("names"), list)
        for name in record["names"]
    )


def look_at_contents(path: str, wanted: str, seconds: float) -> Contents:
    """What our store holds; ``wanted`` is the policy of the settings."""
    try:
        return bounded(lambda: _contents(path, wanted), seconds)
    except HangingError:
        return Contents(problem=f"reading it takes more than {seconds:g} seconds")
    except OSError as err:
        return Contents(problem=printable(err.strerror or str(err)))


def _contents(path: str, wanted: str) -> Contents:
    faults = glance(path)
    try:
        content = read_store(path) or StoreContent()
    except StoreError as err:
        return Contents(problem=err.message, faults=faults)
    shown = [image for image in content.images.values() if not is_retired(image)]
    policy = Policy.parse(content.policy)
    return Contents(
        counts=counts_of(content),
        by_layers=sum(image.view == View.LAYERS.value for image in shown),
        exact=sum(image.view == View.EXACT.value for image in shown),
        overlay="" if policy is None else policy.overlay.value,
        policy=content.policy,
        policy_wanted=wanted,
        too_deep=tuple(_too_deep(path, content)),
        faults=faults,
        repositories=tuple(sorted({image.repository for image in shown})),
    )


def _too_deep(path: str, content: StoreContent) -> Iterator[str]:
    """A name of each image whose layers are more than podman 4 can mount."""
    names = {image_id: name for name, image_id in sorted(content.names.items(), reverse=True)}
    for image_id, name in names.items():
        top = content.layers.get(content.images[image_id].top_layer or "")
        if top is not None and mount_bytes(len(top.lowers or ()), path) > SHORT_MOUNT_DATA:
            yield name
