# SPDX-License-Identifier: Apache-2.0
"""podman in a machine, as root or as an ordinary user, on kernel overlay or fuse-overlayfs."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.matrix import listing
from tests.matrix.host import Machine, User
from tests.support.podman import Podman, ulimits, write_toml


class Guest(Podman):
    """podman with all its state below ``root``, a directory in the machine's data directory.

    ``fuse`` makes it mount with fuse-overlayfs, with the options ``mountopt``.
    """

    def __init__(
        self,
        machine: Machine,
        root: Path,
        *,
        stores: Sequence[Path] = (),
        user: User | None = None,
        fuse: bool = False,
        mountopt: str = "",
        insecure: Sequence[str] = (),
    ) -> None:
        self.machine = self.namespace = machine
        self.root, self.user, self.fuse, self.mountopt = root, user, fuse, mountopt
        self.binary = "podman"
        self.stores = list(stores)
        self.graphroot = root / "g"
        self.insecure = list(insecure)
        self.aliases = {}
        self._write_configuration()
        if user is not None and self.version.startswith("4."):
            # It keeps to the one, and its commit fails without the other.
            conf = root / "etc/storage.conf"
            text = f'[storage]\ngraphroot = "{self.graphroot}"'
            conf.write_text(conf.read_text().replace("[storage]", text, 1))
        if user is not None:
            machine.run(["chown", "-R", f"{user.uid}:{user.uid}", root])

    def _write_configuration(self) -> None:
        root = self.root
        for name in ("g", "tmp", "home/.config/containers", "etc"):
            (root / name).mkdir(parents=True, exist_ok=True)
        run = "/run" if self.user is None else f"/run/user/{self.user.uid}"
        overlay: dict[str, Any] = {}
        if self.fuse:
            overlay["mount_program"] = "/usr/bin/fuse-overlayfs"
        if self.mountopt:
            overlay["mountopt"] = self.mountopt
        # Rootless podman 4 and 5 take no notice of graphroot, 5.8 warns if both are there.
        place = "graphroot" if self.user is None else "rootless_storage_path"
        storage = {"driver": "overlay", place: str(self.graphroot), "runroot": f"{run}/storage"}
        write_toml(
            root / "etc/storage.conf",
            {
                "storage": storage,
                "storage.options": {"additionalimagestores": list(map(str, self.stores))},
                "storage.options.overlay": overlay,
            },
        )
        write_toml(
            root / "etc/containers.conf",
            {
                "containers": {
                    "default_ulimits": ulimits(),
                    "netns": "none",
                    "cgroups": "disabled",
                    "log_driver": "k8s-file",
                },
                "engine": {
                    "runtime": "crun",
                    "cgroup_manager": "cgroupfs",
                    "events_logger": "file",
                    "tmp_dir": f"{run}/libpod",
                    "image_copy_tmp_dir": str(root / "tmp"),
                },
            },
        )
        registries = ["unqualified-search-registries = []\n"]
        registries += [
            f'[[registry]]\nlocation = "{name}"\ninsecure = true\n' for name in self.insecure
        ]
        (root / "etc/registries.conf").write_text("".join(registries))
        policy = root / "home/.config/containers/policy.json"
        policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')

    @property
    def env(self) -> dict[str, str]:
        """The whole environment of the commands."""
        root = self.root
        home = str(root / "home")
        variables = {
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": home,
            "TMPDIR": str(root / "tmp"),
            "XDG_CONFIG_HOME": f"{home}/.config",
            "XDG_DATA_HOME": f"{home}/.local/share",
            "XDG_CACHE_HOME": f"{home}/.cache",
            "CONTAINERS_STORAGE_CONF": str(root / "etc/storage.conf"),
            "CONTAINERS_CONF": str(root / "etc/containers.conf"),
            "CONTAINERS_REGISTRIES_CONF": str(root / "etc/registries.conf"),
            "LANG": "C.UTF-8",
        }
        if self.user is not None:
            variables["XDG_RUNTIME_DIR"] = f"/run/user/{self.user.uid}"
            variables["USER"] = self.user.name
        return variables

    def tool(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run another command (buildah, skopeo) in the same surroundings."""
        return self.machine.run_as(self.user, argv, env=self.env, check=check)

    def unshared(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command that sees the files as containers' root does: rootless, in podman's user
        namespace."""
        return self.tool(*([] if self.user is None else ["podman", "unshare"]), *argv, check=check)

    @functools.cached_property
    def version(self) -> str:
        """podman's version."""
        return self.run("--version").stdout.split()[-1]

    def listings(self, images: Sequence[str]) -> dict[str, listing.Listed]:
        """What a new container of each image sees, or why there is none."""
        library = self.machine.data / "lib"
        _install_lister(library)
        out = self.root / "tmp/listing"
        python = ["env", f"PYTHONPATH={library}", "python3", "-m", "tests.matrix.listing"]
        self.unshared(*python, str(out), *images)
        found = listing.read(out)
        self.unshared("rm", str(out))
        return found

    def stored_bytes(self) -> int:
        """How much podman keeps in its own graphroot, without what is mounted there, in bytes."""
        done = self.unshared("du", "-sbx", str(self.graphroot))
        return int(done.stdout.split()[0])

    def close(self) -> None:
        """Remove all containers and end what rootless podman keeps running."""
        self.run("rm", "--all", "--force", "--time=0", check=False)
        if self.user is not None:
            self.run("system", "migrate", check=False)


@contextmanager
def guest(machine: Machine, root: Path, **options: Any) -> Iterator[Guest]:
    """A Guest (same arguments) that is cleaned up at the end, its images too."""
    podman = Guest(machine, root, **options)
    try:
        yield podman
    finally:
        podman.close()
        # The user's own layers belong to subordinate IDs; to root they are files like others.
        shutil.rmtree(root, ignore_errors=True)


def _install_lister(library: Path) -> None:
    """Copy the lister to where every user and every machine can read it."""
    if library.exists():
        return
    source = Path(__file__).resolve().parents[2]
    for name in ("tests/__init__.py", "tests/support/__init__.py", "tests/support/lister.py",
                 "tests/matrix/__init__.py", "tests/matrix/listing.py"):  # fmt: skip
        (library / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / name, library / name)
        os.chmod(library / name, 0o644)
