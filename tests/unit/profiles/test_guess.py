# SPDX-License-Identifier: Apache-2.0
"""What is guessed of an image's start, and what hostile images make of it."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import struct
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from podman_cvmfs.profiles.elf import Needs, needs_of
from podman_cvmfs.profiles.guess import MAX_GUESSES, guess
from podman_cvmfs.profiles.shown import ShownImage

PROGRAM = os.path.realpath("/usr/bin/python3")


def guessed(root: Path, **settings: Any) -> list[str]:
    config = json.dumps({"config": settings}).encode()
    return [use.path for use in guess(ShownImage((str(root),)), config)]


def reader(data: bytes) -> Any:
    return lambda offset, size: data[offset : offset + size]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("usr/bin", "usr/lib/extra", "opt/app", "etc/ld.so.conf.d"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "bin").symlink_to("usr/bin")
    return tmp_path


def test_the_libraries_are_those_that_the_loader_loads() -> None:
    found = guessed(Path("/"), Cmd=[PROGRAM])
    said = subprocess.run(["ldd", PROGRAM], stdout=subprocess.PIPE, encoding="utf-8", check=True)
    libraries = re.findall(r"(/\S+) \(0x", said.stdout)
    assert len(libraries) > 2
    assert {os.path.realpath(each)[1:] for each in libraries} <= set(found)
    assert found.index(PROGRAM[1:]) < found.index("etc/ld.so.cache")


def test_the_loader_s_configuration_counts(root: Path) -> None:
    shutil.copy(PROGRAM, root / "usr/bin/program")
    (root / "etc/ld.so.conf").write_text("# all\ninclude /etc/ld.so.conf.d/*.conf\n/none\n")
    (root / "etc/ld.so.conf.d/a.conf").write_text("/usr/lib/extra # here\ninclude /etc/ld.so.conf")
    (root / "usr/lib/extra/libc.so.6.real").write_text("no ELF")
    (root / "usr/lib/extra/libc.so.6").symlink_to("libc.so.6.real")
    found = guessed(root, Entrypoint=["program"], Env=["PATH=/none:/usr/bin"])
    assert found == ["usr/bin/program", "usr/lib/extra/libc.so.6.real"]


def test_scripts_have_interpreters(root: Path) -> None:
    (root / "usr/bin/env").write_text("")
    (root / "usr/bin/tool").write_text("#!/bin/env tool2\n")
    (root / "usr/bin/tool2").write_text("#!/bin/tool2 -x\n")
    assert guessed(root, Cmd=["tool"]) == ["usr/bin/tool", "usr/bin/env", "usr/bin/tool2"]


def test_files_on_the_command_line_count(root: Path) -> None:
    for name in ("usr/bin/init", "usr/bin/python3", "opt/app/main.py"):
        (root / name).write_text("")
    found = guessed(root, Entrypoint=["init", "--"], Cmd=["python3", "-I", "./main.py", "x"],
                    WorkingDir="/opt/app")  # fmt: skip
    assert found == ["usr/bin/init", "usr/bin/python3", "opt/app/main.py"]
    (root / "usr/bin/sh").write_text("")
    found = guessed(root, Cmd=["sh", "-c", "exec python3 /opt/app/main.py 'x y' # z"])
    assert found == ["usr/bin/sh", "usr/bin/python3", "opt/app/main.py"]


@pytest.mark.parametrize(
    "settings",
    [
        {"Cmd": 7, "Entrypoint": "sh", "Env": 7, "WorkingDir": 7},
        {"Cmd": [7, None, "", "\0", "\ud800", "x" * 10_000, "/" * 5000], "Env": [7]},
        {"Cmd": ["sh", "-c", "'"]},
        {"Cmd": ["../../../../etc/passwd"], "WorkingDir": "/../.."},
        {"Cmd": ["loop"]},
    ],
)
def test_odd_images_do_no_harm(root: Path, settings: dict[str, Any]) -> None:
    (root / "usr/bin/loop").symlink_to("loop")
    os.mkfifo(root / "usr/bin/sh")
    assert guessed(root, **settings) == []


@pytest.mark.parametrize("config", [b"", b"[]", b"7", b'{"config": 7}'])
def test_odd_configs_do_no_harm(config: bytes) -> None:
    assert guess(ShownImage(("/none",)), config) == ()


def test_guesses_are_bounded(root: Path) -> None:
    for number in range(MAX_GUESSES + 10):
        (root / f"usr/bin/{number}").write_text(f"#!/bin/{number + 1}\n")
    assert len(guessed(root, Cmd=["0"])) == MAX_GUESSES


def program(needed: int, path: bytes, paths: int) -> bytes:
    """A program that needs so many libraries, and has a search path so many times."""
    strings = b"\0" + path + b"\0none.so\0"
    rows = [(1, len(path) + 2)] * needed + [(15, 1)] * paths + [(5, 0x1000), (10, len(strings))]
    dynamic = b"".join(struct.pack("<qQ", *row) for row in [*rows, (0, 0)])
    begin = 64 + 2 * 56
    head = b"\x7fELF\2\1\1".ljust(32, b"\0") + struct.pack("<Q", 64)
    head = head.ljust(54, b"\0") + struct.pack("<HH", 56, 2)
    head = head.ljust(64, b"\0")
    for kind, offset, address, length in (
        (1, begin + len(dynamic), 0x1000, len(strings)),
        (2, begin, 0, len(dynamic)),
    ):
        head += struct.pack("<IIQQQQQQ", kind, 0, offset, address, 0, length, length, 0)
    return head + dynamic + strings


def test_only_one_search_path_counts() -> None:
    needs = needs_of(reader(program(2, b"/a:/b", 3000)))
    assert needs == Needs("", ("none.so",) * 2, ("/a", "/b"))


def test_no_image_keeps_the_guess_for_hours(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("podman_cvmfs.profiles.guess.MAX_SECONDS", 0.3)
    (root / "usr/bin/program").write_bytes(program(3000, b":/a" * 1300, 1))
    (root / "etc/ld.so.conf").write_text("include *x*y*z\n" * 4000)
    for number in range(3000):
        (root / f"etc/{'x' * 200}{number}").touch()
    begun = time.monotonic()
    assert guessed(root, Cmd=["program"])[:1] == ["usr/bin/program"]
    assert guessed(root, Cmd=["none"] * 60, Env=["PATH=" + "/a:" * 300_000]) == []
    assert guessed(root, Cmd=[f"/{'usr/../' * 500_000}none"] * 60) == []
    assert time.monotonic() - begun < 10


def test_damaged_programs_do_no_harm() -> None:
    data = Path(PROGRAM).read_bytes()
    whole = needs_of(reader(data))
    assert whole is not None and "libc.so.6" in whole.needed and whole.interpreter
    assert needs_of(reader(b"#!/bin/sh")) is None
    chance = random.Random(1)
    for _ in range(2000):
        broken = bytearray(data[:8192])
        for _ in range(chance.randrange(1, 40)):
            broken[chance.randrange(4, len(broken) if chance.random() < 0.3 else 1024)] = (
                chance.randrange(256)
            )
        found = needs_of(reader(bytes(broken[: chance.randrange(4, 8192)])))
        assert found is None or isinstance(found, Needs)
