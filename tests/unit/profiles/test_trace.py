# SPDX-License-Identifier: Apache-2.0
"""The trace of CernVM-FS's client, and what of an opened path belongs into a profile."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from podman_cvmfs.errors import InputError
from podman_cvmfs.profiles.profile import Use
from podman_cvmfs.profiles.record import profile_of
from podman_cvmfs.profiles.shown import shown_image
from podman_cvmfs.profiles.trace import read_trace
from tests.support.world import World, app

OPEN, LOOKUP = 1, 4


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.make("repository", 2)
    for name in ("tmp/a", "tmp/b", 'tmp/odd",\n'):
        (made.flat(0) / name).write_text("x")
    made.sync()
    return made


def write(path: Path, *events: tuple[int, str]) -> str:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(["1700000000.1", -1, "Tracer", "Trace buffer created"])
        writer.writerows(["1700000000.2", code, name, "message"] for code, name in events)
    return str(path)


def test_the_files_of_the_image_are_taken(world: World, tmp_path: Path) -> None:
    shown = shown_image(world.store.path, world.content, world.stored(app(0)))
    flat = f"/.flat/{world.stored(app(0)).source_id[:2]}/{world.stored(app(0)).source_id}"
    trace = write(
        tmp_path / "trace",
        (LOOKUP, f"{flat}/tmp/c"),
        (OPEN, f"{flat}/tmp/b"),
        (OPEN, "/.flat/other/tmp/x"),
        (OPEN, f'{flat}/tmp/odd",\n'),
        (OPEN, f"{flat}/tmp/a"),
        (OPEN, f"{flat}/tmp/b"),
    )
    assert read_trace(trace, str(world.repository), shown) == ["tmp/b", 'tmp/odd",\n', "tmp/a"]


@pytest.mark.parametrize("text", ["no trace\n", '"1","2"\n', '"' + "x" * 200_000 + '"'])
def test_what_is_no_trace_is_refused(world: World, tmp_path: Path, text: str) -> None:
    shown = shown_image(world.store.path, world.content, world.stored(app(0)))
    (tmp_path / "trace").write_text(text)
    with pytest.raises(InputError, match="no trace"):
        read_trace(str(tmp_path / "trace"), str(world.repository), shown)
    with pytest.raises(InputError, match="can't read"):
        read_trace(str(tmp_path / "none"), str(world.repository), shown)


def test_only_files_of_the_repository_are_in_a_profile(world: World) -> None:
    image = world.stored(app(0))
    shown = shown_image(world.store.path, world.content, image)
    paths = ["tmp/b", "/etc/x", "../x", "dev/pts", "tmp", "tmp/none", "tmp/a", "tmp/b", ""]
    found = profile_of(shown, image, paths)
    assert (found.image, found.files) == (image.source_id, (Use("tmp/b"), Use("tmp/a")))
