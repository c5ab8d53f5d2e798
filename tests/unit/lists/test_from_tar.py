# SPDX-License-Identifier: Apache-2.0
"""Lists of tars that no podman could unpack, or that nobody should read to their end.

``tests/matrix/test_file_lists.py`` holds the others against podman.
"""

from __future__ import annotations

import io
import stat
import tarfile
from pathlib import Path

import pytest

from podman_cvmfs.errors import InputError
from podman_cvmfs.lists.dump import read, write
from podman_cvmfs.lists.entry import Entry
from podman_cvmfs.lists.from_tar import Unpacked, list_of
from podman_cvmfs.lists.inodes import Inode, InodeTree
from podman_cvmfs.lists.layer_stream import LayerStream
from podman_cvmfs.oci.documents import Descriptor, Digest
from tests.support import nasty_layers
from tests.support.layers import MTIME
from tests.support.nasty_layers import access_list, directory, entry
from tests.support.unpacked_layer import listed, unlike

_END = bytes(1024)


def _entries(*parts: bytes) -> dict[str, Entry]:
    data = b"".join(parts) + _END
    stream = LayerStream(iter([data]), Descriptor("", Digest.of(data), len(data)), Digest.of(data))
    return {each.path: each for each in list_of(stream).entries}


@pytest.mark.parametrize("name", nasty_layers.TARS)
def test_lists_can_be_written_and_read_again(name: str) -> None:
    entries, _ = listed(nasty_layers.blob(name))
    assert [*read(write(entries), name)] == entries


def test_the_comparison_with_podman_notices_everything(tmp_path: Path) -> None:
    entries, _ = listed(nasty_layers.blob("implied"))
    found = [*unlike(entries, tmp_path)]
    assert len(found) == len(entries) - 1 and all("is too much" in each for each in found)


def test_a_whiteout_below_something_deleted_says_nothing() -> None:
    assert set(_entries(entry(".wh.d"), entry("d/.wh.x"), entry("d/e/.wh..wh..opq"))) == {"", "d"}


def test_overlayfs_own_attributes_are_not_taken_over() -> None:
    records = {
        "SCHILY.xattr.trusted.overlay.redirect": b"/elsewhere",
        "SCHILY.xattr.trusted.overlay.metacopy": b"",
        "SCHILY.xattr.trusted.overlay.opaque": b"y",
        "SCHILY.xattr.user.kept": b"v",
    }
    found = _entries(entry("file", pax=records), directory("directory", pax=records))
    assert found["file"].xattrs == (("user.kept", b"v"),)
    assert found["directory"].xattrs == (("trusted.overlay.opaque", b"y"), ("user.kept", b"v"))


def test_a_layer_with_sparse_files_has_no_tar_split() -> None:
    records = {"GNU.sparse.map": b"0,1,9,1", "GNU.sparse.size": b"10", "GNU.sparse.name": b"s"}
    data = entry("GNUSparse/s", data=b"ab", pax=records) + entry("next", data=b"n") + _END
    stream = LayerStream(iter([data]), Descriptor("", Digest.of(data), len(data)), Digest.of(data))
    found = list_of(stream, io.BytesIO())
    assert not found.is_split
    assert [(each.path, each.size) for each in found.entries[1:]] == [("next", 1), ("s", 10)]


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ([entry("../x")], "leads out"),
        ([entry("a/../../x")], "leads out"),
        ([entry("/", tarfile.SYMTYPE, linkname="x")], "replaces its root"),
        ([entry("a"), entry("a/b")], "lies below a file"),
        ([entry(".wh.a"), entry("a/b")], "lies below a file"),
        ([entry("a"), entry(".wh.a")], "the name that it deletes exists"),
        ([entry(".wh..")], "the name that it deletes exists"),
        ([entry("a", b"7")], "unknown type"),
        ([entry("a", b"S")], "unknown type|damaged"),
        ([entry("a" * 256)], "is too long"),
        ([entry("/".join(["a" * 250] * 17))], "impossible name"),
        ([entry("a", tarfile.SYMTYPE)], "impossible name"),
        ([entry("a", tarfile.LNKTYPE, linkname="b")], "a file that is not there"),
        ([entry("a"), entry("a", tarfile.LNKTYPE, linkname="a")], "a file that is not there"),
        ([directory("d"), entry("a", tarfile.LNKTYPE, linkname="d")], "a file that is not there"),
        ([entry("a", tarfile.SYMTYPE, linkname="a"), entry("a/b")], "too many links"),
        ([entry("a", tarfile.CHRTYPE, devmajor=4096, devminor=0)], "impossible device"),
        ([entry("a", uid=2**32 - 1)], "impossible owner"),
        ([entry("a", pax={"mtime": b"now"})], "a time is no number|damaged"),
        ([entry("a", pax={"SCHILY.xattr.system.posix_acl_access": b"x"})], "access control list"),
        (
            [entry("a", pax={"SCHILY.xattr.system.posix_acl_access": access_list((1, 7, 0))})],
            "access control list",
        ),
        ([entry("a", pax={"SCHILY.xattr.user." + "n" * 251: b""})], "extended attributes"),
        ([entry("a", pax={"SCHILY.xattr.user.n": bytes(65537)})], "extended attributes"),
        (
            [entry("a", pax={f"SCHILY.xattr.user.{n}": b"" for n in range(5000)})],
            "extended attributes",
        ),
        (
            [
                entry(str(m), pax={f"SCHILY.xattr.user.{n}": b"" for n in range(1000)})
                for m in range(100)
            ],
            "more files than",
        ),
        ([b"\1" * 512], "damaged"),
        ([entry("a", size=5000)], "ends too early"),
    ],
)
def test_bad_tars_are_refused(
    parts: list[bytes], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(InodeTree.__init__, "__defaults__", (10 << 20,))
    with pytest.raises(InputError, match=why):
        _entries(*parts)


def test_wrong_digests_are_refused() -> None:
    data = entry("a") + _END
    other = Digest.of(b"other")
    stream = LayerStream(iter([data]), Descriptor("", Digest.of(data), len(data)), other)
    with pytest.raises(InputError, match="configuration says"):
        list_of(stream)


def test_long_ways_and_many_names_have_an_end() -> None:
    tree = InodeTree(Inode(stat.S_IFDIR | 0o755), 64 * 1024)
    with pytest.raises(InputError, match="more files than a file list may have"):
        for number in range(1000):
            tree.directory((b"%d" % number,), make=True)
    loop = InodeTree(Inode(stat.S_IFDIR | 0o755), 64 * 1024)
    assert loop.directory((b"a",), make=True) is not None
    with pytest.raises(InputError, match="more files"):
        loop.directory((b"a", b"..") * 3000, make=True)


def test_a_layer_may_not_unpack_to_too_much() -> None:
    allowed = Unpacked()
    allowed.earn(1 << 20)
    allowed.spend(4 << 30)
    allowed.spend(200 << 20)
    with pytest.raises(InputError, match="unpacks to more than 200 times its size"):
        allowed.spend(1)


def test_times_are_those_of_headers() -> None:
    found = _entries(entry("a"), entry("i/b", pax={"mtime": b"12.5"}))
    assert found["a"].mtime_ns == MTIME * 10**9
    assert found["i/b"].mtime_ns == 12_500_000_000
    assert found["i"] == Entry("i", stat.S_IFDIR | 0o755)
