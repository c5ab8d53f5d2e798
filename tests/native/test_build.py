# SPDX-License-Identifier: Apache-2.0
"""Building the artefacts, and wheels with and without them."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from podman_cvmfs.storage_native import Kind, Unavailable
from podman_cvmfs.storage_native.build import build, toolchain
from tests.support.native import CHECKOUT

_PACKAGE = "podman_cvmfs/storage_native"


def _pip(*args: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    # Without isolation: that would download the build backend each time.
    command, *rest = args
    argv = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", command]
    argv += ["--no-deps", "--no-build-isolation", *rest]
    return subprocess.run(
        argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=300,
        # Of the library alone; tests/packaging has the rest.
        env={**os.environ, "PODMAN_CVMFS_SHARE": "off", **environment},
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what a wheel is made of, without anything that was built in it."""
    copy = tmp_path / "checkout"
    leave = shutil.ignore_patterns("__pycache__", *(kind.value for kind in Kind))
    shutil.copytree(CHECKOUT / "podman_cvmfs", copy / "podman_cvmfs", ignore=leave)
    (copy / "packaging").mkdir()
    for name in ("pyproject.toml", "packaging/hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, copy / name)
    return copy


@pytest.fixture
def without_go(tmp_path: Path) -> str:
    """A PATH with everything but Go."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in ("gcc", "sh", "env", "git"):
        found = shutil.which(name)
        if found:
            (directory / name).symlink_to(found)
    return str(directory)


def _wheel(checkout: Path, **environment: str) -> Path:
    done = _pip("wheel", "-w", checkout / "dist", checkout, **environment)
    assert done.returncode == 0, done.stdout
    (wheel,) = (checkout / "dist").iterdir()
    return wheel


@pytest.mark.usefixtures("built")
def test_a_wheel_with_the_library(checkout: Path, tmp_path: Path) -> None:
    wheel = _wheel(checkout, PODMAN_CVMFS_NATIVE="require")
    assert "-py3-none-linux_" in wheel.name
    done = _pip("install", "--target", tmp_path / "site", wheel)
    assert done.returncode == 0, done.stdout
    installed = tmp_path / "site" / _PACKAGE
    assert os.stat(installed / Kind.PROGRAM.value).st_mode & stat.S_IXOTH
    for kind in Kind:
        done = subprocess.run(
            [sys.executable, "-m", "podman_cvmfs.storage_native", "version"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            cwd=tmp_path / "site",
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path / "site")},
        )
        # First the library; once that is gone, the program.
        assert str(installed / kind.value) in done.stdout
        assert toolchain().version in done.stdout
        (installed / kind.value).unlink()


def test_without_go_a_wheel_is_pure(checkout: Path, without_go: str) -> None:
    wheel = _wheel(checkout, PATH=without_go, PODMAN_CVMFS_NATIVE="auto")
    assert wheel.name.endswith("-py3-none-any.whl")
    names = zipfile.ZipFile(wheel).namelist()
    # The sources are there, to be compiled later.
    assert f"{_PACKAGE}/go/main.go" in names
    assert not any(name.endswith(kind.value) for name in names for kind in Kind)


def test_without_go_what_is_required_fails(checkout: Path, without_go: str) -> None:
    done = _pip("wheel", checkout, PATH=without_go, PODMAN_CVMFS_NATIVE="require")
    assert done.returncode != 0
    assert "Go is not installed" in done.stdout


def test_an_editable_installation_is_quick(checkout: Path, tmp_path: Path) -> None:
    done = _pip(
        *("install", "--target", tmp_path / "site", "-e", checkout),
        PODMAN_CVMFS_NATIVE="auto",
    )
    assert done.returncode == 0, done.stdout
    assert not any((checkout / _PACKAGE / kind.value).exists() for kind in Kind)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, without_go: str) -> None:
    monkeypatch.setenv("PATH", without_go)
    with pytest.raises(Unavailable, match="Go is not installed") as raised:
        toolchain()
    assert raised.value.hint is not None
    assert "apt install golang-go" in raised.value.hint


@pytest.mark.usefixtures("built")
def test_other_things_that_are_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(Unavailable, match="compiler no-such-compiler"):
        toolchain()
    monkeypatch.delenv("CC")
    monkeypatch.setattr("podman_cvmfs.storage_native.build._GOPATH", str(tmp_path))
    monkeypatch.delenv("GOPATH", raising=False)
    with pytest.raises(Unavailable, match="source of containers/storage"):
        toolchain()
    # A library that isn't the real one: the compiler's words are passed on, and nothing is left.
    fake = tmp_path / "src/github.com/containers/storage"
    fake.mkdir(parents=True)
    with pytest.raises(Unavailable, match="doesn't compile"):
        build(str(tmp_path / "out"), toolchain())
    assert not (tmp_path / "out").exists()


def test_where_it_is_built_makes_no_difference(built: Path, checkout: Path) -> None:
    argv = [sys.executable, "-m", "podman_cvmfs.storage_native.build"]
    argv += ["--output", str(checkout / "out")]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    subprocess.run(argv, check=True, stdout=subprocess.PIPE, cwd=checkout, env=environment)
    for kind in Kind:
        made = (checkout / "out" / kind.value).read_bytes()
        assert made == (built / kind.value).read_bytes()
        assert os.fsencode(checkout) not in made


@pytest.mark.parametrize(
    ("files", "tag"),
    [
        (["github.com/containers/storage/store.go"], "storage_1_43"),
        (["github.com/containers/storage/check.go"], "storage_1_57"),
        (["github.com/containers/storage/check.go", "go.podman.io/storage/x"], "storage_1_64"),
    ],
)
@pytest.mark.usefixtures("built")
def test_the_generation(
    files: list[str], tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in files:
        path = tmp_path / "src" / name
        path.parent.mkdir(parents=True)
        path.touch()
    path.with_name("VERSION").write_text("1.99.0\n")
    monkeypatch.setenv("GOPATH", f"/does/not/exist:{tmp_path}")
    tools = toolchain()
    assert (tools.tag, tools.gopath, tools.version) == (tag, str(tmp_path), "1.99.0")
