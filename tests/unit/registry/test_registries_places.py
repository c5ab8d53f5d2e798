# SPDX-License-Identifier: Apache-2.0
"""registries.conf as podman 6 reads it, and as older ones do: one case for each rule."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from podman_cvmfs.errors import InputError
from podman_cvmfs.names.reference import parse_name
from podman_cvmfs.podman import registries_rules as asking
from podman_cvmfs.podman.features import podman_major
from podman_cvmfs.podman.registries_rules import RegistriesRules
from podman_cvmfs.registry import registries_files
from podman_cvmfs.registry.meanings import meanings
from podman_cvmfs.registry.registries_conf import load_registries_conf
from tests.support.registries_cases import ALIAS, CASES, Case, outcome
from tests.support.set_up import write

NEW = RegistriesRules(everywhere=True)
OLD = RegistriesRules(everywhere=False)
OLDEST = RegistriesRules(everywhere=False, skips_bom=False)


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this host's configuration counts."""
    monkeypatch.setattr(registries_files, "ADMIN", str(tmp_path / "etc"))
    monkeypatch.setattr(registries_files, "VENDOR", str(tmp_path / "share"))
    monkeypatch.setattr(registries_files, "CACHE", str(tmp_path / "cache"))
    for name in (*registries_files.VARIABLES, registries_files.OVERRIDE, "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("rules", [NEW, OLD], ids=["new", "old"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_one_rule(
    case: Case, rules: RegistriesRules, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in case.files.items():
        write(tmp_path / name, text.encode())
    for name, path in case.environ.items():
        monkeypatch.setenv(name, str(tmp_path / path))
    monkeypatch.setattr(os, "geteuid", lambda: case.uid)
    expected = case.new if rules.everywhere else case.old
    assert outcome(lambda: load_registries_conf(rules)) == expected


def test_podman_4_reads_no_byte_order_mark(tmp_path: Path) -> None:
    write(tmp_path / "etc/registries.conf", b"\xef\xbb\xbf")
    assert load_registries_conf(OLD).tables == ()
    with pytest.raises(InputError, match="byte order mark"):
        load_registries_conf(OLDEST)


def test_the_vendor_s_short_names_lead_to_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``why`` and ``sync`` take a short name for the image that podman takes it for."""
    write(tmp_path / "share/registries.conf.d/000-shortnames.conf", ALIAS.encode())
    monkeypatch.setattr("podman_cvmfs.registry.registries_conf.registries_rules", lambda: NEW)
    assert meanings("lab/new:2") == (parse_name("r.io/lab/new:2"),)


@pytest.mark.parametrize(
    ("version", "answer", "expected"),
    [
        ("4.3.1", "$(cat $CONTAINERS_REGISTRIES_CONF_OVERRIDE)", OLDEST),
        ("5.8.6", "", OLD),
        ("5.8.6", "$(cat $CONTAINERS_REGISTRIES_CONF)", OLD),
        ("5.8.6", "$(cat $CONTAINERS_REGISTRIES_CONF_OVERRIDE)", NEW),
        ("6.0.0-rc1", "", NEW),
    ],
)
def test_podman_is_asked(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    answer: str,
    expected: RegistriesRules,
) -> None:
    script = f"""#!/bin/sh
[ "$*" = --version ] && {{ echo podman version {version}; exit; }}
[ "$*" = "__complete login " ] && echo "{answer}" :4
"""
    write(tmp_path / "bin/podman", script.encode()).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setattr(asking, "podman_major", podman_major.__wrapped__)
    assert asking.registries_rules.__wrapped__() == expected


def test_without_podman(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "podman_major", lambda: None)
    assert asking.registries_rules.__wrapped__() == OLD


def test_a_directory_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"can't read .*registries\.conf\.d: Permission denied"):
        load_registries_conf(NEW)
