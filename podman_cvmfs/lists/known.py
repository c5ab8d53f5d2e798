# SPDX-License-Identifier: Apache-2.0
"""What the rest of the project asks for file lists: whether a layer has one, and its entries."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from podman_cvmfs.errors import StoreError
from podman_cvmfs.lists.entry import Entry
from podman_cvmfs.oci.documents import Digest


class BadListError(StoreError):
    """The file lists with these digests, or the tar-splits with these diff IDs, are gone or
    damaged, or the store can't hold them."""

    def __init__(self, digests: Iterable[str], message: str, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.digests = frozenset(digests)


class KnownLists(Protocol):
    """The file lists of layers; safe to use from several threads."""

    def find(self, repository: str, layer: Digest) -> str | None:
        """The digest, in hexadecimal, of the list of the layer whose blob has the digest ``layer``
        and whose files are in ``repository``; None if there is no list."""

    def tar_size(self, layer: Digest, diff_id: Digest) -> int | None:
        """The bytes of the tar of the layer with this blob, if the layer's list is made of that
        tar and its tar-split is known; else None."""

    def tar_split(self, diff_id: Digest) -> bytes | None:
        """The tar-split of a layer, compressed with gzip; None if it is gone."""

    def entries(self, digest: str) -> Iterable[Entry]:
        """The list with this digest. Raises InputError or StoreError if it is gone or damaged."""


class NoLists:
    """No layer has a list."""

    def find(self, repository: str, layer: Digest) -> str | None:
        """None."""
        return None

    def tar_size(self, layer: Digest, diff_id: Digest) -> int | None:
        """None."""
        return None

    def tar_split(self, diff_id: Digest) -> bytes | None:
        """None."""
        return None

    def entries(self, digest: str) -> Iterable[Entry]:
        """Raises StoreError."""
        raise StoreError(f"the file list {digest} is gone", "sync again")


class GoodLists:
    """The lists of ``lists`` without those that turned out to be bad."""

    def __init__(self, lists: KnownLists) -> None:
        self._lists = lists
        self._bad: set[str] = set()
        self._sizes: dict[Digest, int] = {}

    def find(self, repository: str, layer: Digest) -> str | None:
        """As ``KnownLists.find``."""
        digest = self._lists.find(repository, layer)
        return None if digest in self._bad else digest

    def tar_size(self, layer: Digest, diff_id: Digest) -> int | None:
        """As ``KnownLists.tar_size``."""
        if diff_id.hex in self._bad:
            return None
        # Many images share a base, and to read the tar-split of a large one takes a second.
        size = self._sizes.get(layer) or self._lists.tar_size(layer, diff_id)
        if size is not None:
            self._sizes[layer] = size
        return size

    def tar_split(self, diff_id: Digest) -> bytes | None:
        """As ``KnownLists.tar_split``."""
        return self._lists.tar_split(diff_id)

    def entries(self, digest: str) -> Iterable[Entry]:
        """As ``KnownLists.entries``."""
        return self._lists.entries(digest)

    def leave_out(self, digests: Iterable[str]) -> None:
        """From now on no layer has a list with one of these digests, or a tar-split with one of
        these diff IDs."""
        self._bad.update(digests)
