# SPDX-License-Identifier: Apache-2.0
"""What doctor reads of CernVM-FS's client."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from podman_cvmfs.doctor.look.client import look_at_clients
from podman_cvmfs.doctor.look.client_conf import client_settings, is_on

NAME = "unpacked.example.org"
MODE = "CVMFS_SERVER_CACHE_MODE"


def _write(directory: Path, files: Mapping[str, str]) -> str:
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(directory)


@pytest.mark.parametrize(
    ("files", "value"),
    [
        ({}, None),
        ({"default.conf": f"{MODE}=no"}, "no"),
        ({"default.conf": f"{MODE}=no", "default.d/50-a.conf": f"{MODE}=1"}, "1"),
        ({"default.d/50-a.conf": f"{MODE}=1", "default.d/60-b.conf": f"{MODE}=2"}, "2"),
        ({"default.d/50-a.txt": f"{MODE}=1"}, None),
        ({"default.d/50-a.conf": f"{MODE}=1", "default.local": f"{MODE}=yes"}, "yes"),
        ({"default.local": f"{MODE}=yes", "domain.d/example.org.conf": f"{MODE}=no"}, "no"),
        ({"domain.d/example.org.local": "A=1", "domain.d/example.org.conf": "A=2"}, None),
        ({"domain.d/example.org.conf": f"{MODE}=a", f"config.d/{NAME}.conf": f"{MODE}=b"}, "b"),
        ({f"config.d/{NAME}.conf": f"{MODE}=b", f"config.d/{NAME}.local": f"{MODE}=c"}, "c"),
        ({"config.d/other.example.org.conf": f"{MODE}=b", "domain.d/org.conf": f"{MODE}=d"}, None),
        ({"default.local": f"# {MODE}=yes\n"}, None),
        ({"default.local": f'  export {MODE}="yes"  # for containers\n'}, "yes"),
        ({"default.local": f"readonly {MODE}='on'"}, "on"),
        ({"default.local": f"WANTED=yes\n{MODE}=$WANTED\n"}, "yes"),
        ({"default.local": f"{MODE}=${{WANTED}}x"}, "x"),
        ({"default.local": f"{MODE}='broken"}, ""),
        ({"default.local": f"{MODE}="}, ""),
    ],
)
def test_the_last_file_that_sets_it_counts(
    tmp_path: Path, files: Mapping[str, str], value: str | None
) -> None:
    assert client_settings(NAME, _write(tmp_path, files)).get(MODE) == value


def test_what_cannot_be_read_is_empty(tmp_path: Path) -> None:
    (tmp_path / "default.conf").mkdir()
    (tmp_path / "default.local").write_bytes(b"A=1\n" + b"\xff\n")
    assert client_settings(NAME, str(tmp_path)) == {"A": "1"}


def test_yes() -> None:
    assert all(is_on(value) for value in ("yes", "YES", "On", "1"))
    assert not any(is_on(value) for value in ("", "no", "true", "2"))


def test_a_plain_directory_has_no_client(tmp_path: Path) -> None:
    assert look_at_clients([str(tmp_path), str(tmp_path / "none")], 10) == ()
