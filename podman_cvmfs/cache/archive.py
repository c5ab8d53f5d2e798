# SPDX-License-Identifier: Apache-2.0
"""The cache's blobs as one file, for hosts that can't reach registries.

Format: a ustar archive (POSIX.1-1988) of plain files ``<kind>/<2 hex digits>/<64 hex digits>``. All
are named by the digest of what they hold, and sorted by name, without owners and times: equal
caches give equal bytes. The kinds, in order:

* ``file-lists``: file lists and what belongs to them: a line for the place in the cache, and the
  file;
* ``manifests``: notes that say which blobs are the manifest of an image and its index: a line each
  for the image's source ID and their digests;
* ``profiles``: start-up profiles: a line for the image's source ID, and the profile;
* ``sha256``: the blobs.

Markers of layers are not exported. The other host could not check them, and can find them itself.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from podman_cvmfs.cache.blobs import PROFILES, BlobCache
from podman_cvmfs.cache.list_files import (
    MAX_LIST_FILE,
    is_place,
    list_files,
    put_list_file,
    read_list_file,
)
from podman_cvmfs.cache.sources import BLOBS, NOTES, path_in_tree
from podman_cvmfs.errors import InputError, RegistryError, StoreError, printable
from podman_cvmfs.oci.documents import MAX_DOCUMENT, Digest
from podman_cvmfs.oci.genuine import Genuine, Index, has_config, judge

log = logging.getLogger(__name__)

_BLOCK = 512
_FILE_LISTS = "file-lists"
_NAME = re.compile(
    rf"({BLOBS}|{NOTES}|{PROFILES}|{_FILE_LISTS})/([0-9a-f]{{2}})/(\2[0-9a-f]{{62}})\Z"
)
_SIZE = re.compile(rb"([0-7]{11})\0\Z")
#: More blobs than a hundred times the largest repository has images.
_MAX_BLOBS = 1_000_000
#: How many bytes of a pipe are kept on disk.
_MAX_ARCHIVE = 64 * 1024**3


@dataclass(frozen=True)
class Shipped:
    """What was exported or imported."""

    blobs: int = 0
    #: The bytes of all blobs.
    size: int = 0
    #: How many blobs were new in the cache.
    new: int = 0
    #: How many blobs were left out.
    broken: int = 0
    #: How many notes were new in the cache.
    new_notes: int = 0
    #: How many start-up profiles there were.
    profiles: int = 0
    #: How many files of file lists there were.
    lists: int = 0


def export_cache(cache: BlobCache, output: BinaryIO) -> Shipped:
    """Write all blobs of ``cache``; blobs with a wrong digest are left out.

    Raises OSError if ``output`` can't be written.
    """
    blobs = size = broken = profiles = lists = 0
    # They are large, so they are read twice.
    places = (
        (Digest.of(data), place) for place, data in _lists(cache, list_files(cache.directory))
    )
    for _, data in _lists(cache, (place for _, place in sorted(places))):
        output.write(_header(Digest.of(data), len(data), _FILE_LISTS))
        output.write(data + bytes(-len(data) % _BLOCK))
        lists += 1
    for digest, note in sorted(_notes(cache)):
        output.write(_header(digest, len(note), NOTES) + note + bytes(-len(note) % _BLOCK))
    for digest, profile in sorted(_profiles(cache)):
        output.write(_header(digest, len(profile), PROFILES))
        output.write(profile + bytes(-len(profile) % _BLOCK))
        profiles += 1
    for digest in cache.held(BLOBS):
        blob = cache.get(digest)
        if blob is None:
            broken += 1
            log.warning("a broken blob is left out: %s", digest)
            continue
        output.write(_header(digest, len(blob)) + blob + bytes(-len(blob) % _BLOCK))
        blobs += 1
        size += len(blob)
    output.write(bytes(2 * _BLOCK))
    return Shipped(blobs, size, broken=broken, profiles=profiles, lists=lists)


def import_cache(cache: BlobCache, file: BinaryIO, source: str) -> Shipped:
    """Put all blobs of an archive into ``cache``; ``source`` is what messages call it.

    The whole archive is checked before anything changes. If the cache can't take all of it, the
    cache stays unchanged. A note replaces one of lower worth. A profile counts only where the cache
    has none of its image: that has been recorded here. Raises InputError for an archive that
    differs from the output of ``export_cache``, StoreError, and OSError if ``file`` can't be read.
    """
    if not file.seekable():
        with tempfile.TemporaryFile() as copy:
            _spool(file, copy)
            return import_cache(cache, copy, source)
    start = file.tell()
    notes = []
    profiles = []
    lists = 0
    for kind, _, data in _entries(file, source):
        if kind == _FILE_LISTS:
            _listed(data, printable(source))
        elif kind == NOTES:
            notes.append(_noted(data, printable(source)))
        elif kind == PROFILES:
            profiles.append(_profiled(data, printable(source)))
    file.seek(start)
    new: list[Digest] = []
    #: Images with new notes -> their notes before.
    noted: list[tuple[Digest, Sequence[Digest]]] = []
    #: Images with new profiles.
    put: list[Digest] = []
    #: The places of new file lists.
    placed: list[str] = []
    blobs = size = 0
    # What is taken back, too, goes by paths.
    cache.require_own()
    try:
        for kind, digest, data in _entries(file, source):
            if kind == _FILE_LISTS:
                place, content = _listed(data, printable(source))
                placed += [place] if put_list_file(cache.directory, place, content) else []
                lists += 1
            if kind != BLOBS:
                continue
            blobs += 1
            size += len(data)
            if cache.get(digest) is None:
                cache.put(data)
                new.append(digest)
        # Only now the cache has all blobs that are needed to judge notes.
        for image, *documents in notes:
            before = cache.manifest_digests(image)
            if _worth(cache, image, documents) > _worth(cache, image, before):
                cache.keep_manifest_digests(image, documents)
                noted.append((image, before))
        for image, profile in profiles:
            if cache.profile(image, MAX_DOCUMENT) is None:
                cache.keep_profile(image, profile)
                put.append(image)
    except BaseException:
        _take_back(cache, new, noted, put, placed)
        raise
    return Shipped(blobs, size, len(new), new_notes=len(noted), profiles=len(profiles), lists=lists)


def _worth(cache: BlobCache, image: Digest, documents: Sequence[Digest]) -> int:
    """The worth of a note that names these as an image's manifest and index. 0: a blob is missing,
    or the first isn't a manifest. 2: its config is the image's. 1: it has another config.

    This can be right, because the IDs of OSG's images aren't digests of configs.
    """
    found = [cache.get(digest) for digest in documents]
    if not found or found[0] is None or None in found:
        return 0
    try:
        judgement = judge(found[0], has_config(image), "the manifest")
    except RegistryError:
        return 0
    if isinstance(judgement, Index):
        return 0
    return 2 if isinstance(judgement, Genuine) else 1


def _notes(cache: BlobCache) -> Iterator[tuple[Digest, bytes]]:
    """The notes about manifests in the cache, by their digest."""
    for image in cache.held(NOTES):
        digests = cache.manifest_digests(image)
        if digests and all(cache.get(digest) is not None for digest in digests):
            note = "".join(f"{each}\n" for each in (image, *digests)).encode()
            yield Digest.of(note), note


def _lists(cache: BlobCache, places: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """The files of file lists with their places, by these. Whoever uses one checks it."""
    for place in places:
        content = read_list_file(cache.directory, place)
        if content is not None:
            yield place, f"{place}\n".encode() + content


def _listed(data: bytes, shown: str) -> tuple[str, bytes]:
    """The place of a file of file lists, and its content. Raises InputError for another place."""
    place, _, content = data.partition(b"\n")
    text = place.decode("ascii", "replace")
    if not is_place(text):
        raise InputError(f"{shown}: not an exported cache: a file list in it is wrong")
    return text, content


def _profiles(cache: BlobCache) -> Iterator[tuple[Digest, bytes]]:
    """The start-up profiles in the cache, with their images, by the digest of both. Whoever uses
    one checks it."""
    for image in cache.held(PROFILES):
        profile = cache.profile(image, MAX_DOCUMENT - _BLOCK)
        if profile is not None:
            data = f"{image}\n".encode() + profile
            yield Digest.of(data), data


def _profiled(data: bytes, shown: str) -> tuple[Digest, bytes]:
    """The image and its profile. Raises InputError for a malformed entry."""
    image, _, profile = data.partition(b"\n")
    try:
        return Digest.parse(image.decode("ascii")), profile
    except (InputError, UnicodeDecodeError):
        raise InputError(f"{shown}: not an exported cache: a profile in it is wrong") from None


def _noted(note: bytes, shown: str) -> list[Digest]:
    """The digests in a note. Raises InputError for a malformed one."""
    try:
        digests = [Digest.parse(line) for line in note.decode("ascii").splitlines()]
    except (InputError, UnicodeDecodeError):
        digests = []
    if len(digests) not in (2, 3):
        raise InputError(f"{shown}: not an exported cache: a note in it is wrong")
    return digests


def _header(digest: Digest, size: int, kind: str = BLOBS) -> bytes:
    """The header of a file: mode 0644, owner 0, time 0."""
    name = path_in_tree(kind, digest).encode()
    header = bytearray(_BLOCK)
    fields = {0: name, 100: b"0000644", 108: b"0000000", 116: b"0000000", 124: b"%011o" % size}
    fields.update({136: b"00000000000", 148: b" " * 8, 156: b"0", 257: b"ustar\x0000"})
    fields.update({329: b"0000000", 337: b"0000000"})
    for place, value in fields.items():
        header[place : place + len(value)] = value
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def _entries(file: BinaryIO, source: str) -> Iterator[tuple[str, Digest, bytes]]:
    """Kind, digest and bytes of each file.

    Only the output of ``export_cache`` is accepted: ``tarfile`` would also accept links, holes, and
    headers of any size.
    """
    shown = printable(source)
    last = ""
    for _ in range(_MAX_BLOBS + 1):
        header = _exactly(file, _BLOCK, shown)
        if header == bytes(_BLOCK):
            if _exactly(file, _BLOCK, shown) != bytes(_BLOCK):
                raise InputError(f"{shown}: not an exported cache: there is data after its end")
            return
        name = header[:100].rstrip(b"\0").decode("ascii", "replace")
        match, octal = _NAME.match(name), _SIZE.match(header[124:136])
        name = printable(name)
        if match is None or octal is None:
            raise InputError(f"{shown}: not an exported cache: it holds {name!r}")
        kind, digest, size = match.group(1), Digest(match.group(3)), int(octal.group(1), 8)
        limit = MAX_LIST_FILE + _BLOCK if kind == _FILE_LISTS else MAX_DOCUMENT
        if size > limit:
            raise InputError(f"{shown}: {name!r} is larger than {limit} bytes")
        if header != _header(digest, size, kind):
            raise InputError(f"{shown}: {name!r} is not a plain file, or is damaged")
        if name <= last:
            raise InputError(f"{shown}: not an exported cache: {name!r} is out of order")
        data = _exactly(file, size, shown)
        if any(_exactly(file, -size % _BLOCK, shown)):
            raise InputError(f"{shown}: not an exported cache, or damaged")
        if Digest.of(data) != digest:
            raise InputError(f"{shown}: {name!r} has another digest: the archive is damaged")
        last = name
        yield kind, digest, data
    raise InputError(f"{shown}: more than {_MAX_BLOBS} blobs")


def _exactly(file: BinaryIO, size: int, shown: str) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise InputError(f"{shown}: not an exported cache, or cut off")
    return data


def _spool(file: BinaryIO, copy: BinaryIO) -> None:
    """Copy the data of a pipe, because a pipe can't be read twice."""
    left = _MAX_ARCHIVE
    while True:
        chunk = file.read(1024 * 1024)
        if not chunk:
            break
        left -= len(chunk)
        if left < 0:
            raise InputError(f"the archive is longer than {_MAX_ARCHIVE} bytes")
        copy.write(chunk)
    copy.seek(0)


def _take_back(
    cache: BlobCache,
    blobs: list[Digest],
    noted: list[tuple[Digest, Sequence[Digest]]],
    profiles: list[Digest],
    lists: list[str],
) -> None:
    for place in lists:
        with contextlib.suppress(OSError):
            os.unlink(f"{cache.directory}/{place}")
    made = [(BLOBS, digest) for digest in blobs]
    made += [(PROFILES, image) for image in profiles]
    # An image may have had several: the first is restored last.
    for image, before in reversed(noted):
        if before:
            with contextlib.suppress(StoreError):
                cache.keep_manifest_digests(image, before)
        else:
            made.append((NOTES, image))
    for kind, digest in made:
        with contextlib.suppress(OSError):
            os.unlink(f"{cache.directory}/{path_in_tree(kind, digest)}")
