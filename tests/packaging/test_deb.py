# SPDX-License-Identifier: Apache-2.0
"""The Debian packages: built twice, and judged by lintian."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from podman_cvmfs import __version__
from tests.packaging.conftest import CHECKOUT, build, need
from tests.packaging.machine import DEPENDS


def test_the_changelog_has_this_version() -> None:
    first = (CHECKOUT / "packaging/debian/changelog").read_text().splitlines()[0]
    assert first.startswith(f"podman-cvmfs ({__version__})")


def test_the_settings_file_names_every_setting_with_its_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The file tells root's.
    monkeypatch.setattr("os.geteuid", lambda: 0)
    text = (CHECKOUT / "packaging/debian/config.toml").read_text()
    file = tmp_path / "config.toml"
    file.write_text(re.sub(r"^#(\[|\w+ = )", r"\1", text, flags=re.MULTILINE))
    assert shown(file) == shown(CHECKOUT / "packaging/debian/config.toml")
    for key in shown(file):
        assert re.search(rf"^#{key.rpartition('.')[2]} = ", text, re.MULTILINE)


def shown(file: Path) -> dict[str, object]:
    """The settings with ``file`` as the only source."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PODMAN_CVMFS_CONFIG", str(file))
        from podman_cvmfs.settings.files import load_settings

        settings = load_settings()
        assert settings.warnings == ()
        return settings.values()


def test_every_build_gives_the_same_bytes(
    checkout: Path, debs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not what the first build has compiled.
    monkeypatch.setenv("GOCACHE", str(tmp_path / "gocache"))
    shutil.copytree(checkout, tmp_path / "elsewhere")
    again = build("build-deb.sh", tmp_path / "elsewhere", tmp_path / "again")
    made = sorted(path.name for path in debs.iterdir() if path.suffix in (".deb", ".dsc", ".xz"))
    assert len(made) == 5
    for name in made:
        assert (debs / name).read_bytes() == (again / name).read_bytes(), name


def test_lintian_has_nothing_to_say(debs: Path) -> None:
    need("lintian")
    (changes,) = debs.glob("*.changes")
    argv = ["lintian", "--display-info", "--pedantic", "--allow-root"]
    # What a later lintian says of every package that Debian 12 can build.
    argv += ["--suppress-tags", "out-of-date-standards-version"]
    done = subprocess.run([*argv, changes], capture_output=True, text=True)
    said = [line for line in done.stdout.splitlines() if not line.startswith("N:")]
    assert (done.returncode, said) == (0, []), done.stderr


def test_the_clean_releases_have_what_the_package_depends_on(debs: Path) -> None:
    (package,) = debs.glob("podman-cvmfs_*.deb")
    argv = ["dpkg-deb", "--field", str(package), "Depends"]
    field = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    assert {re.split("[ :]", each.strip())[0] for each in field.split(",")} == set(DEPENDS)
