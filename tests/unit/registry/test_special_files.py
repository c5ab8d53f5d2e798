# SPDX-License-Identifier: Apache-2.0
"""Special files in the place of a registry's settings: nobody waits for them, nor reads them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from podman_cvmfs.errors import InputError, RegistryError
from podman_cvmfs.registry import certificates, credentials, registries_files
from podman_cvmfs.registry.certificates import find_certificates, tls_context
from podman_cvmfs.registry.credentials import CredentialStore
from podman_cvmfs.registry.registries_conf import load_registries_conf
from podman_cvmfs.registry.registries_files import VARIABLES
from podman_cvmfs.util import toml

_SECONDS = 10


@pytest.fixture(autouse=True)
def impatient() -> Iterator[None]:
    """A wait for the other end of a FIFO ends as a failure."""

    def give_up(*_: object) -> None:
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(params=["fifo", "zero", "directory", "socket"])
def special(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A path of something that is not a regular file."""
    path = tmp_path / "special"
    if request.param == "fifo":
        os.mkfifo(path)
    elif request.param == "zero":
        path.symlink_to("/dev/zero")
    elif request.param == "directory":
        path.mkdir()
    else:
        os.mknod(path, 0o140600)
    return path


def test_registries_conf(special: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLES[0], str(special))
    with pytest.raises(InputError, match="can't read"):
        load_registries_conf()


def test_drop_ins_and_aliases(
    special: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(registries_files, "ADMIN", str(tmp_path))
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "registries.conf.d").mkdir()
    if not special.is_dir():
        (tmp_path / "registries.conf.d/a.conf").symlink_to(special)
        with pytest.raises(InputError, match="can't read"):
            load_registries_conf()
        (tmp_path / "registries.conf.d/a.conf").unlink()
    (tmp_path / "containers").mkdir()
    (tmp_path / "containers/short-name-aliases.conf").symlink_to(special)
    monkeypatch.setattr(registries_files, "CACHE", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(InputError, match="can't read"):
        load_registries_conf()


def test_logins(
    special: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(credentials.VARIABLE, str(special))
    assert CredentialStore().find("r.io", "a") is None
    assert "can't read" in caplog.text and str(special) in caplog.text


@pytest.mark.parametrize("names", [("ca.crt",), ("me.cert", "me.key")])
def test_certificates(
    special: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    monkeypatch.setattr(certificates, "SYSTEM_DIRECTORIES", (str(tmp_path),))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "r.io").mkdir()
    for name in names:
        (tmp_path / "r.io" / name).symlink_to(special)
    with pytest.raises(RegistryError, match=r"not a (certificate|client's certificate)"):
        tls_context(find_certificates("r.io"))


def test_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A sparse file costs no memory."""
    path = tmp_path / "long"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    monkeypatch.setenv(VARIABLES[0], str(path))
    monkeypatch.setenv(credentials.VARIABLE, str(path))
    with pytest.raises(InputError, match=f"longer than {toml.MAX_TOML} bytes"):
        load_registries_conf()
    assert CredentialStore().find("r.io", "a") is None
    assert "can't read" in caplog.text
