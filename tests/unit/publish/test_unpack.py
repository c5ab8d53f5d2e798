# SPDX-License-Identifier: Apache-2.0
"""Honest layers: every file comes out as it went in."""

from __future__ import annotations

import os
import stat
import tarfile
from pathlib import Path

from tests.support.layers import (
    CAPABILITY,
    MTIME,
    directory,
    fifo,
    file,
    hardlink,
    opaque,
    pax,
    symlink,
    whiteout,
)
from tests.support.unpacking import END, ROOT, Unpack, entry, unpack_into


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
        data += pax({"path": name}) + entry(name="short", data=b"x")
    data += pax({"path": b"p/l", "linkpath": b"to-\xff"}) + entry(name="s", type=tarfile.SYMTYPE)
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
        pax({"mtime": b"1600000000.123456789"})
        + entry(name="x")
        + pax({"mtime": b"-1.5"})
        + entry(name="y")
        + pax({"mtime": b"1e400"})
        + entry(name="z")
        + pax({"mtime": b"junk"})
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
    header = bytearray(pax({"path": b"forced", "comment": b"commit 1"}))
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
