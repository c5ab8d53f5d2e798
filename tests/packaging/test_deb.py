# SPDX-License-Identifier: Apache-2.0
"""The Debian packages: built twice, judged by lintian, installed and removed in clean releases."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from podman_cvmfs import __version__
from tests.packaging.conftest import CHECKOUT, build, need
from tests.packaging.machine import DEPENDS, SUITES, CleanMachine, make_root
from tests.support.cli import succeed
from tests.support.images import IMAGES, write_layout
from tests.support.images import build as build_image

IMAGE = "registry.example.org/t/delete:1"
PRINTS = "changed\n"
STORE = "/var/lib/podman-cvmfs/store"
NAMING = f'[storage.options]\nadditionalimagestores = ["{STORE}"]\n'

#: What a machine without a service manager, and perhaps with low limits, needs to run containers.
CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
netns = "none"
cgroups = "disabled"
log_driver = "k8s-file"
[engine]
runtime = "crun"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


def test_the_changelog_has_this_version() -> None:
    first = (CHECKOUT / "packaging/debian/changelog").read_text().splitlines()[0]
    assert first.startswith(f"podman-cvmfs ({__version__})")


def test_the_settings_file_names_every_setting_with_its_default(tmp_path: Path) -> None:
    text = (CHECKOUT / "packaging/debian/config.toml").read_text()
    file = tmp_path / "config.toml"
    file.write_text(re.sub(r"^#(\[|\w+ = )", r"\1", text, flags=re.MULTILINE))
    assert shown(file) == shown(CHECKOUT / "packaging/debian/config.toml")
    for key in shown(file):
        assert re.search(rf"^#{key.rpartition('.')[2]} = ", text, re.MULTILINE) or key in (
            # Their defaults depend on who runs the command.
            "store",
            "cache",
        )


def shown(file: Path) -> dict[str, object]:
    """The settings with ``file`` as the only source."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PODMAN_CVMFS_CONFIG", str(file))
        from podman_cvmfs.settings import load_settings

        settings = load_settings()
        assert settings.warnings == ()
        return settings.values()


def test_every_build_gives_the_same_bytes(checkout: Path, debs: Path, tmp_path: Path) -> None:
    shutil.copytree(checkout, tmp_path / "elsewhere")
    again = build(tmp_path / "elsewhere", tmp_path / "again")
    made = sorted(path.name for path in debs.iterdir() if path.suffix in (".deb", ".dsc", ".xz"))
    assert len(made) == 5
    for name in made:
        assert (debs / name).read_bytes() == (again / name).read_bytes(), name


def test_lintian_has_nothing_to_say(debs: Path) -> None:
    need("lintian")
    (changes,) = debs.glob("*.changes")
    argv = ["lintian", "--display-info", "--pedantic", "--allow-root", changes]
    done = subprocess.run(argv, capture_output=True, text=True)
    said = [line for line in done.stdout.splitlines() if not line.startswith("N:")]
    assert (done.returncode, said) == (0, []), done.stderr


def test_the_clean_releases_have_what_the_package_depends_on(debs: Path) -> None:
    (package,) = debs.glob("podman-cvmfs_*.deb")
    argv = ["dpkg-deb", "--field", package, "Depends"]
    field = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    assert {re.split("[ :]", each.strip())[0] for each in field.split(",")} == set(DEPENDS)


@pytest.fixture(scope="module", params=SUITES)
def machine(
    request: pytest.FixtureRequest, debs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CleanMachine]:
    """A clean release with the packages in its /packages, and a repository with one image."""
    need("mmdebstrap", "unshare")
    data = tmp_path_factory.mktemp("machine")
    for deb in debs.glob("*.deb"):
        shutil.copy(deb, data)
    (image,) = (image for image in IMAGES if image.name == "t/delete:1")
    write_layout([build_image(image)], data / "layout")
    succeed("publish", data / "layout", "--name", IMAGE, "--repository", data / "repository")
    suite: str = request.param
    machine = CleanMachine(suite, make_root(suite), data)
    try:
        (machine.outside("/etc/containers")).mkdir(exist_ok=True)
        machine.outside("/etc/containers/containers.conf").write_text(CONTAINERS_CONF)
        yield machine
    finally:
        machine.close()


def install(machine: CleanMachine, package: str) -> str:
    """Install one of the packages, as apt does it; all they need is there."""
    apt = "apt-get install --yes --no-install-recommends"
    return machine.sh(f"{apt} {machine.data}/{package}_*.deb")


def configuration(machine: CleanMachine) -> dict[str, bytes | None]:
    """All that configures podman: path -> content, None for directories."""
    found: dict[str, bytes | None] = {}
    for top in ("/etc/containers", "/usr/share/containers", "/etc/profile.d", "/etc/systemd/user*"):
        outside = machine.outside("/")
        for path in outside.glob(top.lstrip("/")):
            for each in (path, *path.rglob("*")):
                found[str(each.relative_to(outside))] = (
                    each.read_bytes() if each.is_file() else None
                )
    return found


def images(machine: CleanMachine) -> list[str]:
    """The names that podman lists."""
    script = "podman images --format '{{.Repository}}:{{.Tag}}' 2>/dev/null"
    return machine.sh(script).split()


def test_installed_used_removed_purged(machine: CleanMachine) -> None:
    before = configuration(machine)
    assert images(machine) == []

    install(machine, "podman-cvmfs")
    assert configuration(machine) == before
    assert machine.sh("podman-cvmfs --version").split()[-1] == __version__
    # The store is valid before anything is configured, and podman works with it.
    machine.outside("/tmp/storage.conf").write_text(
        '[storage]\ndriver = "overlay"\nrunroot = "/run/containers/storage"\n'
        f'graphroot = "/var/lib/containers/storage"\n{NAMING}'
    )
    assert machine.sh("podman images -q", CONTAINERS_STORAGE_CONF="/tmp/storage.conf") == ""
    assert "disabled" in machine.sh("systemctl is-enabled podman-cvmfs-sync.timer || true")
    machine.sh("systemd-analyze verify --man=no podman-cvmfs-sync.timer podman-cvmfs-watch.service")

    machine.sh("podman-cvmfs setup")
    assert configuration(machine) != before
    assert images(machine) == []
    machine.sh(f"podman-cvmfs sync --offline --repository {machine.data}/repository")
    assert images(machine) == [IMAGE]
    assert machine.sh(f"podman run --rm --pull=never {IMAGE}") == PRINTS

    # An upgrade keeps store and cache, and podman goes on all the time.
    machine.sh("touch /var/cache/podman-cvmfs/kept")
    configured = configuration(machine)
    machine.sh(f"dpkg --install {machine.data}/podman-cvmfs_*.deb")
    assert configuration(machine) == configured
    assert images(machine) == [IMAGE]
    machine.sh("test -e /var/cache/podman-cvmfs/kept")

    machine.sh("apt-get remove --yes podman-cvmfs")
    assert configuration(machine) == before
    assert images(machine) == []
    machine.sh(f"test -d {STORE}/overlay-images")

    machine.sh("apt-get purge --yes podman-cvmfs")
    assert configuration(machine) == before
    assert images(machine) == []
    left = machine.sh("find / /var -xdev -name '*podman-cvmfs*' -not -path '*.deb'")
    kept = [line for line in left.split() if not line.startswith(str(machine.data))]
    assert kept == []


def test_purging_keeps_a_store_that_is_still_named(machine: CleanMachine) -> None:
    install(machine, "podman-cvmfs")
    home = machine.outside("/root/.config/containers")
    home.mkdir(parents=True)
    (home / "storage.conf").write_text(NAMING)
    said = machine.sh("apt-get purge --yes podman-cvmfs")
    assert "stays" in said and "/root/.config/containers/storage.conf" in said
    machine.sh(f"test -d {STORE}/overlay-images")
    # Once nobody names it any more, it goes with the next purge.
    shutil.rmtree(home)
    install(machine, "podman-cvmfs")
    machine.sh("apt-get purge --yes podman-cvmfs")
    machine.sh("test ! -e /var/lib/podman-cvmfs")


def test_cvmfs_inside_containers(machine: CleanMachine) -> None:
    before = configuration(machine)
    (machine.data / "root/bin").mkdir(parents=True, exist_ok=True)
    for name in ("dev", "proc", "sys", "run", "tmp", "etc"):
        (machine.data / "root" / name).mkdir(exist_ok=True)
    shutil.copy("/bin/busybox", machine.data / "root/bin/ls")
    listing = f"podman run --rm --rootfs {machine.data}/root /bin/ls /cvmfs"
    if machine.suite == "bookworm":
        # Its podman would refuse to start anything: so apt refuses the package.
        with pytest.raises(AssertionError, match="podman"):
            install(machine, "podman-cvmfs-mount")
        assert configuration(machine) == before
        return
    install(machine, "podman-cvmfs-mount")
    machine.sh("mkdir /cvmfs/repository.example.org")
    assert machine.sh(listing) == "repository.example.org\n"
    machine.sh("rmdir /cvmfs/repository.example.org; apt-get remove --yes podman-cvmfs-mount")
    assert configuration(machine) == before
    machine.sh("mkdir /cvmfs/repository.example.org")
    assert "repository.example.org" not in machine.sh(f"{listing} || true")
    machine.sh("rmdir /cvmfs/repository.example.org; apt-get purge --yes podman-cvmfs-mount")
    machine.sh("test ! -e /cvmfs")


def test_the_library_is_found(machine: CleanMachine) -> None:
    install(machine, "podman-cvmfs")
    install(machine, "podman-cvmfs-native")
    script = "PODMAN_CVMFS_NATIVE=require podman-cvmfs verify"
    machine.sh(script)
    machine.sh("apt-get purge --yes podman-cvmfs-native podman-cvmfs")
