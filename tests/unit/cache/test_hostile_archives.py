# SPDX-License-Identifier: Apache-2.0
"""Archives that nobody has exported: nothing of them is kept."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from podman_cvmfs.cache.archive import import_cache
from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.errors import InputError
from podman_cvmfs.oci.documents import MAX_DOCUMENT
from tests.support.caches import END, header_of, member, name_of, shipped, with_checksum


def patched(fields: dict[int, bytes], name: str = "sha256/ff/ff" + "0" * 62) -> bytes:
    """The header of an empty blob with other fields, by place, and a checksum that is right."""
    header = bytearray(header_of(name))
    for place, value in fields.items():
        header[place : place + len(value)] = value
    return with_checksum(header)


GOOD = shipped(b"one")
NOTE_TEXT = f"sha256:{'a' * 64}\nsha256:{'b' * 64}\n".encode()
NOTE, NOTE_OF_NOTHING = (
    shipped(NOTE_TEXT, "manifests"),
    shipped(b"sha256:" + b"a" * 64 + b"\n", "manifests"),
)


def hostile() -> dict[str, bytes]:
    """Archives that must be refused, each with a good blob in front where one fits."""
    high = "sha256/ff/ff" + "0" * 62
    return {
        "empty": b"",
        "not a tar": b"no tar at all" * 100,
        "cut off in the end": GOOD + bytes(512),
        "cut off in a header": GOOD + GOOD[:100],
        "cut off in data": GOOD[:514],
        "no end": GOOD,
        "data after its end": GOOD + bytes(512) + b"x" * 512,
        "wrong digest": GOOD + member(high, b"x") + END,
        "wrong directory": GOOD + member(name_of(b"one").replace("/", "/ff/", 1), b"one") + END,
        "parent": GOOD + member("../../etc/passwd", b"x") + END,
        "parent in a name": GOOD + member("sha256/../" + high, b"x") + END,
        "absolute": GOOD + member("/etc/passwd", b"x") + END,
        "control characters": GOOD + member("\x1b[31m", b"x") + END,
        "symbolic link": GOOD + member(high, type=tarfile.SYMTYPE, linkname="/etc/passwd") + END,
        "hard link": GOOD + member(high, type=tarfile.LNKTYPE, linkname="/etc/passwd") + END,
        "regular with a link": GOOD + member(high, linkname="/etc/passwd") + END,
        "directory": GOOD + member("sha256", type=tarfile.DIRTYPE) + END,
        "device": GOOD + member(high, type=tarfile.CHRTYPE) + END,
        "fifo": GOOD + member(high, type=tarfile.FIFOTYPE) + END,
        "sparse": GOOD + member(high, type=tarfile.GNUTYPE_SPARSE) + END,
        "long name": GOOD + member("x" * 200, b"x", tarfile.GNU_FORMAT) + END,
        "pax": GOOD + member("ü" * 60, b"x", tarfile.PAX_FORMAT) + END,
        "twice": GOOD + GOOD + END,
        "a note that is none": NOTE_OF_NOTHING + END,
        "a note after the blobs": GOOD + NOTE + END,
        "a note by another name": member(f"manifests/ff/ff{'0' * 62}", NOTE_TEXT) + END,
        "markers": GOOD + member("markers/00/" + "0" * 64, b"{}") + END,
        "too large": GOOD + member(high, b"x" * (MAX_DOCUMENT + 1)) + END,
        "junk in the padding": GOOD[:-1] + b"x" + END,
        "a time": GOOD + patched({136: b"00000000005"}) + END,
        "an owner": GOOD + patched({108: b"0000005"}) + END,
        "setuid": GOOD + patched({100: b"0004755"}) + END,
        "a link's target": GOOD + patched({157: b"/etc/passwd"}) + END,
        "a prefix": GOOD + patched({345: b"../.."}) + END,
        "a type": GOOD + patched({156: b"2"}) + END,
        "huge size": GOOD + patched({124: b"\x80" + b"\x7f" * 11}) + END,
        "negative size": GOOD + patched({124: b"\xff" * 12}) + END,
        "signed size": GOOD + patched({124: b"-0000000001"}) + END,
        "wrong digest of nothing": GOOD + patched({}) + END,
        "upper case": GOOD + member("sha256/FF/FF" + "0" * 62) + END,
    }


@pytest.mark.parametrize("what", sorted(hostile()))
def test_hostile_archives_change_nothing(tmp_path: Path, what: str) -> None:
    cache = BlobCache(str(tmp_path / "cache"))
    with pytest.raises(InputError) as caught:
        import_cache(cache, io.BytesIO(hostile()[what]), "x.tar")
    assert caught.value.message.startswith("x.tar: ")
    assert caught.value.message.isprintable()
    assert list(tmp_path.iterdir()) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_change_of_a_byte_passes(tmp_path: Path, data: st.DataObject) -> None:
    archive = bytearray(NOTE + GOOD + END)
    place = data.draw(st.integers(0, len(archive) - 1))
    archive[place] ^= data.draw(st.integers(1, 255))
    cache = BlobCache(str(tmp_path / "cache"))
    try:
        import_cache(cache, io.BytesIO(bytes(archive)), "x")
    except InputError:
        assert not (tmp_path / "cache").exists()
    else:
        raise AssertionError(f"byte {place} may be changed")
