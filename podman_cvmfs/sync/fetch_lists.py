# SPDX-License-Identifier: Apache-2.0
"""Fetches wish lists from web servers before a sync.

Each ``sync`` asks for each list, by one conditional request: somebody who has changed a list and
then syncs expects the change. ``sync --watch`` looks every few seconds, so it asks at most once a
minute. A list that can't be fetched, or that is broken, leaves the last good copy in force.
"""

from __future__ import annotations

import time

from podman_cvmfs.cache.list_copies import ListCopy, keep_copy, read_copy
from podman_cvmfs.errors import InputError, PodmanCvmfsError, RegistryError
from podman_cvmfs.settings.files import Settings
from podman_cvmfs.sync.wish_list import MAX_WISH_LIST, judged_list
from podman_cvmfs.util.web_address import is_web_address, shown_address

#: A watch doesn't ask more often, in seconds.
WATCH_PAUSE = 60.0


class ListFetcher:
    """Keeps the copies of the settings' wish lists up to date, at most every ``pause`` seconds."""

    def __init__(self, settings: Settings, pause: float = 0.0) -> None:
        self._settings = settings
        self._pause = pause
        self._asked: float | None = None
        self._warnings: tuple[str, ...] = ()

    def refresh(self) -> tuple[str, ...]:
        """Ask for the lists, unless that was done just now; the warnings of the last time.

        Raises InputError for a list that can't be fetched and has no copy, StoreError.
        """
        now = time.monotonic()
        if self._asked is None or now - self._asked >= self._pause:
            self._warnings = tuple(self._fetch())
            # After a failure without a copy the next attempt may come at once.
            self._asked = now
        return self._warnings

    def _fetch(self) -> list[str]:
        from podman_cvmfs.registry.web import Version, WebClient

        settings, limits = self._settings, self._settings.registries
        client = WebClient(limits.timeout, limits.retries, limits.max_pause)
        warnings = []
        try:
            for address in filter(is_web_address, settings.wish_lists):
                copy = read_copy(settings.cache, address)
                known = None if copy is None else Version(copy.etag, copy.modified)
                shown = shown_address(address)
                try:
                    found = client.get(address, f"the wish list {shown}", MAX_WISH_LIST, known)
                    if found is None:
                        continue
                    judged_list(found.data, shown)
                except (RegistryError, InputError) as err:
                    if copy is None:
                        raise _without_copy(err) from None
                    warnings.append(f"{err.message}; the last good copy is used")
                    continue
                version = found.version
                new = ListCopy(found.data, version.etag, version.modified)
                if new != copy:
                    keep_copy(settings.cache, address, new)
        finally:
            client.close()
        return warnings


def _without_copy(err: PodmanCvmfsError) -> InputError:
    return InputError(err.message, err.hint or "correct wish_lists, or sync again later")
