# SPDX-License-Identifier: Apache-2.0
"""The Debian packages' services: the places they write to, and their lines in the journal."""

from __future__ import annotations

import shutil
import subprocess

from tests.packaging.conftest import CHECKOUT
from tests.packaging.installed import IMAGE, PRINTS, images, install
from tests.packaging.machine import CleanMachine


def test_services_find_what_pip_has_installed(machine: CleanMachine) -> None:
    """The files of a wheel's share/podman-cvmfs, and the link that README has made."""
    place = "/etc/systemd/system"
    for unit in (CHECKOUT / "packaging/systemd/system").iterdir():
        shutil.copy(unit, machine.outside(place))
    verify = "systemd-analyze verify --man=no podman-cvmfs-sync.timer podman-cvmfs-watch.service"
    try:
        assert "podman-cvmfs is not executable" in machine.sh(verify, check=False)
        machine.sh(
            "install -D /bin/true /opt/podman-cvmfs/bin/podman-cvmfs;"
            "ln -s /opt/podman-cvmfs/bin/podman-cvmfs /usr/local/bin/"
        )
        assert "podman-cvmfs" not in machine.sh(verify)
    finally:
        machine.sh(f"rm -rf {place}/podman-cvmfs* /opt/podman-cvmfs /usr/local/bin/podman-cvmfs")


def test_a_sync_writes_where_the_service_may(machine: CleanMachine) -> None:
    install(machine, "podman-cvmfs")
    machine.sh("podman-cvmfs setup")
    # What ProtectSystem=strict, StateDirectory= and CacheDirectory= make of a machine.
    machine.outside("/tmp/confined").write_text(
        "set -e\n"
        "for each in lib cache; do mount --bind /var/$each/podman-cvmfs /var/$each/podman-cvmfs\n"
        "done\n"
        "for each in / /var /run; do mount -o remount,bind,ro $each; done\n"
        "! touch /etc/x /var/lib/x /run/x 2>/dev/null\n"
        f"podman-cvmfs sync --offline --repository {machine.data}/repository\n"
    )
    machine.outside("/tmp/nothing.toml").write_text('exclude = ["*"]\n')
    try:
        said = machine.sh("unshare --mount sh /tmp/confined")
        assert images(machine) == [IMAGE]
        # An image leaves, and containers are looked for.
        machine.sh(f"podman create --name=stays {IMAGE}")
        said += machine.sh(
            "echo podman-cvmfs prune --grace 0 >> /tmp/confined; unshare --mount sh /tmp/confined",
            PODMAN_CVMFS_CONFIG="/tmp/nothing.toml",
        )
        assert IMAGE not in images(machine)
        assert "read-only" not in said.lower() and "can't" not in said
        assert machine.sh("podman start --attach stays") == PRINTS
    finally:
        machine.sh("podman rm stays; apt-get purge --yes podman-cvmfs")


def test_the_journal_knows_errors_from_news(machine: CleanMachine) -> None:
    install(machine, "podman-cvmfs")
    conf = machine.outside("/etc/systemd/journald.conf.d/test.conf")
    conf.parent.mkdir(exist_ok=True)
    # Nothing of the kernel's, whose auditing it would otherwise switch on.
    conf.write_text("[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=\n")
    machine.sh("mkdir -p /run/systemd/journal; systemd-machine-id-setup")
    journald = subprocess.Popen(
        machine.command(["/usr/lib/systemd/systemd-journald"]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        machine.sh("until journalctl --sync 2>/dev/null; do sleep 0.05; done")
        # What a service manager says; Debian 12's systemd-cat doesn't.
        stream = "JOURNAL_STREAM=$(stat --dereference --format=%d:%i /dev/stderr)"
        sync = f"env {stream} podman-cvmfs sync --offline --repository"
        machine.outside("/tmp/syncs").write_text(
            f"{sync} {machine.data}/repository\n{sync} /cvmfs/none || true\n"
        )
        machine.sh("systemd-cat --identifier=podman-cvmfs sh /tmp/syncs")
        read = "journalctl --quiet --output=cat --identifier=podman-cvmfs"
        # The hint comes last; journald takes its time.
        machine.sh(f"until {read} | grep -q hint:; do sleep 0.05; done")
        errors = machine.sh(f"{read} --priority=err")
        assert errors.startswith("podman-cvmfs: error: ") and "/cvmfs/none" in errors
        news = machine.sh(read)
        assert "1 name added" in news and "1 name added" not in errors
        assert errors in news and "<6>" not in news
    finally:
        journald.terminate()
        journald.wait()
        machine.sh("apt-get purge --yes podman-cvmfs")
