# SPDX-License-Identifier: Apache-2.0
"""The Debian packages: installed, used, upgraded, removed, and purged."""

from __future__ import annotations

import shutil

from podman_cvmfs import __version__
from tests.packaging.installed import (
    IMAGE,
    NAMING,
    PRINTS,
    STORE,
    as_user,
    configuration,
    contents,
    images,
    install,
    version,
)
from tests.packaging.machine import CleanMachine


def test_installed_used_upgraded_removed_purged(machine: CleanMachine) -> None:
    before = configuration(machine)
    assert images(machine) == []

    install(machine, "earlier/podman-cvmfs")
    assert version(machine) == "0.0.1"
    assert configuration(machine) == before
    assert machine.sh("podman-cvmfs --version").split()[-1] == __version__
    # The store is valid before anything is configured, and podman works with it.
    machine.outside("/tmp/storage.conf").write_text(
        '[storage]\ndriver = "overlay"\nrunroot = "/run/containers/storage"\n'
        f'graphroot = "/var/lib/containers/storage"\n{NAMING}'
    )
    assert machine.sh("podman images -q", CONTAINERS_STORAGE_CONF="/tmp/storage.conf") == ""
    for unit in ("podman-cvmfs-sync.timer", "podman-cvmfs-watch.service"):
        assert machine.sh(f"systemctl is-enabled {unit} || true") == "disabled\n"
    machine.sh("systemd-analyze verify --man=no podman-cvmfs-sync.timer podman-cvmfs-watch.service")
    machine.sh("systemd-tmpfiles --create podman-cvmfs.conf")

    machine.sh("podman-cvmfs setup")
    assert configuration(machine) != before
    assert images(machine) == []
    machine.sh(f"podman-cvmfs sync --offline --repository {machine.data}/repository")
    assert images(machine) == [IMAGE]
    assert machine.sh(f"podman run --rm --pull=never {IMAGE}") == PRINTS

    # An upgrade keeps the store, the cache, what was set up, settings, and what is switched on.
    machine.sh(
        "touch /var/cache/podman-cvmfs/kept; echo 'offline = true' >> /etc/podman-cvmfs/config.toml"
        "; systemctl enable podman-cvmfs-sync.timer"
    )
    configured = configuration(machine)
    store = contents(machine, STORE)
    install(machine, "podman-cvmfs")
    assert version(machine) == __version__
    assert configuration(machine) == configured
    assert contents(machine, STORE) == store
    assert images(machine) == [IMAGE]
    assert machine.sh(f"podman run --rm --pull=never {IMAGE}") == PRINTS
    machine.sh("test -e /var/cache/podman-cvmfs/kept")
    assert "offline = true" in machine.outside("/etc/podman-cvmfs/config.toml").read_text()
    assert machine.sh("systemctl is-enabled podman-cvmfs-sync.timer") == "enabled\n"

    machine.sh("apt-get remove --yes podman-cvmfs")
    assert configuration(machine) == before
    assert images(machine) == []
    machine.sh(f"test -d {STORE}/overlay-images; test -e /etc/podman-cvmfs/config.toml")

    machine.sh("apt-get purge --yes podman-cvmfs")
    assert configuration(machine) == before
    assert images(machine) == []
    left = machine.sh("find / /var -xdev -name '*podman-cvmfs*' -not -path '*.deb'")
    kept = [line for line in left.split() if not line.startswith(str(machine.data))]
    assert kept == []


def test_from_nothing_to_a_running_image_and_back(machine: CleanMachine) -> None:
    """Root, and an ordinary user with a store of their own, as podman-cvmfs(1) has it."""
    before = configuration(machine)
    install(machine, "podman-cvmfs")
    sync = f"podman-cvmfs sync --offline --repository {machine.data}/repository"
    run = f"podman run --rm --pull=never {IMAGE}"
    machine.sh(f"podman-cvmfs setup; {sync}")
    assert machine.sh(run) == PRINTS
    as_user(machine, f"podman-cvmfs setup --user; {sync}")
    # podman has something to say of a user without a service manager.
    assert as_user(machine, run).startswith(PRINTS)
    as_user(machine, "podman-cvmfs setup --undo")
    assert as_user(machine, "find ~ -path '*/.config/containers/*.conf'") == ""
    machine.sh("podman-cvmfs setup --undo; apt-get purge --yes podman-cvmfs; rm -r /var/u")
    assert configuration(machine) == before


def test_purging_keeps_a_store_that_is_still_named(machine: CleanMachine) -> None:
    install(machine, "podman-cvmfs")
    home = machine.outside("/root/.config/containers")
    home.mkdir(parents=True)
    (home / "storage.conf").write_text(NAMING)
    said = machine.sh("apt-get purge --yes podman-cvmfs")
    assert "stays" in said and "/root/.config/containers/storage.conf" in said
    machine.sh(f"test -d {STORE}/overlay-images")
    shutil.rmtree(home)
    # A session that has it from its login.
    install(machine, "podman-cvmfs")
    machine.sh(
        f"STORAGE_OPTS=overlay.imagestore={STORE} sleep 60 > /dev/null 2>&1 &"
        "apt-get purge --yes podman-cvmfs; kill $!"
    )
    machine.sh(f"test -d {STORE}/overlay-images")
    # Once nobody names it any more, it goes with the next purge.
    install(machine, "podman-cvmfs")
    machine.sh("apt-get purge --yes podman-cvmfs")
    machine.sh("test ! -e /var/lib/podman-cvmfs")


def test_purging_where_the_directories_are_mounts(machine: CleanMachine) -> None:
    install(machine, "podman-cvmfs")
    places = "/var/lib/podman-cvmfs /var/cache/podman-cvmfs"
    machine.sh(
        f"for place in {places}; do mkdir /tmp/kept; cp -a $place/. /tmp/kept;"
        "mount -t tmpfs tmpfs $place; cp -a /tmp/kept/. $place; touch $place/.hidden;"
        "rm -r /tmp/kept; done"
    )
    try:
        said = machine.sh("apt-get purge --yes podman-cvmfs")
        assert all(f"{place} is left" in said for place in places.split())
        assert machine.sh(f"find {places} -mindepth 1") == ""
        assert machine.sh("dpkg-query --show podman-cvmfs || true").startswith("dpkg-query: no")
    finally:
        machine.sh(f"umount {places}; rm -r {places}")


def test_the_library_is_found(machine: CleanMachine) -> None:
    install(machine, "podman-cvmfs")
    install(machine, "podman-cvmfs-native")
    script = "PODMAN_CVMFS_NATIVE=require podman-cvmfs verify"
    machine.sh(script)
    machine.sh("apt-get purge --yes podman-cvmfs-native podman-cvmfs")
