# SPDX-License-Identifier: Apache-2.0
"""A start-up profile: the files that an image opens from its start until it is ready. Pure: no I/O.

The format is ours, a JSON object in ASCII::

    {"format": 1, "image": "<64 hex digits>", "files": [
        {"path": "usr/bin/python3"},
        {"path": "usr/lib/big.so", "ranges": [[0, 65536], [1048576, 4096]]}]}

``image`` is the ID by which the repository knows the image. ``files`` are in the order of first
use. A path is relative to the image's root, and leads through no symbolic link. Bytes that are no
UTF-8 are lone surrogates, as Python reads them. ``ranges`` are pairs of offset and length; without
them the whole file is used. Names that a reader doesn't know are ignored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.oci.documents import MAX_DOCUMENT, parse_json

FORMAT = 1
#: An image whose start needs more files isn't helped by reading them all.
MAX_FILES = 10_000
#: Of one file.
MAX_RANGES = 1000
#: Bytes of a whole profile. An exported cache has a line more.
MAX_PROFILE = MAX_DOCUMENT - 4096
#: Linux' own limits (``limits.h``): PATH_MAX and NAME_MAX.
_MAX_PATH, _MAX_NAME = 4095, 255
_MAX_OFFSET = 1 << 62
_IMAGE = re.compile(r"[0-9a-f]{64}\Z")


class Use(NamedTuple):
    """A file of an image, and the ranges of it that are used: offsets and lengths in bytes. Without
    ranges the whole file is used."""

    path: str
    ranges: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Profile:
    """What the image with the ID ``image`` uses when it starts, in the order of first use."""

    image: str
    files: tuple[Use, ...]


def is_path(path: object) -> bool:
    """Whether a profile may name this: a relative path with no way out of the image's root."""
    if not isinstance(path, str) or "\0" in path:
        return False
    try:
        encoded = path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    parts = encoded.split(b"/")
    return len(encoded) <= _MAX_PATH and all(
        part not in (b"", b".", b"..") and len(part) <= _MAX_NAME for part in parts
    )


def parse_profile(data: bytes, image: str | None, what: str) -> Profile:
    """The profile in ``data``. Unless ``image`` is None, the profile must be of the image with that
    ID.

    Raises InputError, which calls the profile ``what``, if anything in it is wrong: a profile with
    one hostile name has no other name that anybody should trust.
    """
    if len(data) > MAX_PROFILE:
        raise InputError(f"{what} has more than {MAX_PROFILE} bytes")
    document = parse_json(data, what)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise InputError(f"{what} is no profile of format {FORMAT}")
    named = document.get("image")
    if not isinstance(named, str) or not _IMAGE.match(named):
        raise InputError(f"{what} names no image")
    if image is not None and named != image:
        raise InputError(f"{what} is of another image than {printable(image)}")
    files = document.get("files")
    if not isinstance(files, list) or len(files) > MAX_FILES:
        raise InputError(f"{what} has no list of at most {MAX_FILES} files")
    return Profile(named, tuple(_use(each, what) for each in files))


def _use(entry: Any, what: str) -> Use:
    path = entry.get("path") if isinstance(entry, dict) else None
    if not is_path(path):
        raise InputError(f"{what} has a wrong path: {printable(str(path)[:100])}")
    assert isinstance(path, str)
    ranges = entry.get("ranges", [])
    if not isinstance(ranges, list) or len(ranges) > MAX_RANGES or not all(map(_is_range, ranges)):
        raise InputError(f"{what} has wrong ranges of {printable(path[:100])}")
    return Use(path, _joined(tuple(each) for each in ranges))


def _is_range(pair: Any) -> bool:
    return (
        isinstance(pair, list)
        and len(pair) == 2
        and all(type(number) is int and 0 <= number < _MAX_OFFSET for number in pair)
        and pair[1] > 0
    )


def render_profile(profile: Profile) -> bytes:
    """The bytes that ``parse_profile`` reads; equal profiles give equal bytes. The last files are
    left out if there are too many bytes."""
    files = [
        {"path": use.path, "ranges": use.ranges} if use.ranges else {"path": use.path}
        for use in profile.files
    ]
    document = {"format": FORMAT, "image": profile.image, "files": files}
    data = (json.dumps(document, separators=(",", ":")) + "\n").encode("ascii")
    if len(data) > MAX_PROFILE:
        return render_profile(Profile(profile.image, profile.files[: len(files) * 9 // 10]))
    return data


def merge(profiles: Sequence[Profile]) -> Profile:
    """One profile of several recordings of one image.

    A file stands where the recording has it that uses it earliest. If one recording uses a whole
    file, so does the result. What is beyond the limits of a profile is dropped.
    """
    assert profiles and len({each.image for each in profiles}) == 1
    places: dict[str, int] = {}
    ranges: dict[str, tuple[tuple[int, int], ...]] = {}
    for profile in profiles:
        for place, use in enumerate(profile.files):
            if use.path not in places:
                ranges[use.path] = use.ranges
            elif not use.ranges or not ranges[use.path]:
                ranges[use.path] = ()
            else:
                ranges[use.path] = _joined((*ranges[use.path], *use.ranges))
            places[use.path] = min(place, places.get(use.path, place))
    # Sorting keeps the order of those with one place.
    in_order = sorted(places, key=lambda path: places[path])[:MAX_FILES]
    # Too many pieces of a file are as good as the whole file.
    files = (
        Use(path, ranges[path] if len(ranges[path]) <= MAX_RANGES else ()) for path in in_order
    )
    return Profile(profiles[0].image, tuple(files))


def _joined(pairs: Iterable[tuple[int, ...]]) -> tuple[tuple[int, int], ...]:
    """The same bytes in ranges that are in order and don't touch."""
    found: list[tuple[int, int]] = []
    for offset, length in sorted(pairs):
        if found and offset <= sum(found[-1]):
            start = found[-1][0]
            found[-1] = (start, max(sum(found[-1]), offset + length) - start)
        else:
            found.append((offset, length))
    return tuple(found)
