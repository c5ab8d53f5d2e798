# SPDX-License-Identifier: Apache-2.0
"""``podman-cvmfs prefetch`` and ``profile``, as far as no container runs."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path

import pytest

from podman_cvmfs.profiles.profile import Profile, Use, parse_profile, render_profile
from podman_cvmfs.store.reader import read_store
from podman_cvmfs.store.records import StoredImage
from tests.support.cli import Target, podman_cvmfs, succeed
from tests.support.many import REGISTRY, make_repository

NAME = f"{REGISTRY}/project/app0:0"


class Machine:
    """A synced store whose first image has two files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.target = Target(make_repository(root / "r", 2), root / "store", root / "cache")
        self.settings = root / "config.toml"
        self.settings.write_text(f'offline = true\nprofiles = "{root / "site"}"\n')
        self.target.sync("--offline")
        content = read_store(str(self.target.store))
        assert content is not None
        self.image: StoredImage = content.images[content.names[NAME]]
        self.top = content.layers[self.image.top_layer or ""]
        source = self.image.source_id
        self.flat = f"/.flat/{source[:2]}/{source}"
        for name in ("a", "b"):
            Path(f"{self.target.repository}{self.flat}", name).write_text(name)
        (root / "site").mkdir()
        self.profile = root / "site" / source

    def run(self, command: str, *args: str | Path) -> tuple[int, str, str]:
        """Exit code, output and errors of a command on this store."""
        places = ("--store", self.target.store, "--cache", self.target.cache)
        done = podman_cvmfs(command, *places, *args, settings=self.settings)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr

    def trace(self, *names: str) -> Path:
        """A trace of CernVM-FS's client in which these files of the image are opened."""
        path = self.root / "trace"
        with path.open("w", newline="") as file:
            events = [["1.0", 1, f"{self.flat}/{name}", ""] for name in names]
            csv.writer(file, quoting=csv.QUOTE_ALL).writerows(events)
        return path


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_profile_s_files_are_read(machine: Machine) -> None:
    files = (Use("a"), Use("none"), Use("b"))
    machine.profile.write_bytes(render_profile(Profile(machine.image.source_id, files)))
    code, output, _ = machine.run("prefetch", NAME, "--format", "json")
    (found,) = json.loads(output)
    assert (code, found["image"]) == (0, machine.image.image_id)
    assert (found["files"], found["size"], found["missing"], found["fetched"]) == (2, 2, 1, None)
    assert str(machine.profile) in found["origin"]
    _, _, errors = machine.run("prefetch", NAME)
    assert f"{NAME}: 2 files, 2 bytes read, by the profile in" in errors
    assert "not in the image: 1 file of the profile" in errors


def test_without_a_profile_it_guesses(machine: Machine) -> None:
    code, output, _ = machine.run("prefetch", NAME, "--format", "json")
    assert (code, json.loads(output)[0]["origin"]) == (0, "a guess")


@pytest.mark.parametrize("command", ["prefetch", "profile"])
def test_an_image_that_is_not_there(machine: Machine, command: str) -> None:
    code, _, errors = machine.run(command, "none:1")
    assert code == 3 and "not in the store: none:1" in errors


@pytest.mark.parametrize(
    "arguments", [[], [NAME, "--layer", "/x"], [NAME, "--mark", "/x"], [NAME, "--size", "0"]]
)
def test_wrong_usage(machine: Machine, arguments: list[str]) -> None:
    assert machine.run("prefetch", *arguments)[0] == 2


def test_a_container_s_layer_is_marked(machine: Machine, tmp_path: Path) -> None:
    mark = tmp_path / "run/marks/x"
    arguments = ("--mark", mark, "--format", "json", "--layer")
    code, output, _ = machine.run("prefetch", *arguments, machine.top.link)
    assert (code, len(json.loads(output))) == (0, 1)
    assert mark.stat().st_mtime > time.time() + 60
    assert json.loads(machine.run("prefetch", *arguments, "OTHERS")[1]) == []


def test_a_trace_becomes_a_profile(machine: Machine) -> None:
    assert machine.run("profile", NAME, "--trace", machine.trace("b"))[0] == 0
    code, _, errors = machine.run("profile", NAME, "--trace", machine.trace("a"))
    assert code == 0 and "1 file recorded" in errors and "has 2" in errors
    code, output, _ = machine.run("prefetch", NAME, "--format", "json")
    assert (json.loads(output)[0]["files"], code) == (2, 0)
    assert "the cache" in json.loads(output)[0]["origin"]


def test_a_profile_is_written_to_a_file(machine: Machine, tmp_path: Path) -> None:
    output = tmp_path / "new/profile"
    for names in ("a", "ab"):
        arguments = (NAME, "--trace", machine.trace(*names), "--output", output)
        assert machine.run("profile", *arguments)[0] == 0
    found = parse_profile(output.read_bytes(), machine.image.source_id, "it")
    assert found.files == (Use("a"), Use("b"))
    output.write_text("something else")
    code, _, errors = machine.run("profile", *arguments)
    assert code == 3 and "is not valid JSON" in errors
    assert output.read_text() == "something else"


def test_nothing_makes_no_profile(machine: Machine) -> None:
    assert machine.run("profile", NAME, "--trace", machine.trace("none"))[0] == 3
    assert machine.run("profile", NAME, "sh", "--trace", "/x")[0] == 2


def test_a_profile_goes_with_the_cache(machine: Machine, tmp_path: Path) -> None:
    machine.run("profile", NAME, "--trace", machine.trace("a"))
    archive, other = tmp_path / "archive", tmp_path / "other"
    succeed("cache", "export", archive, "--cache", machine.target.cache)
    succeed("cache", "import", archive, "--cache", other)
    _, output, _ = machine.run("prefetch", NAME, "--format", "json", "--cache", other)
    assert str(other) in json.loads(output)[0]["origin"]
