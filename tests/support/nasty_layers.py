# SPDX-License-Identifier: Apache-2.0
"""Layers with everything that podman unpacks in a way of its own, for file lists."""

from __future__ import annotations

import gzip
import struct
import tarfile

from tests.support.layers import CAPABILITY, MTIME, Blob, padded, pax, sha256


def entry(path: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> bytes:
    """One entry; ``fields`` are those of tarfile's TarInfo, ``data``, and ``pax``, its records."""
    data = fields.pop("data", b"")
    records = fields.pop("pax", None)
    assert isinstance(data, bytes)
    info = tarfile.TarInfo(path)
    info.type, info.mtime, info.size = kind, MTIME, len(data)
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    head = pax(records) if isinstance(records, dict) else b""
    return head + info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape") + padded(data)


def directory(path: str, **fields: object) -> bytes:
    """A directory."""
    return entry(path, tarfile.DIRTYPE, **fields)


def access_list(*entries: tuple[int, int, int]) -> bytes:
    """An access control list as Linux stores it: tag, permissions, ID."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *each) for each in entries)


_ANY = 0xFFFFFFFF
_ACL = access_list((1, 6, _ANY), (2, 4, 1234), (4, 4, _ANY), (16, 5, _ANY), (32, 0, _ANY))
_ONLY_MODE = access_list((1, 7, _ANY), (4, 1, _ANY), (32, 0, _ANY))

#: Name -> the tar, without its end.
TARS: dict[str, bytes] = {
    "names": b"".join(
        [
            entry(".", tarfile.DIRTYPE, mode=0o700, uid=7),
            entry("./a/./b", data=b"dots\n"),
            entry("/c", data=b"absolute\n"),
            entry("d/../e", data=b"up\n"),
            entry("n" * 255, data=b"long\n"),
            entry("/".join(["deep" * 20] * 15) + "/end", data=b"deep\n"),
            entry("latin-\udce9\udcff", data=b"bytes\n"),
        ]
    ),
    "root": entry("/", tarfile.DIRTYPE, mode=0o711, uid=3, gid=4, mtime=5),
    "implied": b"".join(
        [
            entry("i/j/k", data=b"implied\n", uid=9),
            directory("later/below"),
            directory("later", mode=0o1777, uid=8),
            entry("later/below/file"),
        ]
    ),
    "times": b"".join(
        [
            entry("ns", pax={"mtime": b"1600000000.123456789"}),
            entry("more", pax={"mtime": b"1600000000.1234567891"}),
            entry("short", pax={"mtime": b"1600000000.5"}),
            entry("before", pax={"mtime": b"-1.5"}),
            entry("header-before", mtime=-1000),
            directory("directory-before", pax={"mtime": b"-7"}),
            entry("link-before", tarfile.SYMTYPE, linkname="ns", pax={"mtime": b"-1.5"}),
            entry("late", pax={"mtime": b"9300000000"}),
            entry("latest", pax={"mtime": b"99300000000"}),
        ]
    ),
    "hard-links": b"".join(
        [
            entry("a", data=b"one\n", mode=0o600, uid=1, pax={
                "SCHILY.xattr.security.capability": CAPABILITY, "SCHILY.xattr.user.a": b"1"}),
            entry("z", tarfile.LNKTYPE, linkname="a", mode=0o4755, uid=2, gid=3, mtime=77),
            entry("to", tarfile.SYMTYPE, linkname="sub"),
            directory("sub"),
            entry("sub/x", data=b"through\n"),
            entry("0", tarfile.LNKTYPE, linkname="./to/x", mode=0o640),
            entry("soft", tarfile.SYMTYPE, linkname="a"),
            entry("soft-too", tarfile.LNKTYPE, linkname="soft", uid=5, mode=0o600, mtime=3),
            entry("to/y", data=b"in a linked directory\n"),
        ]
    ),
    "absolute-links": b"".join(
        [
            directory("usr"),
            directory("usr/lib"),
            entry("lib", tarfile.SYMTYPE, linkname="/usr/lib"),
            entry("lib/one", data=b"through an absolute link\n"),
            entry("up", tarfile.SYMTYPE, linkname="../../usr/./lib/../lib"),
            entry("up/two", data=b"through dots\n"),
            entry("lib/made/three", data=b"in an implied directory\n"),
        ]
    ),
    "attributes": b"".join(
        [
            entry("cap", mode=0o755, pax={"SCHILY.xattr.security.capability": CAPABILITY}),
            entry("many", pax={f"SCHILY.xattr.user.{n}": b"=v \xff" * 60 for n in range(10)}),
            entry("acl", mode=0o777, pax={"SCHILY.xattr.system.posix_acl_access": _ACL}),
            entry("plain", mode=0o2600, pax={
                "SCHILY.xattr.system.posix_acl_access": _ONLY_MODE}),
            directory("acl-default", pax={"SCHILY.xattr.system.posix_acl_default": _ACL}),
            entry("label", pax={"SCHILY.xattr.security.selinux": b"system_u:object_r:x:s0\0"}),
            entry("suid", mode=0o6755, uid=11, gid=12),
        ]
    ),
    "special": b"".join(
        [
            entry("block", tarfile.BLKTYPE, devmajor=7, devminor=300, mode=0o660),
            entry("char", tarfile.CHRTYPE, devmajor=1, devminor=3),
            entry("pipe", tarfile.FIFOTYPE, mode=0o622),
            entry("white", tarfile.CHRTYPE, devmajor=0, devminor=0),
            entry("blk0", tarfile.BLKTYPE, devmajor=0, devminor=0),
            entry("empty"),
        ]
    ),
    "whiteouts": b"".join(
        [
            entry(".wh.var"),
            entry("var/.wh.below"),
            entry("opt/.wh.nothing", uid=5),
            directory("etc"),
            entry("etc/.wh..wh..opq"),
            entry("etc/new", data=b"new\n"),
            entry("implied/.wh..wh..opq"),
            entry(".wh..wh..opq"),
            entry(".wh.first"),
            entry("first", data=b"it comes back\n"),
            entry(".wh..wh.plnk"),
            entry(".wh.home"),
            directory("home"),
        ]
    ),
    "many": b"".join(entry(f"m/{n % 70}/{n}", data=b"%d\n" % n) for n in range(5000)),
}  # fmt: skip


def blob(name: str) -> Blob:
    """The layer of this name."""
    plain = TARS[name] + bytes(1024 + 4096)
    return Blob(gzip.compress(plain, 1, mtime=0), sha256(plain), "gzip")
