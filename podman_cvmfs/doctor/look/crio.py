# SPDX-License-Identifier: Apache-2.0
"""Look at CRI-O's configuration, and at images that stand on our store's layers."""

from __future__ import annotations

import os
from collections.abc import Collection

from podman_cvmfs.doctor.facts import Crio
from podman_cvmfs.errors import InputError, PodmanCvmfsError, printable
from podman_cvmfs.podman.crio_conf import DIRECTORY, has_crio
from podman_cvmfs.podman.crio_images import is_pause, unpinned
from podman_cvmfs.podman.crio_storage import crio_generation, read_crio_storage
from podman_cvmfs.podman.storage_conf.effective import names_store
from podman_cvmfs.store.reader import read_store
from podman_cvmfs.usage.graphroots import find_graphroots
from podman_cvmfs.usage.layer_users import find_layer_users
from podman_cvmfs.util.probe import HangingError, bounded


def look_at_crio(
    store: str, names: Collection[str], graphroot: str, seconds: float, directory: str = DIRECTORY
) -> Crio:
    """CRI-O as it reads its files below ``directory``; ``names`` are those of the images in our
    ``store``, and podman keeps its images in ``graphroot``."""
    if os.geteuid() != 0 or not has_crio(directory):
        return Crio()
    try:
        return bounded(lambda: _crio(store, names, graphroot, directory), seconds)
    except InputError as err:
        return Crio(True, err.message, err.hint or "")
    except HangingError:
        return Crio(True, f"{printable(directory)} doesn't answer")
    except OSError as err:
        return Crio(True, printable(str(err)))


def _crio(store: str, names: Collection[str], graphroot: str, directory: str) -> Crio:
    storage = read_crio_storage(directory)
    conf = storage.conf
    pauses = [name for name in sorted(names) if is_pause(name, conf.pause_image)]
    return Crio(
        is_there=True,
        has_store=names_store(storage.stores, store),
        shares=os.path.realpath(storage.graphroot) == os.path.realpath(graphroot),
        missing=tuple(each for each in storage.stores if not os.path.isdir(each)),
        repairs=conf.internal_repair,
        unpinned=unpinned(sorted(names), conf.pinned_images),
        pause="" if crio_generation().drop_ins else "".join(pauses[:1]),
    )


def look_at_standing(store: str, seconds: float) -> tuple[str, ...]:
    """The images and containers of whoever runs this that stand on layers of ``store``."""

    def look() -> tuple[str, ...]:
        content = read_store(store)
        if content is None:
            return ()
        uses = find_layer_users(content, find_graphroots(passwd=os.devnull, subuid=os.devnull).own)
        users = {user for found in uses.layers.values() for user in found}
        return tuple(sorted(user.name for user in users if user.kind == "image"))

    try:
        return bounded(look, seconds)
    except (HangingError, OSError, PodmanCvmfsError):
        # Other looks report all these.
        return ()
