# SPDX-License-Identifier: Apache-2.0
"""/cvmfs in containers, by the Debian package and by set-up."""

from __future__ import annotations

from tests.packaging.installed import as_user, configuration, in_container, install
from tests.packaging.machine import CleanMachine


def test_cvmfs_inside_containers(machine: CleanMachine) -> None:
    before = configuration(machine)
    install(machine, "podman-cvmfs-mount")
    machine.sh("mkdir /cvmfs/repository.example.org")
    assert in_container(machine, "ls /cvmfs") == "repository.example.org\n"
    machine.sh("apt-get remove --yes podman-cvmfs-mount")
    assert configuration(machine) == before
    assert in_container(machine, "ls /cvmfs") == ""
    # Installed again, it works again; another podman gets what it can read; purged, all is gone.
    install(machine, "podman-cvmfs-mount")
    drop_in = "/etc/containers/containers.conf.d/50-podman-cvmfs-mount.conf"
    linked = machine.sh(f"readlink {drop_in}; ln -sf /dev/null {drop_in}")
    machine.sh("dpkg-trigger --by-package=podman /usr/bin/podman; dpkg --configure --pending")
    assert machine.sh(f"readlink {drop_in}") == linked
    assert in_container(machine, "ls /cvmfs") == "repository.example.org\n"
    machine.sh("rmdir /cvmfs/repository.example.org; apt-get purge --yes podman-cvmfs-mount")
    assert configuration(machine) == before
    machine.sh("test ! -e /cvmfs")


def test_set_up_to_show_cvmfs(machine: CleanMachine) -> None:
    before = configuration(machine)
    install(machine, "podman-cvmfs")
    machine.sh("mkdir -p /cvmfs/a.example.org /cvmfs/b.example.org")
    made = "bin cvmfs dev etc proc run sys tmp"
    for option, seen in (
        ("--mount-cvmfs", "a.example.org\nb.example.org\n"),
        ("--mount-cvmfs=b.example.org", "b.example.org\n"),
    ):
        machine.sh(f"podman-cvmfs setup {option}")
        assert in_container(machine, "ls /cvmfs") == seen
        copied = f"cd; mkdir -p root; cd root; mkdir -p {made}; cp {machine.data}/root/bin/* bin"
        listing = as_user(
            machine, f"{copied}; podman run --rm --rootfs ~/root /bin/busybox ls /cvmfs"
        )
        assert listing.startswith(seen)
    machine.sh("podman-cvmfs setup --undo; rm -r /cvmfs /var/u; apt-get purge --yes podman-cvmfs")
    assert configuration(machine) == before


def test_cvmfs_next_to_other_volumes(machine: CleanMachine) -> None:
    other = machine.outside("/etc/containers/containers.conf.d/10-other.conf")
    other.parent.mkdir(exist_ok=True)
    other.write_text('[containers]\nvolumes = ["/srv:/other:ro"]\n')
    try:
        said = install(machine, "podman-cvmfs-mount")
        mounts = in_container(machine, "cat /proc/mounts")
        seen = {line.split()[1] for line in mounts.splitlines()}
        assert "/other" in seen
        # A podman that doesn't add to volumes is left with those it had.
        appends = machine.suite != "bookworm"
        assert ("/cvmfs" in seen) is appends
        assert ("setup --mount-cvmfs" in said) is not appends
    finally:
        machine.sh("apt-get purge --yes podman-cvmfs-mount")
        other.unlink()
        other.parent.rmdir()
