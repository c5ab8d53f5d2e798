# SPDX-License-Identifier: Apache-2.0
"""Wheel and sdist: built twice with the same bytes, and installed by pip where nothing else is."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from manual.pages import pages
from podman_cvmfs import __version__
from tests.packaging.conftest import CHECKOUT, copy_of_checkout

WHEEL = f"podman_cvmfs-{__version__}-py3-none-any.whl"
SDIST = f"podman_cvmfs-{__version__}.tar.gz"
#: Any date that is not the default.
DATE = "1750000000"


def build(source: Path, output: Path, *targets: str, **variables: str) -> Path:
    """Build without the library, whose building is another test's."""
    argv = [sys.executable, "-m", "hatchling", "build", "--directory", str(output)]
    env = {**os.environ, "PODMAN_CVMFS_NATIVE": "off", "SOURCE_DATE_EPOCH": DATE, **variables}
    for target in targets:
        argv += ["--target", target]
    done = subprocess.run(argv, cwd=source, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return output


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the wheel and the sdist of this checkout."""
    directory = tmp_path_factory.mktemp("dist")
    return build(copy_of_checkout(directory / "source"), directory / "dist", "wheel", "sdist")


def test_every_build_gives_the_same_bytes(built: Path, tmp_path: Path) -> None:
    source = copy_of_checkout(tmp_path / "elsewhere")
    for path in source.rglob("*"):
        os.utime(path, (1, 1))
    again = build(source, tmp_path / "dist", "wheel", "sdist")
    assert sorted(path.name for path in again.iterdir()) == [WHEEL, SDIST]
    for name in (WHEEL, SDIST):
        assert (built / name).read_bytes() == (again / name).read_bytes(), name


def test_the_sdist_has_all_that_the_wheel_is_made_of(built: Path, tmp_path: Path) -> None:
    subprocess.run(["tar", "-xf", built / SDIST, "-C", tmp_path], check=True)
    source = tmp_path / SDIST[: -len(".tar.gz")]
    again = build(source, tmp_path / "dist", "wheel")
    assert (built / WHEEL).read_bytes() == (again / WHEEL).read_bytes()


def test_a_distribution_s_package_puts_the_rest_into_its_own_places(tmp_path: Path) -> None:
    source = copy_of_checkout(tmp_path / "source")
    made = build(source, tmp_path / "dist", "wheel", PODMAN_CVMFS_SHARE="off")
    names = zipfile.ZipFile(made / WHEEL).namelist()
    assert "podman_cvmfs/cli/main.py" in names
    assert [name for name in names if "/share/" in name] == []


def test_installed_by_pip(built: Path, tmp_path: Path) -> None:
    """With the dependencies of this environment, as pip's own would be fetched each time."""
    environment = tmp_path / "clean"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    argv = [sys.executable, "-m", "pip", "--python", str(environment / "bin/python"), "install"]
    argv += ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-index"]
    subprocess.run([*argv, built / WHEEL], check=True)
    (packages / "dependencies.pth").write_text(
        "\n".join(path for path in sys.path if path.endswith("site-packages"))
    )

    def run(*words: str | Path) -> str:
        env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}
        done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    command = environment / "bin/podman-cvmfs"
    assert run(command, "--version").split()[-1] == __version__
    where = "import podman_cvmfs; print(podman_cvmfs.__file__)"
    assert run(environment / "bin/python", "-c", where).startswith(str(packages))
    run(command, "config")

    share = environment / "share"
    for page in pages():
        assert (share / f"man/man{page.section}/{page.name}.{page.section}").is_file()
    found = run("man", "--manpath", share / "man", "--where", "podman-cvmfs-sync")
    assert found == f"{share}/man/man1/podman-cvmfs-sync.1\n"
    for name, source in {
        "bash-completion/completions/podman-cvmfs": "packaging/completions/podman-cvmfs",
        "zsh/site-functions/_podman-cvmfs": "packaging/completions/_podman-cvmfs",
        "fish/vendor_completions.d/podman-cvmfs.fish": "packaging/completions/podman-cvmfs.fish",
        "podman-cvmfs/config.toml": "packaging/debian/config.toml",
    }.items():
        assert (share / name).read_bytes() == (CHECKOUT / source).read_bytes()
    for name in ("containers.conf.d", "selinux", "systemd", "tmpfiles.d"):
        assert files(share / "podman-cvmfs" / name) == files(CHECKOUT / "packaging" / name)
    drop_ins = share / "podman-cvmfs/storage.rootful.conf.d"
    assert files(drop_ins) == files(CHECKOUT / "storage.conf.d") != {}


def files(top: Path) -> dict[str, bytes]:
    """The files below ``top`` and their contents."""
    return {str(p.relative_to(top)): p.read_bytes() for p in top.rglob("*") if p.is_file()}
