# SPDX-License-Identifier: Apache-2.0
"""Which artefact is used, and what is said where there is none or the wrong one."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from podman_cvmfs.errors import InputError
from podman_cvmfs.storage_native import (
    Artefact,
    Kind,
    OpenStore,
    Unavailable,
    WrongAbi,
    find,
    judge,
    locate,
)
from podman_cvmfs.storage_native.artefact import MODE_VARIABLE, PATH_VARIABLE
from podman_cvmfs.storage_native.binding import SharedLibrary

_FOREIGN = """
#include <stddef.h>
int podman_cvmfs_abi(void) { return 99; }
char *podman_cvmfs_call(const char *request, size_t length) { return NULL; }
void podman_cvmfs_free(char *text) { }
"""


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Empty directories in place of the package's and the system's; no variables set."""
    monkeypatch.delenv(MODE_VARIABLE, raising=False)
    monkeypatch.delenv(PATH_VARIABLE, raising=False)
    package, system = tmp_path / "package", tmp_path / "system"
    for directory in (package, system):
        directory.mkdir()
    monkeypatch.setattr("podman_cvmfs.storage_native.artefact.PACKAGE_DIRECTORY", str(package))
    monkeypatch.setattr("podman_cvmfs.storage_native.artefact.SYSTEM_DIRECTORY", str(system))
    return package, system


def test_the_order_of_places(
    places: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, system = places
    with pytest.raises(Unavailable, match=r"libpodman_cvmfs_storage\.so or podman-cvmfs-storage"):
        locate()
    assert find() is None
    for directory in (system, package):
        program = directory / Kind.PROGRAM.value
        program.touch()
        assert locate() == Artefact(Kind.PROGRAM, str(program))
        library = directory / Kind.LIBRARY.value
        library.touch()
        assert locate() == find() == Artefact(Kind.LIBRARY, str(library))
        assert locate(Kind.PROGRAM) == Artefact(Kind.PROGRAM, str(program))
    named = tmp_path / "named"
    named.mkdir()
    monkeypatch.setenv(PATH_VARIABLE, str(named))
    # Who names one wants that one.
    with pytest.raises(Unavailable, match=str(named)):
        locate()
    (named / Kind.LIBRARY.value).touch()
    assert locate() == Artefact(Kind.LIBRARY, str(named / Kind.LIBRARY.value))
    for name, kind in (("other.so", Kind.LIBRARY), ("program", Kind.PROGRAM)):
        (named / name).touch()
        monkeypatch.setenv(PATH_VARIABLE, str(named / name))
        assert locate() == Artefact(kind, str(named / name))
    with pytest.raises(Unavailable):
        locate(Kind.LIBRARY)


@pytest.mark.usefixtures("places")
def test_the_mode(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MODE_VARIABLE, "require")
    with pytest.raises(Unavailable, match=r"no libpodman.* in "):
        find()
    monkeypatch.setenv(PATH_VARIABLE, str(built))
    assert find() is not None
    monkeypatch.setenv(MODE_VARIABLE, "off")
    assert find() is None
    with pytest.raises(Unavailable, match="switched off"):
        judge("/nowhere")
    monkeypatch.setenv(MODE_VARIABLE, "perhaps\x1b")
    with pytest.raises(InputError, match=r"perhaps\\\\x1b"):
        locate()


@pytest.mark.usefixtures("places")
def test_where_there_is_none_it_says_what_to_do() -> None:
    with pytest.raises(Unavailable) as raised:
        OpenStore("/nowhere")
    assert raised.value.hint is not None
    assert "podman_cvmfs.storage_native.build" in raised.value.hint


def test_a_library_of_another_abi_is_refused_by_name(tmp_path: Path, built: Path) -> None:
    source, library = tmp_path / "foreign.c", tmp_path / "foreign.so"
    source.write_text(_FOREIGN)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    with pytest.raises(WrongAbi) as raised:
        SharedLibrary(str(library))
    assert str(library) in raised.value.message
    assert "99" in raised.value.message


def test_what_is_no_library(tmp_path: Path) -> None:
    text = tmp_path / "text.so"
    text.write_text("not a library")
    for path in (str(text), str(tmp_path / "missing.so"), str(tmp_path), "libc.so.6", "a\0b"):
        with pytest.raises(Unavailable):
            SharedLibrary(path)
