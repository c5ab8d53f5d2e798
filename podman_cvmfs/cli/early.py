# SPDX-License-Identifier: Apache-2.0
"""Reads images early, and says what was read; for ``prefetch`` and ``sync``."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import asdict

from podman_cvmfs.errors import PodmanCvmfsError, printable
from podman_cvmfs.profiles.choose import Chosen, choose
from podman_cvmfs.profiles.prefetch import Limits, Prefetched, prefetch
from podman_cvmfs.profiles.started import only_once
from podman_cvmfs.settings.files import Settings
from podman_cvmfs.store.reader import read_store
from podman_cvmfs.store.records import StoreContent, StoredImage
from podman_cvmfs.util.apart import apart
from podman_cvmfs.util.words import counted

log = logging.getLogger(__name__)


def read_early(
    settings: Settings, content: StoreContent, image: StoredImage, limits: Limits
) -> dict[str, object] | None:
    """Read an image of the settings' store, and log what was done; return that as JSON has it, or
    None if another process reads the image just now. Raises PodmanCvmfsError if the store is
    damaged."""
    with only_once(settings.store, image) as is_first:
        if not is_first:
            log.info("%s: another process is already reading it", image.image_id[:12])
            return None

        def read() -> tuple[Chosen, Prefetched]:
            chosen = choose(settings.store, content, image, settings.profiles, settings.cache)
            what = f"reading {image.image_id[:12]}"
            return chosen, prefetch(chosen.shown, chosen.uses, limits, what)

        # Threads that wait for a dead server would keep this process from ending.
        chosen, done = apart(read)
    _tell(image, chosen, done)
    return {"image": image.image_id, "origin": chosen.origin, **asdict(done)}


def read_new(settings: Settings, names: Iterable[str]) -> None:
    """Read the images of these names after a sync. Failures are logged."""
    content = read_store(settings.store) or StoreContent()
    for image_id in dict.fromkeys(content.names[name] for name in names if name in content.names):
        try:
            read_early(settings, content, content.images[image_id], Limits())
        except PodmanCvmfsError as err:
            log.warning("%s is not read early: %s", image_id[:12], err.line)


def _tell(image: StoredImage, chosen: Chosen, done: Prefetched) -> None:
    name = printable(min(image.published, default=image.image_id[:12]))
    read = counted(done.files, "file")
    log.info("%s: %s, %d bytes read, by %s", name, read, done.size, chosen.origin)
    if done.fetched is not None:
        log.info("  in that time CernVM-FS's client fetched %s", counted(done.fetched, "object"))
    if done.missing:
        log.info("  not in the image: %s of the profile", counted(done.missing, "file"))
    if done.left:
        log.warning("  left out: %s; see --size and --seconds", counted(done.left, "file"))
    if done.failed:
        log.warning("  can't be read: %s", counted(done.failed, "file"))
