# SPDX-License-Identifier: Apache-2.0
"""Examine a store's top directory, generations, pool and locks."""

from __future__ import annotations

import os
import re
import stat

from podman_cvmfs.settings.advice import on_store
from podman_cvmfs.settings.policy import Policy
from podman_cvmfs.store import layout
from podman_cvmfs.store.entries import retired_links
from podman_cvmfs.store.records import StoreContent
from podman_cvmfs.util.lock_holder import holder_of
from podman_cvmfs.verify.fault import Kind
from podman_cvmfs.verify.inspection import Inspection
from podman_cvmfs.verify.record_reader import entry_id

_GENERATION = re.compile(rf"{layout.GENERATIONS}/(0|[1-9][0-9]*)\Z")
_POOL = "pool"
_CURRENT_NEW = layout.CURRENT + ".new"
#: The mode that versions before this one gave the lock against other syncs.
_EARLIER_SYNC_LOCK = 0o644


def current_generation(look: Inspection) -> str | None:
    """The directory of the current generation; None, and findings, without one."""
    if look.attributes("", optional=True) is None:
        if not look.findings:
            look.error("", "there is no store", on_store(look.store, "sync"), Kind.NO_STORE)
        return None
    if not os.path.isdir(look.store):
        look.error("", "is not a directory", "name another path for the store", Kind.NO_STORE)
        return None
    names = look.names("")
    if names is None:
        return None
    if layout.CURRENT not in names:
        what = "is not a store, or an empty one"
        look.error("", what, on_store(look.store, "sync"), Kind.NO_STORE)
        return None
    target = look.link(layout.CURRENT)
    if target is None:
        return None
    if not _GENERATION.match(target):
        look.error(layout.CURRENT, f"leads to {target!r}, which is not a generation")
        return None
    return target if look.names(target) is not None else None


def check_frame(look: Inspection) -> None:
    """Examine the top directory, and the locks in it."""
    names = look.names("") or set()
    leftovers = names & {_CURRENT_NEW}
    known = {*layout.PUBLIC, layout.CURRENT, layout.GENERATIONS, layout.LOCKS, _POOL, *leftovers}
    look.no_others("", names, known)
    for name in layout.PUBLIC:
        look.link(name, f"{layout.CURRENT}/{name}")
    pools = {os.path.basename(path) for path in (layout.POOL_LAYERS, layout.POOL_IMAGES)}
    look.no_others(_POOL, look.names(_POOL) or set(), pools)
    locks = look.names(layout.LOCKS)
    if locks is not None:
        look.no_others(layout.LOCKS, locks, {*layout.LOCK_FILES, layout.SYNC_LOCK})
        if layout.SYNC_LOCK in locks:
            _check_sync_lock(look)
    if leftovers and not sync_runs(look):
        _left_over(look, _CURRENT_NEW, "is left from a killed sync")


def _check_sync_lock(look: Inspection) -> None:
    path = f"{layout.LOCKS}/{layout.SYNC_LOCK}"
    attributes = look.regular(path, None)
    if attributes is None:
        return
    # The next sync that changes something closes it.
    if stat.S_IMODE(attributes.st_mode) != _EARLIER_SYNC_LOCK:
        look.mode(path, attributes, layout.SYNC_LOCK_MODE)


def check_top(look: Inspection, content: StoreContent) -> None:
    """Examine who can reach the store: all users if it is shared, else only its owner. If the
    policy is missing or of an earlier version, this is unknown."""
    attributes = look.attributes("")
    policy = Policy.parse(content.policy)
    if attributes is None:
        return
    mode = stat.S_IMODE(attributes.st_mode) & ~stat.S_ISGID
    if policy is not None and policy.is_written:
        look.mode("", attributes, layout.OPEN if policy.shared else layout.CLOSED)
    elif mode != layout.OPEN:
        look.mode("", attributes, layout.CLOSED)


def check_locks(look: Inspection, generation: str) -> None:
    """Examine podman's lock files in ``generation``, without opening them."""
    for name, directory in layout.LOCK_FILES.items():
        kept = look.regular(f"{layout.LOCKS}/{name}")
        path = f"{generation}/{directory}/{name}"
        linked = look.regular(path)
        if linked is None:
            continue
        if linked.st_size != layout.TOKEN_BYTES:
            look.error(path, f"has {linked.st_size} bytes, not {layout.TOKEN_BYTES}")
        elif kept is not None and not _same_file(look, kept, linked):
            look.error(path, f"is not the same file as {layout.LOCKS}/{name}")


def _same_file(look: Inspection, one: os.stat_result, other: os.stat_result) -> bool:
    if (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino):
        return True
    # CernVM-FS breaks up hard links, but nobody changes a store that it serves.
    return bool(os.statvfs(look.store).f_flag & os.ST_RDONLY)


def check_generation(look: Inspection, generation: str, content: StoreContent) -> None:
    """Examine the names in the directories of ``generation``.

    A layer's directory without a record in layers.json is the worst. If a user pulls that layer,
    the pull fails, and no podman command works in the user's storage any more.
    """
    top = {layout.STATE, layout.SUMS, *layout.PUBLIC}
    look.no_others(generation, look.names(generation) or set(), top)
    overlay = f"{generation}/{layout.OVERLAY}"
    present = look.names(overlay) or set()
    pieces = content.pieces()
    retired = retired_links(look.store, content)
    known = {"l", *content.layers, *pieces, *retired.values()}
    for name in sorted(present - known):
        orphan = re.match(r"[0-9a-f]{64}\Z", name)
        what = f"is a layer without a record in {layout.LAYERS_JSON}: pulls of this layer fail"
        look.error(f"{overlay}/{name}", what if orphan else "doesn't belong here")
    links = {layer.link for layer in content.layers.values()}
    links.update(map(layout.link_name, pieces))
    for name, entry in retired.items():
        look.link(f"{overlay}/{entry}", f"../../../{layout.POOL_LAYERS}/{entry}")
        look.link(f"{overlay}/l/{name}", f"../{entry}/diff")
    look.no_others(f"{overlay}/l", look.names(f"{overlay}/l") or set(), links | retired.keys())
    layers = f"{generation}/{layout.LAYERS}"
    splits = [
        layout.tar_split_link(layer.layer_id, layer.entry)
        for layer in content.layers.values()
        if layer.tar_split is not None
    ]
    for name, target in splits:
        look.link(f"{layers}/{name}", target)
    known = {layout.LAYERS_JSON, "layers.lock", *(name for name, _ in splits)}
    look.no_others(layers, look.names(layers) or set(), known)
    images = f"{generation}/{layout.IMAGES}"
    known = {layout.IMAGES_JSON, "images.lock", *content.images}
    look.no_others(images, look.names(images) or set(), known)


def check_leftovers(look: Inspection, generation: str, content: StoreContent) -> None:
    """Examine the names of generations and in the pool.

    Leftovers of a killed sync are a warning. While a sync runs, leftovers can't be told from its
    new files.
    """
    number = int(os.path.basename(generation))
    running = sync_runs(look)
    names = look.names(layout.GENERATIONS) or set()
    numbers = {name for name in names if re.match(r"(0|[1-9][0-9]*)\Z", name)}
    look.no_others(layout.GENERATIONS, names, numbers)
    # The one before the current stays for present readers; 0 is the empty one with which a store
    # begins.
    previous = max((int(name) for name in numbers if 0 < int(name) < number), default=number)
    for name in sorted(numbers - {str(number), str(previous)}):
        if not running:
            what = "is left from a killed sync"
            _left_over(look, f"{layout.GENERATIONS}/{name}", what)
    used = content.entries() | set(content.retired_entries)
    for pool in (layout.POOL_LAYERS, layout.POOL_IMAGES):
        for name in sorted((look.names(pool) or set()) - used):
            ours = entry_id(name.partition(".")[0]) is not None
            if not ours:
                look.foreign(f"{pool}/{name}")
            elif not running:
                _left_over(look, f"{pool}/{name}", "nothing in the store leads to it")


def _left_over(look: Inspection, relative: str, what: str) -> None:
    cure = "nothing: the next sync that changes the store removes it"
    look.warning(Kind.LEFTOVER, relative, what, cure)


def sync_runs(look: Inspection) -> bool:
    """Whether a sync is at work on the store. The check takes no lock. Only the store's owner can
    find out: for others the answer is yes."""
    path = look.path(f"{layout.LOCKS}/{layout.SYNC_LOCK}")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        return True
    except OSError:
        return False
    try:
        return holder_of(descriptor) is not None
    except OSError:
        return False
    finally:
        os.close(descriptor)
