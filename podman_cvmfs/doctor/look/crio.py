# SPDX-License-Identifier: Apache-2.0
"""Look at CRI-O's configuration, and at images that stand on our store's layers."""

from __future__ import annotations

import os
from collections.abc import Collection

from podman_cvmfs.doctor.facts import Crio
from podman_cvmfs.errors import InputError, PodmanCvmfsError, printable
from podman_cvmfs.podman.crio_conf import (
    DIRECTORY,
    crio_generation,
    has_crio,
    read_crio_conf,
)
from podman_cvmfs.podman.crio_images import is_pause, unpinned
from podman_cvmfs.podman.storage_conf.effective import (
    Places,
    graphroot_of,
    names_store,
    read_effective,
)
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
    conf = read_crio_conf(directory)
    generation = crio_generation()
    # A service has nothing in its environment.
    places = Places.of_process({"HOME": "/root"})
    effective = read_effective(places, generation)
    stores = tuple(dict.fromkeys([*effective.stores, *conf.stores]))
    root = conf.root or graphroot_of(places, effective)
    pauses = [name for name in sorted(names) if is_pause(name, conf.pause_image)]
    return Crio(
        is_there=True,
        has_store=names_store(stores, store),
        shares=os.path.realpath(root) == os.path.realpath(graphroot),
        missing=tuple(each for each in stores if not os.path.isdir(each)),
        repairs=conf.internal_repair,
        unpinned=unpinned(sorted(names), conf.pinned_images),
        pause="".join(pauses[:1]) if not generation.drop_ins else "",
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
