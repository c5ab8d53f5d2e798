# SPDX-License-Identifier: Apache-2.0
"""doctor's changes of storage.conf take, however that is spelt, or fail; never do they do nothing
in silence."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from podman_cvmfs.doctor import edits
from podman_cvmfs.podman.storage_conf.toml_file import plain


def _run(command: str, path: Path) -> dict[str, object]:
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.endswith("\n")
    return plain("f", path.read_bytes())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "storage's.conf"


@pytest.mark.parametrize(
    "text",
    [
        '[storage]\ndriver = "vfs"\n',
        "[storage]\n\tdriver='vfs' # mine\n",
        '[ storage ]\n "driver"  =  "vfs"\n',
        "[storage]\n'driver' = \"vfs\"\n",
        'storage.driver = "vfs"\n',
        '"storage" . "driver" = "vfs"\n',
    ],
)
def test_every_spelling_of_the_driver(path: Path, text: str) -> None:
    path.write_text(f'# driver = "btrfs"\n{text}')
    assert _run(edits.set_key("driver", "overlay", str(path)), path) == {
        "storage": {"driver": "overlay"}
    }
    assert path.read_text().startswith('# driver = "btrfs"\n')


def test_keys_in_other_cases(path: Path) -> None:
    path.write_text('[storage]\nDriver = "vfs"\n')
    _run(edits.set_key("driver", "overlay", str(path)), path)
    assert path.read_text() == '[storage]\nDriver = "overlay"\n'


@pytest.mark.parametrize("head", ["[storage]", " [ storage ]  # here", '\t["storage"]'])
def test_keys_that_are_missing(path: Path, head: str) -> None:
    path.write_text(f'[other]\nx = 1\n{head}\ndriver = "overlay"\n')
    values = {"runroot": "/run/s", "graphroot": "/g"}
    found = _run(edits.add_to_storage(values, str(path)), path)
    assert found == {"other": {"x": 1}, "storage": {"driver": "overlay", **values}}


@pytest.mark.parametrize(
    "line", ['use_composefs = "true"', '\t"use_composefs"="true"', 'overlay.use_composefs = "true"']
)
def test_options_that_must_not_count(path: Path, line: str) -> None:
    path.write_text(f"[storage.options]\n{line}\n")
    found = _run(edits.comment_out("use_composefs", str(path)), path)
    assert found == {"storage": {"options": {}}}
    assert path.read_text() == f"[storage.options]\n# {line}\n"


@pytest.mark.parametrize(
    "array",
    [
        '["/a", "/b", {append=true}]',
        '["/a",\t{ append = false } , "/b"]',
        '[{append=true}, "/a", "/b"]',
        '["/a",\n  {"append"=true},\n "/b",\n]',
        '["/a", "/b"\n, {append = true}\n]',
    ],
)
def test_what_older_podman_can_not_parse(path: Path, array: str) -> None:
    path.write_text(f"a = {array}\n")
    assert _run(edits.remove_append(str(path)), path) == {"a": ["/a", "/b"]}


@pytest.mark.parametrize("text", ["", "# mine", '[storage.options]\nsize = ""', "\n[a]\nb = 1\n"])
def test_a_table_that_is_missing(path: Path, text: str) -> None:
    path.write_text(text)
    assert edits.has_storage(text) is False
    command = edits.add_to_storage({"runroot": "/r", "graphroot": "/g"}, str(path), is_there=False)
    assert subprocess.run(["sh", "-c", command]).returncode == 0
    storage = plain("f", path.read_bytes())["storage"]
    assert (storage["runroot"], storage["graphroot"]) == ("/r", "/g")
    assert path.read_text().startswith(text)


def test_where_no_table_may_be_added() -> None:
    for text in ('storage.driver = "overlay"', 'storage = {driver = "vfs"}', '# x\nsize = "1"\n'):
        assert edits.has_storage(text) is None
    assert edits.has_storage('\n [ "Storage" ] # here\n')


def test_keys_that_no_command_finds() -> None:
    for text in ('driver = "vfs"', "  'Driver'=\"x\"", 'storage . driver = "x"', '"driver" = "x"'):
        assert edits.is_on_a_line("driver", f"[storage]\n{text}\n"), text
    for text in ('storage = {driver = "vfs"}', '# driver = "vfs"', 'driver_priority = "x"'):
        assert not edits.is_on_a_line("driver", text), text


def test_what_can_not_be_changed_fails(path: Path) -> None:
    text = 'storage = {driver = "vfs"}\n'
    path.write_text(text)
    for command in (
        edits.set_key("driver", "overlay", str(path)),
        edits.comment_out("driver", str(path)),
        edits.add_to_storage({"runroot": "/r"}, str(path)),
        edits.remove_append(str(path)),
    ):
        done = subprocess.run(["sh", "-c", f"{command} && echo lost"], capture_output=True)
        assert (done.returncode, done.stdout) == (1, b"")
    assert path.read_text() == text
