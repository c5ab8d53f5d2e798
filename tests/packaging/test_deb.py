# SPDX-License-Identifier: Apache-2.0
"""The Debian packages: built twice, judged by lintian, installed and removed in clean releases."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from podman_cvmfs import __version__
from tests.packaging.conftest import CHECKOUT, build, need, root_of
from tests.packaging.machine import DEPENDS, SUITES, CleanMachine
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


@pytest.fixture(scope="module", params=SUITES)
def machine(
    request: pytest.FixtureRequest, debs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CleanMachine]:
    """A clean release with the packages in its /packages, and a repository with one image."""
    suite: str = request.param
    root = root_of(suite)
    data = tmp_path_factory.mktemp("machine")
    for deb in debs.glob("*.deb"):
        shutil.copy(deb, data)
    (image,) = (image for image in IMAGES if image.name == "t/delete:1")
    write_layout([build_image(image)], data / "layout")
    succeed("publish", data / "layout", "--name", IMAGE, "--repository", data / "repository")
    older(data)
    machine = CleanMachine(suite, root, data)
    try:
        (machine.outside("/etc/containers")).mkdir(exist_ok=True)
        machine.outside("/etc/containers/containers.conf").write_text(CONTAINERS_CONF)
        yield machine
    finally:
        machine.close()


def older(packages: Path) -> None:
    """Make the package of an earlier version, in ``earlier`` beside the others."""
    (package,) = packages.glob("podman-cvmfs_*.deb")
    tree = packages / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True)
    control = tree / "DEBIAN/control"
    text = control.read_text()
    assert f"\nVersion: {__version__}\n" in text
    control.write_text(text.replace(f"\nVersion: {__version__}\n", "\nVersion: 0.0.1\n"))
    (packages / "earlier").mkdir()
    argv = ["dpkg-deb", "--root-owner-group", "--build", str(tree), str(packages / "earlier")]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def install(machine: CleanMachine, package: str) -> str:
    """Install one of the packages, as apt does it; all they need is there."""
    apt = "apt-get install --yes --no-install-recommends"
    return machine.sh(f"{apt} {machine.data}/{package}_*.deb")


def version(machine: CleanMachine) -> str:
    """The version of the package that is installed."""
    return machine.sh("dpkg-query --show --showformat '${Version}' podman-cvmfs")


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


def contents(machine: CleanMachine, top: str) -> str:
    """All below a directory, with what an exchange or a rewrite would change."""
    return machine.sh(f"find {top} -printf '%P %i %s %T@ %l\\n' | sort")


def images(machine: CleanMachine) -> list[str]:
    """The names that podman lists."""
    script = "podman images --format '{{.Repository}}:{{.Tag}}' 2>/dev/null"
    return machine.sh(script).split()


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


def as_user(machine: CleanMachine, script: str) -> str:
    """Run a shell script as an ordinary user after a login; its output. The user has no subordinate
    IDs, for what maps them is not among what podman depends on."""
    machine.sh(
        "grep -q ^u: /etc/passwd || echo u:x:4242:4242::/var/u:/bin/sh >> /etc/passwd;"
        "grep -q ^u: /etc/group || echo u:x:4242: >> /etc/group;"
        f"install -d -o 4242 -g 4242 -m 0700 /var/u /run/user-u; chmod 0755 {machine.data}"
    )
    login = "env -i XDG_RUNTIME_DIR=/run/user-u HOME=/var/u PATH=$PATH LC_ALL=C.UTF-8 setpriv"
    login += " --reuid=4242 --regid=4242 --clear-groups sh -l -ec"
    return machine.sh(f"{login} {shlex.quote(script)}")


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
        assert "1 names added" in news and "1 names added" not in errors
        assert errors in news and "<6>" not in news
    finally:
        journald.terminate()
        journald.wait()
        machine.sh("apt-get purge --yes podman-cvmfs")


def in_container(machine: CleanMachine, command: str) -> str:
    """What a program of busybox prints in a container that has nothing else."""
    root = machine.data / "root"
    if not root.exists():
        for name in ("bin", "dev", "proc", "sys", "run", "tmp", "etc"):
            (root / name).mkdir(parents=True)
        shutil.copy("/bin/busybox", root / "bin/busybox")
    return machine.sh(f"podman run --rm --rootfs {root} /bin/busybox {command}")


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


def test_the_library_is_found(machine: CleanMachine) -> None:
    install(machine, "podman-cvmfs")
    install(machine, "podman-cvmfs-native")
    script = "PODMAN_CVMFS_NATIVE=require podman-cvmfs verify"
    machine.sh(script)
    machine.sh("apt-get purge --yes podman-cvmfs-native podman-cvmfs")
