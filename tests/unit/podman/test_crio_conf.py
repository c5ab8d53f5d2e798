# SPDX-License-Identifier: Apache-2.0
"""CRI-O's configuration, read in CRI-O's order."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from podman_cvmfs.errors import InputError
from podman_cvmfs.podman.crio_conf import CrioConf, has_crio, read_crio_conf


def write(directory: Path, name: str, text: str) -> str:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def test_nothing_is_said_without_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not has_crio(str(tmp_path / "crio"))
    assert read_crio_conf(str(tmp_path / "crio")) == CrioConf()
    assert has_crio(str(tmp_path))
    (tmp_path / "crio").write_text("#!/bin/sh\n")
    (tmp_path / "crio").chmod(0o755)
    assert has_crio("/none")


def test_later_files_replace_values_and_add_stores(tmp_path: Path) -> None:
    """The order is that of Go's filepath.Walk: also of files without .conf, and in directories."""
    files = [
        write(tmp_path, "crio.conf", '[crio]\nroot = "/one"\nstorage_option = ["imagestore=/s"]'),
        write(
            tmp_path,
            "crio.conf.d/10-a/x",
            '[CRIO]\nROOT = "/two"\nstorage_option = ["overlay.AdditionalImageStore=/t,/u"]\n'
            '[CRIO.Image]\npinned_images = ["a"]',
        ),
        write(
            tmp_path,
            "crio.conf.d/20-b.conf~",
            '[crio]\nroot = ""\ninternal_repair = false\nimagestore = "/i"\n'
            '[crio.image]\npinned_images = ["b/*"]\npause_image = "r/pause:1"',
        ),
    ]
    conf = read_crio_conf(str(tmp_path))
    assert conf == CrioConf(
        tuple(files), "/two", "/i", ("/s", "/t", "/u"), False, ("b/*",), "r/pause:1"
    )
    assert conf.roots == ("/two", "/i")
    before = read_crio_conf(str(tmp_path), without=files[2])
    assert (before.internal_repair, before.pinned_images) == (True, ("a",))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[crio", "crio.conf:1: "),
        ("crio = 1", "crio is not a table"),
        ("[crio]\nroot = 1", "root is not a text"),
        ("[crio]\ninternal_repair = 1", "internal_repair is not true or false"),
        ("[crio]\nstorage_option = [{append=true}]", "storage_option is not an array of strings"),
        ('[crio.image]\npinned_images = "x"', "pinned_images is not an array of strings"),
    ],
)
def test_what_cri_o_refuses_is_told(tmp_path: Path, text: str, told: str) -> None:
    write(tmp_path, "crio.conf", text)
    with pytest.raises(InputError) as caught:
        read_crio_conf(str(tmp_path))
    assert told in caught.value.message


def test_a_look_has_bounds(tmp_path: Path) -> None:
    directory = tmp_path / "crio.conf.d"
    directory.mkdir()
    os.mkfifo(directory / "fifo")
    with pytest.raises(InputError, match="not a regular file"):
        read_crio_conf(str(tmp_path))
    for number in range(1001):
        (directory / f"{number}").touch()
    with pytest.raises(InputError, match="over 1000 files"):
        read_crio_conf(str(tmp_path))
