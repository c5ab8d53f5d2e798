# SPDX-License-Identifier: Apache-2.0
"""certs.d directories."""

from __future__ import annotations

import shutil
import ssl
from pathlib import Path

import pytest

from podman_cvmfs.errors import RegistryError
from podman_cvmfs.registry import certificates
from podman_cvmfs.registry.certificates import Certificates, find_certificates, tls_context
from tests.support.tls import Authority


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    system = (str(tmp_path / "containers"), str(tmp_path / "docker"))
    monkeypatch.setattr(certificates, "SYSTEM_DIRECTORIES", system)
    return tmp_path


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_the_first_directory_counts(places: Path) -> None:
    assert find_certificates("r.io:5000") is None
    for place in ("docker", "containers", "home/.config/containers/certs.d"):
        directory = places / place / "r.io:5000"
        touch(directory / "ca.crt")
        assert find_certificates("r.io:5000") == Certificates(
            str(directory), (f"{directory}/ca.crt",)
        )
    assert find_certificates("r.io") is None


def test_files_by_suffix(places: Path) -> None:
    directory = places / "containers/r.io"
    touch(*(directory / name for name in ("b.crt", "a.crt", "me.cert", "me.key", "x.pem", "crt")))
    assert find_certificates("r.io") == Certificates(
        str(directory),
        (f"{directory}/a.crt", f"{directory}/b.crt"),
        ((f"{directory}/me.cert", f"{directory}/me.key"),),
    )


@pytest.mark.parametrize("host", ["", ".", "..", "../containers", "a/b"])
def test_no_way_out(places: Path, host: str) -> None:
    touch(places / "containers/ca.crt", places / "containers/a/b/ca.crt")
    assert find_certificates(host) is None


@pytest.mark.parametrize("name", ["me.cert", "me.key"])
def test_half_a_client(places: Path, name: str) -> None:
    touch(places / "containers/r.io" / name)
    with pytest.raises(RegistryError, match="without its"):
        find_certificates("r.io")


def test_contexts(places: Path) -> None:
    authority = Authority(places / "ca")
    client = authority.issue("client")
    directory = places / "containers/r.io"
    directory.mkdir(parents=True)
    shutil.copy(authority.certificate, directory / "ca.crt")
    shutil.copy(client.certificate, directory / "me.cert")
    shutil.copy(client.key, directory / "me.key")
    context = tls_context(find_certificates("r.io"))
    subjects = [each["subject"] for each in context.get_ca_certs()]
    assert ((("commonName", "test CA"),),) in subjects
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT, "podman isn't as strict"
    context = tls_context(None, verify=False)
    assert (context.check_hostname, context.verify_mode) == (False, ssl.CERT_NONE)
    (directory / "ca.crt").write_text("none")
    with pytest.raises(RegistryError, match=r"not a certificate of an authority: .*ca\.crt"):
        tls_context(find_certificates("r.io"))
    shutil.copy(authority.certificate, directory / "ca.crt")
    (directory / "me.key").write_text("none")
    with pytest.raises(RegistryError, match=r"not a client's certificate and its key: .*me\.cert"):
        tls_context(find_certificates("r.io"))
