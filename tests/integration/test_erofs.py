# SPDX-License-Identifier: Apache-2.0
"""The kernel mounts the EROFS images that the project writes, and shows every entry of the list."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from podman_cvmfs.lists.entry import OPAQUE, Entry, list_order
from podman_cvmfs.store.erofs import write_image
from tests.support.namespace import Namespace
from tests.support.required import required

_PREFIX = "/.layers/ab/" + 64 * "c" + "/layerfs/"
_DIRECTORY, _FILE, _LINK = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777
_ROOT = Entry("", stat.S_IFDIR | 0o555, mtime_ns=-1)

Check = Callable[[list[Entry]], None]


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Check]:
    """Writes a list, mounts it, and compares everything."""
    if "\terofs\n" not in Path("/proc/filesystems").read_text():
        subprocess.run(["modprobe", "erofs"], check=False, capture_output=True)
    if "\terofs\n" not in Path("/proc/filesystems").read_text():
        required("the kernel has no EROFS")
    directory = tmp_path_factory.mktemp("erofs")
    image, place = directory / "image", directory / "m"
    place.mkdir()
    namespace = Namespace()

    def compare(entries: list[Entry]) -> None:
        with image.open("wb") as out:
            write_image(entries, lambda path: _PREFIX + path, out)
        namespace.run(["mount", "-t", "erofs", "-o", "ro,loop", image, place])
        try:
            _compare(entries, os.fsencode(namespace.outside(place)))
        finally:
            namespace.run(["umount", place])

    yield compare
    namespace.close()


def _compare(entries: list[Entry], root: bytes) -> None:
    known = {each.path: each for each in entries}
    links: dict[str, list[str]] = {}
    for each in entries:
        links.setdefault(each.hardlink or each.path, []).append(each.path)
    below = [each.path.rpartition("/")[0] for each in entries if each.is_directory and each.path]
    seen = {""}
    for above, directories, files in os.walk(root):
        start = os.fsdecode(above[len(root) + 1 :])
        seen.update(os.path.join(start, os.fsdecode(name)) for name in (*directories, *files))
    assert seen == known.keys()
    for path, entry in known.items():
        first = known[entry.hardlink or path]
        full = root + b"/" + os.fsencode(path)
        found = os.lstat(full)
        count = 2 + below.count(path) if entry.is_directory else len(links[first.path])
        wanted = (first.mode, first.uid, first.gid, first.mtime_ns, first.rdev, count)
        assert (found.st_mode, found.st_uid, found.st_gid, found.st_mtime_ns,
                found.st_rdev, found.st_nlink) == wanted, path  # fmt: skip
        if stat.S_ISLNK(first.mode):
            assert os.readlink(full) == os.fsencode(first.target or "")
        elif stat.S_ISREG(first.mode):
            assert found.st_size == first.size
        if len(links[first.path]) > 1:
            inodes = {
                os.lstat(root + b"/" + os.fsencode(each)).st_ino for each in links[first.path]
            }
            assert inodes == {found.st_ino}
        attributes = dict(first.xattrs)
        if stat.S_ISREG(first.mode) and first.size:
            attributes["trusted.overlay.metacopy"] = b""
            redirect = os.fsencode(_PREFIX + (first.backing or ""))
            attributes["trusted.overlay.redirect"] = redirect
        names = os.listxattr(full, follow_symlinks=False)
        assert {name: os.getxattr(full, name, follow_symlinks=False) for name in names} == (
            attributes
        ), path


def test_everything_that_a_layer_can_hold(check: Check) -> None:
    acl = b"\2\0\0\0" + b"".join(
        tag.to_bytes(2, "little") + b"\6\0" + ident.to_bytes(4, "little")
        for tag, ident in ((1, 0xFFFFFFFF), (2, 7), (4, 0xFFFFFFFF), (16, 0xFFFFFFFF),
                           (32, 0xFFFFFFFF))
    )  # fmt: skip
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    deep = "/".join(["d" * 200] * 6)
    entries = [
        _ROOT,
        Entry("empty", _FILE),
        Entry("file", stat.S_IFREG | 0o6751, 1234, 4000000000, 5, 123456789, backing="file"),
        Entry("large", _FILE, size=1 << 43, backing="large"),
        Entry("link", _LINK, target="file"),
        *(Entry(f"link-{n}", _LINK, target="t" * n) for n in (1, 3900, 4031, 4032, 4033, 4095)),
        Entry("second", _FILE, hardlink="file"),
        Entry("second-link", _LINK, target="file", hardlink="link"),
        Entry("null", stat.S_IFCHR | 0o666, rdev=os.makedev(1, 3)),
        Entry("disk", stat.S_IFBLK | 0o660, rdev=os.makedev(259, 70000)),
        Entry("gone", stat.S_IFCHR, rdev=0),
        Entry("pipe", stat.S_IFIFO | 0o600),
        Entry("socket", stat.S_IFSOCK | 0o600),
        Entry("sticky", stat.S_IFDIR | 0o1777),
        Entry("opaque", _DIRECTORY, xattrs=((OPAQUE, b"y"),)),
        Entry("past", _FILE, mtime_ns=-1_500_000_001),
        Entry("future", _FILE, mtime_ns=(1 << 61) + 7),
        Entry("acl", _FILE, xattrs=(("system.posix_acl_access", acl),), size=1, backing="acl"),
        Entry("cap", _FILE, xattrs=(("security.capability", capability),)),
        Entry("many", _FILE, size=9, backing="many",
              xattrs=tuple((f"user.n{n:03}", bytes(n)) for n in range(150))),
        Entry("huge", _DIRECTORY, xattrs=(("trusted.v", bytes(65535)), ("user.w", bytes(60001)))),
        Entry("huge/below", _LINK, target="x" * 200, xattrs=(("trusted.v", bytes(5000)),)),
        *(Entry("/".join(["d" * 200] * n), _DIRECTORY) for n in range(1, 7)),
        *(Entry(f"{deep}/{'n' * n}", _FILE, size=n, backing="n" * n) for n in (1, 254, 255)),
        Entry("odd", _DIRECTORY),
        *(Entry(f"odd/{name}", _FILE) for name in ("!", "-", ".a", "..a", "\n", "\udcff\xe9")),
    ]  # fmt: skip
    # In the list a file stands before its other names.
    entries.sort(key=lambda each: (each.hardlink is not None, list_order(each.path)))
    check(entries)


def test_a_directory_of_many_thousand_entries(check: Check) -> None:
    names = [f"{'n' * (n % 37)}{n}" for n in range(30_000)]
    files = [Entry(f"d/{name}", _FILE, size=1, backing=f"d/{name}") for name in names]
    check([_ROOT, Entry("d", _DIRECTORY), *files])


_NAMES = st.binary(min_size=1, max_size=255).filter(
    lambda name: (
        not {b"/", b"\0"} & {name[n : n + 1] for n in range(len(name))}
        and name not in (b".", b"..")
    )
)
_XATTRS = st.dictionaries(
    st.sampled_from(["user.a", "user.bb", "trusted.c", "trusted.dd"]),
    st.binary(max_size=6000), max_size=3,
)  # fmt: skip


@st.composite
def _lists(draw: st.DrawFn) -> list[Entry]:
    found = {"": _ROOT}
    directories = [""]
    files: list[str] = []
    for _ in range(draw(st.integers(0, 60))):
        above = draw(st.sampled_from(directories))
        path = os.path.join(above, os.fsdecode(draw(_NAMES)))
        if path in found or len(os.fsencode(path)) > 3000:
            continue
        kind = draw(st.sampled_from(["directory", "file", "link", "device", "hard link"]))
        entry = Entry(
            path,
            stat.S_IFREG | draw(st.integers(0, 0o7777)),
            draw(st.integers(0, 0xFFFFFFFE)),
            draw(st.integers(0, 0xFFFFFFFE)),
            0,
            draw(st.integers(-(1 << 61), 1 << 61)),
            # The kernel shows those of users on files and directories only.
            xattrs=tuple(
                (name, value)
                for name, value in draw(_XATTRS).items()
                if kind in ("file", "directory") or name.startswith("trusted.")
            ),
        )
        if kind == "directory":
            entry = entry._replace(mode=stat.S_IFDIR | stat.S_IMODE(entry.mode))
            directories.append(path)
        elif kind == "link":
            target = draw(_NAMES) * draw(st.integers(1, 10))
            entry = entry._replace(mode=_LINK, target=os.fsdecode(target[:4095]))
        elif kind == "device":
            device = os.makedev(draw(st.integers(0, 4095)), draw(st.integers(0, (1 << 20) - 1)))
            entry = entry._replace(mode=stat.S_IFBLK | stat.S_IMODE(entry.mode), rdev=device)
        elif kind == "hard link" and files:
            entry = found[draw(st.sampled_from(files))]._replace(path=path)
            entry = entry._replace(hardlink=draw(st.sampled_from(files)))
        else:
            size = draw(st.integers(0, 1 << 43))
            entry = entry._replace(size=size, backing=path if size else None)
            files.append(path)
        found[path] = entry
    return sorted(found.values(), key=lambda each: (each.hardlink is not None,
                                                    list_order(each.path)))  # fmt: skip


@given(_lists())
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_random_lists(check: Check, entries: list[Entry]) -> None:
    check(entries)
