# SPDX-License-Identifier: Apache-2.0
"""The hook that reads a container's files early: its file, and its script."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from podman_cvmfs.podman.storage_conf.effective import read_hook_directories
from podman_cvmfs.podman.storage_conf.generation import Generation
from podman_cvmfs.profiles.started import drop_mark, put_mark
from podman_cvmfs.setup.hook import SCRIPT, hook
from tests.support.set_up import Machine, every_generation, tree_of, write
from tests.support.storage_confs import NEW, OLD

USUAL = "/usr/share/containers/oci/hooks.d"
LINK = "l/ABCDEFGHIJKLM"
#: Strings that look like what the script looks for.
ODD = ['"root":{"path":"/false"', "root", ":{", "path", "*", "\n", "\\", "$(touch x)", "\u00e9"]


@every_generation
@pytest.mark.parametrize("uid", [0, 1000], ids=["root", "user"])
def test_set_up_and_undone(root: Path, generation: Generation, uid: int) -> None:
    write(root / "admin/containers.conf", b'[engine]\nruntime = "crun"\n')
    machine = Machine(root, generation, uid=uid)
    before = tree_of(root)
    machine.set_up(prefetch=True)
    (file,) = root.glob("*/oci/hooks.d/*.json")
    assert json.loads(file.read_bytes())["stages"] == ["precreate"]
    assert read_hook_directories(machine.places, generation) == [USUAL, str(file.parent)]
    after = tree_of(root)
    # It follows the store without being asked for again.
    assert machine.set_up().changes == []
    assert tree_of(root) == after
    assert machine.undo() == []
    assert tree_of(root) == before


@pytest.mark.parametrize("generation", [OLD, NEW], ids=["old", "new"])
@pytest.mark.parametrize("uid", [0, 1000], ids=["root", "user"])
def test_directories_of_others_stay(root: Path, generation: Generation, uid: int) -> None:
    write(root / "admin/containers.conf", b'[engine]\nhooks_dir = ["/others"]\n')
    machine = Machine(root, generation, uid=uid)
    machine.set_up(prefetch=True)
    own = root / ("user" if uid else "admin") / "oci/hooks.d"
    found = read_hook_directories(machine.places, generation)
    assert list(dict.fromkeys(found)) == ["/others", str(own)]


def test_a_file_that_the_environment_names_is_edited(root: Path) -> None:
    conf = write(root / "conf", b"[engine]\n")
    machine = Machine(root, OLD, containers_conf=str(conf))
    machine.set_up(prefetch=True)
    found = read_hook_directories(machine.places, OLD)
    assert found == [USUAL, str(root / "admin/oci/hooks.d")]
    assert machine.set_up(prefetch=True).changes == []
    machine.undo()
    assert conf.read_bytes() == b"[engine]\n"


class Hook:
    """The script, with a store, a container's layer, and a program that tells its arguments."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.told = root / "told"
        self.program = root / "program"
        self.program.write_text(f'#!/bin/sh\necho "$@" >{self.told}.new\n'
                                f"ls -l /proc/$$/fd | wc -l >>{self.told}.new\n"
                                f"mv {self.told}.new {self.told}\n")  # fmt: skip
        self.program.chmod(0o755)
        self.store = root / "store"
        (self.store / "overlay/l").mkdir(parents=True)
        (self.store / "overlay" / LINK).symlink_to("../x/diff")
        self.marks = root / "run/marks"
        self.layer = root / "a b*/layer"
        self.layer.mkdir(parents=True)

    def run(self, config: bytes) -> bytes:
        words = [self.store, self.marks, self.program, "prefetch"]
        argv = ["sh", "-c", SCRIPT, "hook", *map(str, words)]
        done = subprocess.run(argv, input=config, stdout=subprocess.PIPE, check=True, timeout=20)
        return done.stdout

    def config(self, **more: Any) -> bytes:
        document = {
            "ociVersion": "1.0.2",
            "process": {"args": ODD, "env": [f"A={each}" for each in ODD]},
            "root": {"path": f"{self.layer}/merged"},
            "annotations": {each: each for each in ODD},
            **more,
        }
        return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()

    def called(self) -> list[str]:
        deadline = time.monotonic() + 10
        while not self.told.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.told.read_text().splitlines()


@pytest.fixture
def script(tmp_path: Path) -> Hook:
    return Hook(tmp_path)


def test_a_container_on_our_layers_is_read(script: Hook) -> None:
    (script.layer / "lower").write_text(f"l/OTHERS:{LINK}:l/MORE")
    assert script.run(script.config()) == script.config()
    arguments, files = script.called()
    mark = script.marks / LINK[2:]
    assert arguments == f"prefetch --store {script.store} --layer {LINK[2:]} --mark {mark}"
    # Standard input, output and error, ls's own, and its line of the total.
    assert int(files) <= 6


def test_what_was_read_just_before_is_not_read_again(script: Hook) -> None:
    (script.layer / "lower").write_text(LINK)
    mark = script.marks / LINK[2:]
    put_mark(str(mark))
    assert script.run(script.config()) == script.config()
    time.sleep(0.1)
    assert not script.told.exists()
    os.utime(mark, (time.time() - 1, time.time() - 1))
    script.run(script.config())
    assert script.called()
    drop_mark(str(mark))
    assert not mark.exists()


def test_other_containers_are_left_alone(script: Hook) -> None:
    for lower in ("l/OTHERS:l/MORE", "", "../../..", LINK[:-1]):
        (script.layer / "lower").write_text(lower)
        assert script.run(script.config()) == script.config()
    time.sleep(0.1)
    assert not script.told.exists()


@pytest.mark.parametrize(
    "config",
    [
        b"",
        b"\n\n",
        b"{}",
        b'{"root":{"path":"',
        b'"',
        b'{"root":{"path":"/none/merged"}}\n',
        b"\xff",
    ]
    + [b'{"root":{"path":"-e"}}', b"%s%s%n", b'{"a":"' + b"x" * 1_000_000 + b'"}'],
    ids=range(10),
)
def test_every_configuration_comes_out_as_it_went_in(script: Hook, config: bytes) -> None:
    assert script.run(config) == config


def test_a_removed_program_keeps_nothing_from_starting(script: Hook) -> None:
    (script.layer / "lower").write_text(LINK)
    script.program.unlink()
    assert script.run(script.config()) == script.config()


def test_the_file_names_the_script_and_the_program() -> None:
    document = json.loads(hook("/store", "/run/marks"))
    path, args = document["hook"]["path"], document["hook"]["args"]
    assert os.access(path, os.X_OK)
    assert args[:6] == ["sh", "-c", SCRIPT, "podman-cvmfs", "/store", "/run/marks"]
    assert os.access(args[6], os.X_OK) and args[-1] == "prefetch"
    assert document["when"] == {"always": True}
