# SPDX-License-Identifier: Apache-2.0
"""The cache's blobs as a directory that a web server or a shared file system offers to others.

The directory has the form that ``sources`` reads. Files in it are never removed: another host may
be about to ask for them.
"""

from __future__ import annotations

import logging
import os

from podman_cvmfs.cache.archive import Shipped
from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.cache.sources import BLOBS, MAX_NOTE, NOTES, path_in_tree
from podman_cvmfs.oci.documents import MAX_DOCUMENT, Digest
from podman_cvmfs.util.files import write_whole
from podman_cvmfs.util.foreign_file import read_bounded

log = logging.getLogger(__name__)


def export_tree(cache: BlobCache, directory: str) -> Shipped:
    """Write all blobs of ``cache`` that ``directory`` lacks, and then the notes about manifests.

    Blobs with a wrong digest are left out. A reader at any time finds the blobs that a note names.
    Raises OSError if the directory can't be written, InputError for root where somebody else could
    exchange parts of it, StoreError if the cache can't be read.
    """
    directory = os.path.abspath(directory)
    blobs = size = new = broken = new_notes = 0
    for digest in cache.held(BLOBS):
        data = cache.get(digest)
        if data is None:
            broken += 1
            log.warning("a broken blob is left out: %s", digest)
            continue
        blobs += 1
        size += len(data)
        new += _put(directory, BLOBS, digest, data, MAX_DOCUMENT)
    for image in cache.held(NOTES):
        digests = cache.manifest_digests(image)
        if all(cache.get(each) is not None for each in digests):
            note = "".join(f"{each}\n" for each in digests).encode()
            # A lost manifest is no reason to forget one that another export has found.
            if not note and os.path.lexists(f"{directory}/{path_in_tree(NOTES, image)}"):
                continue
            new_notes += _put(directory, NOTES, image, note, MAX_NOTE)
    return Shipped(blobs, size, new, broken, new_notes)


def _put(directory: str, kind: str, digest: Digest, data: bytes, limit: int) -> bool:
    """Write a file unless it is there; whether it was written."""
    path = f"{directory}/{path_in_tree(kind, digest)}"
    try:
        if read_bounded(path, limit, follow=False) == data:
            return False
    except OSError:
        pass
    write_whole(path, data, inside=directory)
    return True
