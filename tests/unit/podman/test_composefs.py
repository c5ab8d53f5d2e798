# SPDX-License-Identifier: Apache-2.0
"""When podman may be given layers with metadata of their own."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from podman_cvmfs.podman import composefs
from podman_cvmfs.podman.storage_conf.places import Places

_ON = '[storage.options.overlay]\nmountopt = "nodev,metacopy=on"\n'

#: Writes storage.conf and a podman of some version, which gives an answer; returns the obstacle.
Ask = Callable[[str, str, str], str]


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(composefs, "has_erofs", lambda: True)
    monkeypatch.setattr(composefs, "has_crio", lambda: False)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.delenv("STORAGE_OPTS", raising=False)
    (tmp_path / "bin").mkdir()

    def obstacle(conf: str, version: str, answer: str) -> str:
        (tmp_path / "storage.conf").write_text(conf)
        podman = tmp_path / "bin/podman"
        podman.write_text(
            f'#!/bin/sh\necho "$*" >> {tmp_path}/asked\n'
            f"[ $1 = --version ] && echo podman version {version} || {answer}\n"
        )
        podman.chmod(0o755)
        places = Places(
            0, "/none", "/none", "/none", "/none", storage_conf=f"{tmp_path}/storage.conf"
        )
        return composefs.obstacle(f"{tmp_path}/exact.json", places)

    return obstacle


def test_podman_decides(ask: Ask) -> None:
    assert ask(_ON, "5.4.2", "echo false") == ""
    assert ask(_ON, "5.8.6", "echo true") == composefs.NAIVE_DIFF_OFF
    assert ask(_ON, "6.0.0-rc1", "echo 'false <no value>'") == ""
    fuse = "echo 'false map[Executable:/usr/bin/fuse-overlayfs Version:1.14]'"
    assert ask(_ON, "5.8.6", fuse) == "podman mounts layers by a mount_program"
    assert ask(_ON, "5.3.9", "echo false") == "podman 5.3.9 is older than 5.4"
    assert ask(_ON, "4.3.1", "echo false") == "podman 4.3.1 is older than 5.4"


def test_podman_is_asked_only_if_its_configuration_may_allow_it(ask: Ask, tmp_path: Path) -> None:
    for conf in ("", '[storage.options.overlay]\nmountopt = "nodev"\n'):
        assert ask(conf, "5.4.2", "echo false") == composefs.NAIVE_DIFF_OFF
    assert not (tmp_path / "asked").exists()


def test_podman_is_asked_again_when_its_configuration_changes(ask: Ask, tmp_path: Path) -> None:
    def asked() -> int:
        return (tmp_path / "asked").read_text().count("info")

    assert (ask(_ON, "5.4.2", "echo false"), asked()) == ("", 1)
    assert ask("", "5.4.2", "echo false") == composefs.NAIVE_DIFF_OFF, "the setting is lost"
    ask(f"# changed\n{_ON}", "5.4.2", "echo false")
    assert asked() == 2


def test_a_failure_of_podman_is_not_kept(ask: Ask, tmp_path: Path) -> None:
    script = f"{{ test -e {tmp_path}/mended && echo false; }}"
    assert ask(_ON, "5.4.2", script) == "podman info fails"
    (tmp_path / "mended").touch()
    podman = os.stat(tmp_path / "bin/podman")
    places = Places(0, "/none", "/none", "/none", "/none", storage_conf=f"{tmp_path}/storage.conf")
    assert composefs.obstacle(f"{tmp_path}/exact.json", places) == ""
    assert os.stat(tmp_path / "bin/podman").st_ino == podman.st_ino


def test_others_than_root_get_none(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "only root" in ask(_ON, "5.4.2", "echo false")


def test_cri_o_gets_none(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composefs, "has_crio", lambda: True)
    assert ask(_ON, "5.4.2", "echo false") == composefs.CRIO_HERE


def test_podman_in_other_sessions_may_not_lose_data(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This session's storage.conf is another than the system's. Both name the store."""
    store, memo, home = str(tmp_path / "store"), str(tmp_path / "exact.json"), tmp_path / "home"
    script = 'test "$CONTAINERS_STORAGE_CONF" && echo false || echo true'
    assert ask(_ON, "5.8.6", f"{{ {script}; }}") == composefs.NAIVE_DIFF_OFF
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(tmp_path / "storage.conf"))
    (home / ".config/containers").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    system = home / ".config/containers/storage.conf"
    assert composefs.obstacle(memo, store=store) == ""
    system.write_text(f'[storage.options]\nadditionalimagestores = ["{store}"]\n')
    found = composefs.obstacle(memo, store=store)
    assert found == f"in sessions without CONTAINERS_STORAGE_CONF, {composefs.NAIVE_DIFF_OFF}"
    assert composefs.obstacle(memo, store=f"{store}2") == ""


def test_a_kernel_without_erofs(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composefs, "has_erofs", lambda: False)
    assert "EROFS" in ask(_ON, "5.4.2", "echo false")


@pytest.mark.parametrize("release", ["6.4.9", "5.14.0-570.el9", "nonsense"])
def test_old_kernels_have_no_directories_for_data_alone(
    release: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = os.uname()
    changed = os.uname_result((names.sysname, names.nodename, release, "", names.machine))
    monkeypatch.setattr(os, "uname", lambda: changed)
    assert not composefs.has_erofs()
