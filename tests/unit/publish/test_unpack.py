# SPDX-License-Identifier: Apache-2.0
"""Unpacking layers: what must come out of honest ones, and not come out of hostile ones."""

from __future__ import annotations

import contextlib
import os
import random
import stat
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from podman_cvmfs.errors import InputError
from podman_cvmfs.oci.documents import Descriptor, Digest
from podman_cvmfs.publish.source.layer_stream import LayerStream
from podman_cvmfs.publish.unpack.layer import unpack
from tests.support.layers import (
    CAPABILITY,
    MTIME,
    Entry,
    _padded,
    _pax,
    directory,
    fifo,
    file,
    hardlink,
    opaque,
    symlink,
    tar,
    whiteout,
)
from tests.support.trees import snapshot

ROOT = os.geteuid() == 0
END = bytes(1024)

Unpack = Callable[..., frozenset[bytes]]


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Files beside the layer that nothing may touch."""
    place = tmp_path / "outside"
    place.mkdir()
    (place / "file").write_text("untouched")
    (place / "dir").mkdir()
    return place


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "layer"
    place.mkdir()
    return place


@pytest.fixture
def do(root: Path) -> Unpack:
    """Unpack entries, or the bytes of a tar, into ``root``."""

    def call(entries: Sequence[Entry] | bytes) -> frozenset[bytes]:
        return unpack_into(root, entries if isinstance(entries, bytes) else tar(entries))

    return call


def unpack_into(root: Path, data: bytes) -> frozenset[bytes]:
    stream = LayerStream(iter([data]), Descriptor("", Digest.of(data), len(data)), Digest.of(data))
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return unpack(stream, fd)
    finally:
        os.close(fd)


def entry(**fields: object) -> bytes:
    """One entry with header fields that ``layers.tar`` doesn't set."""
    data = bytes(fields.pop("data", b""))  # type: ignore[call-overload]
    info = tarfile.TarInfo()
    info.mtime = MTIME
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape") + _padded(data)


# ---------------------------------------------------------------------- honest layers


def test_files_modes_owners_times(do: Unpack, root: Path) -> None:
    do(
        [
            directory("d", 0o2775, 1234),
            file("d/suid", b"x" * 100_000, 0o4755, 1234),
            file("d/private", "", 0o600),
            directory("sticky", 0o1777),
            symlink("d/link", "../d/suid"),
            fifo("d/fifo"),
        ]
    )
    status = {
        name: os.lstat(root / name)
        for name in ("d", "d/suid", "d/private", "sticky", "d/link", "d/fifo")
    }
    assert stat.S_IMODE(status["d/suid"].st_mode) == 0o4755
    assert stat.S_IMODE(status["d/private"].st_mode) == 0o600
    assert stat.S_IMODE(status["sticky"].st_mode) == 0o1777
    assert stat.S_IMODE(status["d"].st_mode) == 0o2775
    assert stat.S_ISFIFO(status["d/fifo"].st_mode)
    assert os.readlink(root / "d/link") == "../d/suid"
    assert (root / "d/suid").read_bytes() == b"x" * 100_000
    assert {s.st_mtime_ns for s in status.values()} == {MTIME * 10**9}
    expected = 1234 if ROOT else os.geteuid()
    assert (status["d"].st_uid, status["d/suid"].st_uid) == (expected, expected)


def test_an_ordinary_user_can_read_and_remove_everything(do: Unpack, root: Path) -> None:
    do([directory("closed", 0), file("closed/none", "x", 0), directory("ro", 0o555), file("ro/x")])
    modes = [stat.S_IMODE(os.lstat(root / p).st_mode) for p in ("closed", "closed/none", "ro")]
    assert modes == ([0, 0, 0o555] if ROOT else [0o700, 0o400, 0o755])


def test_odd_names(do: Unpack, root: Path) -> None:
    names = [
        b"with space",
        b"new\nline",
        b"latin-\xe9\xff",
        "\u00fcml".encode(),
        b"x" * 255,
        b"back\\slash",
        b"-dash",
        b"\xed\xa0\x80",
        b"d\xef/deep/" + b"y" * 200,
    ]
    do([file(name, name) for name in names])
    for name in names:
        assert (Path(os.fsdecode(os.fsencode(root) + b"/" + name))).read_bytes() == name


def test_odd_names_in_pax_records(do: Unpack, root: Path) -> None:
    """Also raw bytes without a hdrcharset record, which is how Go writes them."""
    data = b""
    for name in (b"p/latin-\xe9", b"p/new\nline", b"p/" + b"long/" * 60 + b"end"):
        data += _pax({"path": name}) + entry(name="short", data=b"x")
    data += _pax({"path": b"p/l", "linkpath": b"to-\xff"}) + entry(name="s", type=tarfile.SYMTYPE)
    do(data + END)
    assert sorted(os.listdir(os.fsencode(root) + b"/p")) == [
        b"l",
        b"latin-\xe9",
        b"long",
        b"new\nline",
    ]
    assert os.readlink(os.fsencode(root) + b"/p/l") == b"to-\xff"
    assert (root / "p" / ("long/" * 60) / "end").read_text() == "x"


def test_names_are_relative_to_the_root(do: Unpack, root: Path) -> None:
    do([file("/abs/file"), file("./dot/./file"), file("double//slash"), directory("./")])
    assert {str(p.relative_to(root)) for p in root.rglob("*")} == {
        "abs",
        "abs/file",
        "dot",
        "dot/file",
        "double",
        "double/slash",
    }


def test_dot_dot_inside_is_taken_away(do: Unpack, root: Path) -> None:
    """With the name before it, be that a link, a file or nothing at all: as podman does."""
    do(
        [
            file("q/../q2", "2"),
            symlink("l", "/etc"),
            file("l/../beside", "b"),
            file("f"),
            directory("f/../d"),
            file("d/e/../../d/.//../d/x"),
            hardlink("hard", "no/../q2"),
            whiteout("gone/../old"),
        ]
    )
    assert {str(p.relative_to(root)) for p in root.rglob("*")} == {
        *("q2", "l", "beside", "f", "d", "d/x", "hard", ".wh.old")
    }
    assert os.path.samefile(root / "q2", root / "hard")


def test_implied_directories(do: Unpack, root: Path) -> None:
    implied = do([file("a/b/c"), directory("a"), file("x/y"), directory("./", 0o700)])
    assert implied == {b"a/b", b"x"}
    assert stat.S_IMODE(os.lstat(root / "x").st_mode) == 0o755
    assert stat.S_IMODE(os.lstat(root).st_mode) == 0o755, "a root nobody can enter is of no use"


def test_the_root_is_implied_unless_stated(do: Unpack) -> None:
    assert do([file("x")]) == {b""}


def test_hard_links(do: Unpack, root: Path) -> None:
    do(
        [
            file("one", "1"),
            hardlink("d/two", "one"),
            symlink("s", "one"),
            hardlink("s2", "s"),
            hardlink("one", "one"),
            file("three", "3"),
            hardlink("three", "./one"),
        ]
    )
    assert os.lstat(root / "one").st_nlink == 3
    assert os.path.samefile(root / "one", root / "d/two")
    assert os.path.samefile(root / "one", root / "three")
    assert os.readlink(root / "s2") == "one"


def test_whiteouts_are_kept_as_they_are(do: Unpack, root: Path) -> None:
    do([whiteout("a/b"), opaque("d"), file(".wh..wh.aufs"), directory(".wh..wh.plnk")])
    assert (root / "a/.wh.b").is_file()
    assert (root / "d/.wh..wh..opq").is_file()
    assert (root / ".wh..wh.plnk").is_dir()


def test_later_entries_win(do: Unpack, root: Path) -> None:
    do(
        [
            file("x", "1"),
            file("x", "2"),
            directory("d"),
            file("d/in"),
            file("d", "now a file"),
            file("f"),
            directory("f"),
            file("f/in"),
            directory("k", 0o700),
            file("k/in"),
            directory("k", 0o750),
            directory("l"),
            file("l/in"),
            symlink("l", "x"),
            symlink("m", "x"),
            directory("m"),
        ]
    )
    assert (root / "x").read_text() == "2"
    assert (root / "d").read_text() == "now a file"
    assert (root / "f/in").exists()
    assert (root / "k/in").exists()
    assert stat.S_IMODE(os.lstat(root / "k").st_mode) == 0o750
    assert os.readlink(root / "l") == "x"
    assert (root / "m").is_dir() and not (root / "m").is_symlink()


def test_sparse_files(do: Unpack, root: Path, tmp_path: Path) -> None:
    """As GNU tar writes them, in its old form and in all three PAX ones."""
    import subprocess

    source = tmp_path / "holes"
    with open(source, "wb") as out:
        out.write(b"begin")
        out.seek(5_000_000)
        out.write(b"middle" * 1000)
        out.truncate(9_000_000)
    for number, form in enumerate(
        ("--format=gnu", "--sparse-version=0.0", "--sparse-version=0.1", "--sparse-version=1.0")
    ):
        words = [form] if "gnu" in form else ["--format=posix", form]
        data = subprocess.run(
            ["tar", "-S", *words, "-C", tmp_path, f"--transform=s/holes/h{number}/", "-c", "holes"],
            check=True,
            stdout=subprocess.PIPE,
        ).stdout
        place = root / str(number)
        place.mkdir()
        unpack_into(place, data)
        assert (place / f"h{number}").read_bytes() == source.read_bytes()
        assert os.stat(place / f"h{number}").st_blocks * 512 < 1_000_000


def test_times_to_the_nanosecond(do: Unpack, root: Path) -> None:
    do(
        _pax({"mtime": b"1600000000.123456789"})
        + entry(name="x")
        + _pax({"mtime": b"-1.5"})
        + entry(name="y")
        + _pax({"mtime": b"1e400"})
        + entry(name="z")
        + _pax({"mtime": b"junk"})
        + entry(name="j")
        + END
    )
    assert os.stat(root / "x").st_mtime_ns == 1600000000123456789
    assert os.stat(root / "y").st_mtime_ns == -1500000000
    assert (root / "z").exists()


def test_extended_attributes(do: Unpack, root: Path) -> None:
    do(
        [
            file(
                "f",
                "",
                0o755,
                0,
                {
                    "user.demo": b"v\xe9\x00\nl",
                    "security.capability": CAPABILITY,
                    "trusted.overlay.opaque": b"y",
                    "user.overlay.opaque": b"y",
                    "security.selinux": b"nonsense",
                },
            )
        ]
    )
    found = {k: os.getxattr(root / "f", k) for k in os.listxattr(root / "f") if "selinux" not in k}
    expected = {"user.demo": b"v\xe9\x00\nl"}
    if ROOT:
        expected["security.capability"] = CAPABILITY
    assert found == expected


def test_devices_are_left_out_but_for_overlay_whiteouts(do: Unpack, root: Path) -> None:
    do(
        entry(name="null", type=tarfile.CHRTYPE, devmajor=1, devminor=3)
        + entry(name="disk", type=tarfile.BLKTYPE, devmajor=8, devminor=0)
        + entry(name="zero", type=tarfile.BLKTYPE)
        + entry(name="gone", type=tarfile.CHRTYPE)
        + END
    )
    assert os.listdir(root) == ["gone"]
    status = os.lstat(root / "gone")
    assert stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def test_global_headers_change_nothing(do: Unpack, root: Path) -> None:
    header = bytearray(_pax({"path": b"forced", "comment": b"commit 1"}))
    info = tarfile.TarInfo.frombuf(bytes(header[:512]), "utf-8", "strict")
    info.type = tarfile.XGLTYPE
    do(info.tobuf(tarfile.USTAR_FORMAT) + bytes(header[512:]) + entry(name="own", data=b"x") + END)
    assert os.listdir(root) == ["own"]


def test_a_tar_without_end_marker_is_whole(do: Unpack, root: Path) -> None:
    do(entry(name="x", data=b"1"))
    assert os.listdir(root) == ["x"]


def test_deep_trees(do: Unpack, root: Path) -> None:
    path = "d/" * 1100 + "end"
    do([file(path, "deep")])
    # shutil and pathlib recurse; so pytest can't remove this, but safe_tree can.
    from podman_cvmfs.publish.unpack.safe_tree import remove
    from podman_cvmfs.util.below import directory as opened

    fd = os.open(root, os.O_RDONLY)
    with opened(os.fsencode("/".join(["d"] * 1100)), fd) as deep:
        assert os.listdir(deep) == ["end"]
    remove(b"d", fd)
    os.close(fd)
    assert os.listdir(root) == []


# ---------------------------------------------------------------------- hostile layers


@pytest.mark.parametrize(
    "name",
    [
        "../outside/evil",
        "a/../../outside/evil",
        "..",
        "a/..",
        "a/b/../..",
        "a/../..",
        "a/../../a/x",
        "/../outside/evil",
        "./../outside/evil",
    ],
)
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE])
def test_dot_dot_is_refused(
    do: Unpack, tmp_path: Path, outside: Path, name: str, kind: bytes
) -> None:
    before = snapshot(outside)
    with pytest.raises(InputError, match=r"\.\."):
        do([Entry(name.encode(), kind, target=b"x")])
    assert snapshot(outside) == before


def escapes(outside: Path) -> dict[str, list[Entry]]:
    """Ways out that begin with a link; whether refused or confined, nothing outside changes."""
    up = "../" * 30 + str(outside).lstrip("/")
    there = str(outside)
    return {
        "through an absolute link": [symlink("l", there), file("l/file", "evil")],
        "through a relative link": [symlink("l", up), file("l/file", "evil")],
        "through a link to a link": [symlink("a", "b"), symlink("b", up), file("a/file", "evil")],
        "through a link in a directory": [symlink("d/l", up), file("d/l/dir/x", "evil")],
        "a file over a link": [symlink("l", f"{there}/file"), file("l", "evil")],
        "a directory over a link": [symlink("l", f"{there}/dir"), directory("l", 0o777)],
        "below a directory over a link": [
            symlink("l", f"{there}/dir"),
            directory("l", 0o777),
            file("l/x"),
        ],
        "a directory's attributes through a link": [
            directory("d", 0o777),
            directory("d/dir", 0o777),
            symlink("d", there),
        ],
        "attributes of a directory implied below a link": [file("d/dir/x"), symlink("d", there)],
        "a fifo over a link": [symlink("l", f"{there}/file"), fifo("l")],
        "a hard link through a link": [
            symlink("l", there),
            hardlink("h", "l/file"),
            file("h", "evil"),
        ],
        "a hard link to a link": [
            symlink("l", f"{there}/file"),
            hardlink("h", "l"),
            file("h", "evil"),
        ],
        "a hard link out": [hardlink("h", f"{up}/file"), file("h", "evil")],
        "an absolute hard link out": [hardlink("h", f"{there}/file"), file("h", "evil")],
        "a hard link into a link": [
            file("x", "evil"),
            symlink("l", there),
            hardlink("l/file", "x"),
        ],
        "a removal through a link": [symlink("l", there), file("l/dir", "evil")],
        "a whiteout through a link": [symlink("l", there), whiteout("l/file"), opaque("l")],
        "a link replaced under an open directory": [
            directory("d"),
            file("d/x"),
            symlink("d", there),
            file("d/file", "evil"),
        ],
        "the root as a link": [symlink(".", there), file("file", "evil")],
        "a loop of links": [symlink("a", "b"), symlink("b", "a"), file("a/x")],
        "a link to itself": [symlink("a", "a/a/a/a"), file("a/x")],
        "a link to the parent": [symlink("d/up", ".."), file("d/up/d/up/../../x")],
        "xattrs over a link": [
            symlink("l", f"{there}/file"),
            file("l", "", 0o644, 0, {"user.evil": b"1"}),
        ],
    }


@pytest.mark.parametrize("case", list(escapes(Path("/"))))
def test_nothing_outside_is_touched(do: Unpack, outside: Path, root: Path, case: str) -> None:
    before = snapshot(outside), os.stat(outside).st_mode, os.stat(root.parent).st_mode
    beside = sorted(os.listdir(root.parent))
    with contextlib.suppress(InputError):
        do(escapes(outside)[case])
    assert (snapshot(outside), os.stat(outside).st_mode, os.stat(root.parent).st_mode) == before
    assert sorted(os.listdir(root.parent)) == beside
    assert not os.listxattr(outside / "file")


def test_links_are_resolved_inside_the_tree(do: Unpack, root: Path) -> None:
    """As in a chroot, where podman unpacks; images with /lib a link do come like this."""
    do(
        [
            directory("usr/lib"),
            symlink("lib", "usr/lib"),
            file("lib/a", "1"),
            symlink("abs", "/usr"),
            file("abs/lib/b", "2"),
            symlink("usr/up", "../../../.."),
            file("usr/up/top", "3"),
            hardlink("h", "lib/a"),
        ]
    )
    assert (root / "usr/lib/a").read_text() == "1"
    assert (root / "usr/lib/b").read_text() == "2"
    assert (root / "top").read_text() == "3"
    assert os.lstat(root / "usr/lib/a").st_nlink == 2


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([file("f"), file("f/x")], "used as a directory"),
        ([hardlink("h", "missing")], "not there"),
        ([directory("d"), hardlink("h", "d")], "not there"),
        ([hardlink("h", "/")], "not there"),
        ([symlink("s", "")], "impossible name"),
        ([file(".wh.")], "whiteout of nothing"),
        ([file("d/.wh..")], "whiteout of nothing"),
        ([file("d/.wh...")], "whiteout of nothing"),
        ([file("/")], "root directory"),
        ([Entry(b"x", b"Z")], "unknown type"),
    ],
)
def test_refused(do: Unpack, entries: list[Entry], message: str) -> None:
    with pytest.raises(InputError, match=message):
        do(entries)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (_pax({"path": b"a\0b"}) + entry(name="x"), "impossible name"),
        (_pax({"path": b"x" * 5000}) + entry(name="x"), "impossible name"),
        (entry(name="x", uid=-5), "impossible owner"),
        (entry(name="x", gid=2**40), "impossible owner"),
        (_pax({"size": b"-5"}) + entry(name="x"), "impossible size|contradict|invalid offset"),
        (_pax({"path": b"alone"}), "damaged"),
        (b"garbage" * 200, "damaged"),
        (entry(name="ok") + b"garbage" * 200 + END, "damaged"),
        (_pax({"GNU.sparse.map": b"5,junk", "GNU.sparse.size": b"9"}) + entry(name="x"), "damaged"),
        (b"".join(_pax({"comment": b"x"}) for _ in range(3000)) + entry(name="x"), "damaged"),
    ],
)
def test_nonsense_headers(do: Unpack, data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        do(data + END)


def test_truncated(do: Unpack) -> None:
    with pytest.raises(InputError, match="too early"):
        do(entry(name="x", data=b"1234")[:514])


def test_a_size_beyond_reason_is_no_memory_bomb(do: Unpack) -> None:
    info = tarfile.TarInfo("PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, 8 << 30
    with pytest.raises(InputError, match="extended header"):
        do(info.tobuf(tarfile.GNU_FORMAT) + END)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32), st.integers(1, 12))
def test_mutated_tars_only_raise_input_errors(
    tmp_path_factory: pytest.TempPathFactory, seed: int, changes: int
) -> None:
    chance = random.Random(seed)
    data = bytearray(
        _pax({"path": b"p\xe9", "mtime": b"1.5"})
        + entry(name="x", data=b"12")
        + tar([directory("d"), symlink("d/l", "../x"), hardlink("h", "x"), file("y" * 150)])
    )
    for _ in range(changes):
        start = chance.randrange(0, len(data) - 1024, 512)
        header = data[start : start + 512]
        header[chance.randrange(512)] = chance.randrange(256)
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        data[start : start + 512] = header
    root = tmp_path_factory.mktemp("fuzz")
    try:
        unpack_into(root, bytes(data))
    except InputError:
        pass
    except OSError as err:
        # A mutated owner, size or device that the file system can't take.
        assert err.errno is not None
