# SPDX-License-Identifier: Apache-2.0
"""Plans CRI-O's drop-in: it names the store, and keeps CRI-O and the kubelet from harm with it.

CRI-O up to 1.37 at least reads no drop-ins of storage.conf. Options in its own files are added to
those of storage.conf, and the same store twice counts once. So a file of its own is enough, with
and without podman on the machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import tomlkit

from podman_cvmfs.errors import InputError, StoreError, printable
from podman_cvmfs.plan.retirement import RETIRED_REGISTRY, is_retired
from podman_cvmfs.podman.crio_conf import (
    DIRECTORY,
    RESTART,
    drop_in_directory,
    has_crio,
)
from podman_cvmfs.podman.crio_images import is_pause, pins_for
from podman_cvmfs.podman.crio_storage import CrioStorage, crio_generation, read_crio_storage
from podman_cvmfs.podman.storage_conf.effective import names_store
from podman_cvmfs.podman.storage_conf.toml_file import read_file
from podman_cvmfs.settings.advice import on_store
from podman_cvmfs.setup.changes import Change
from podman_cvmfs.setup.record import Manifest
from podman_cvmfs.setup.request import Plan, SetupRequest
from podman_cvmfs.store.reader import read_store
from podman_cvmfs.store.records import StoreContent
from podman_cvmfs.usage.layer_users import User, find_layer_users

#: Sorted behind the others: of most settings the last one counts.
_NAME = "99-podman-cvmfs.conf"
#: So many images and containers are named.
_SHOWN = 5
_TEXT = """\
# Made by 'podman-cvmfs setup --crio'; 'podman-cvmfs setup --undo' removes it. CRI-O reads this file
# only when it starts.
[crio]
storage_option = {options}
# After a crash CRI-O checks its storage. The check takes everything that stands on an additional
# store for damaged, and CRI-O then removes all containers and images. So it may not check.
internal_repair = false

[crio.image]
# The kubelet's garbage collection leaves these images alone. Images of the store can't be removed.
pinned_images = {pins}
"""
_MISSING = (
    "CRI-O is on this machine: run 'podman-cvmfs setup --crio' too. Without that, a crash of CRI-O "
    "can remove all its containers and images, and its lists of images can fail after podman has "
    "pulled an image"
)


def drop_in(directory: str = DIRECTORY) -> str:
    """The path of the file that set-up makes."""
    return f"{drop_in_directory(directory)}/{_NAME}"


def was_set_up(earlier: Manifest, directory: str = DIRECTORY) -> bool:
    """Whether an ``earlier`` set-up was asked for CRI-O."""
    path = os.path.realpath(drop_in(directory))
    return any(each.path == path for each in earlier.files) and read_file(path) is not None


def put_crio(plan: Plan, request: SetupRequest, directory: str = DIRECTORY) -> None:
    """Plan the drop-in for CRI-O. Raises InputError for broken files of CRI-O, StoreError for a
    broken store."""
    path = drop_in(directory)
    is_ours = was_set_up(request.earlier, directory)
    if not is_ours and os.path.lexists(path):
        raise InputError(
            f"{printable(path)} is there already, and setup has not made it",
            "give it another name, or remove it",
        )
    if "," in request.store:
        raise InputError(
            f"CRI-O can't use the store {printable(request.store)}: its path has a comma",
            "choose another place for the store",
        )
    storage = read_crio_storage(directory, without=path)
    conf = storage.conf
    content = read_store(request.store)
    names = [] if content is None else _listed(content)
    pins = [*conf.pinned_images, *pins_for(names), f"{RETIRED_REGISTRY}/*"]
    options = _options(request.store, storage)
    text = _TEXT.format(options=_array(options), pins=_array(list(dict.fromkeys(pins))))
    known = len(plan.changes)
    plan.put(path, text.encode())
    if len(plan.changes) > known:
        plan.remarks.append(RESTART)
    plan.remarks += _remarks(request.store, names, conf.pause_image)
    plan.remarks += [
        f"CRI-O reads {printable(each)} later, so the settings in that file win"
        for each in conf.files
        if each.startswith(f"{drop_in_directory(directory)}/") and each > path
    ]


def _options(store: str, storage: CrioStorage) -> list[str]:
    """The values of ``storage_option`` that name ``store``. If it is spelt otherwise elsewhere,
    CRI-O would list its images twice."""
    is_spelt_otherwise = store not in storage.stores and names_store(storage.stores, store)
    is_named = is_spelt_otherwise or store in storage.conf.stores
    return [] if is_named else [f"overlay.imagestore={store}"]


def _listed(content: StoreContent) -> list[str]:
    """The names of images that aren't retired."""
    return [name for name, key in content.names.items() if not is_retired(content.images[key])]


def _remarks(store: str, names: Sequence[str], pause_image: str) -> list[str]:
    if not names:
        sync = on_store(store, "sync")
        return [f"the store has no images yet: run '{sync}', and then this again to pin the images"]
    pause = [name for name in names if is_pause(name, pause_image)]
    if crio_generation().drop_ins:
        # It mounts each piece by itself (containers/storage 1.63 ``drivers/overlay/overlay.go``).
        return []
    return [pause_trouble(pause[0])] if pause else []


def pause_trouble(name: str) -> str:
    """What happens to pods if the pause image ``name`` is in the store."""
    return f"pods with hostUsers: false don't start, because the store has {printable(name)}"


def put_hint(plan: Plan, directory: str = DIRECTORY) -> None:
    """Say what to add on a machine with CRI-O if set-up wasn't asked for CRI-O."""
    if has_crio(directory):
        plan.remarks.append(_MISSING)


def undo_remarks(
    changes: Iterable[Change], stores: Iterable[str], directory: str = DIRECTORY
) -> list[str]:
    """What to do after ``changes`` that take the ``stores`` from CRI-O; nothing if they don't."""
    if all(change.path != os.path.realpath(drop_in(directory)) for change in changes):
        return []
    found = [str(user) for store in stores for user in _users(store, directory)]
    if not found:
        return [RESTART]
    shown = ", ".join(found[:_SHOWN]) + (", .." if len(found) > _SHOWN else "")
    return [f"CRI-O can't list its images while these stand on the store: {shown}", RESTART]


def _users(store: str, directory: str) -> list[User]:
    """The images and containers that stand on ``store`` where CRI-O keeps its own."""
    try:
        content = read_store(store)
        storage = read_crio_storage(directory)
    except (InputError, StoreError):
        return []
    if content is None:
        return []
    roots = list(dict.fromkeys([storage.graphroot, *storage.conf.roots]))
    uses = find_layer_users(content, roots).layers.values()
    return sorted({user for each in uses for user in each if user.kind != "layer"})


def _array(values: list[str]) -> str:
    array = tomlkit.array()
    array.extend(values)
    return array.multiline(len(values) > 1).as_string()
