# SPDX-License-Identifier: Apache-2.0
"""A real podman that shares nothing with the host's, on machines that restrict it or don't.

What restricts podman on small virtual machines and inside CI: no right to raise resource
limits, cgroups of version 1 or of both versions, no network tools. Resource limits are taken as
they are and containers get no network, which suits every machine; for the rest ``host`` tries
what is there and remembers what worked.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.namespace import CommandError, Namespace, NamespaceError

BUSYBOX = Path("/bin/busybox")

_CGROUP2_MAGIC = "cgroup2fs"

#: State of running containers, in directories that each namespace has for itself. They have to be
#: short: with long ones podman 4.3 waits 20 seconds for each container that has ended.
_RUN_ROOT = "/run/containers/storage"
_RUN_STATE = "/run/libpod"


class PodmanUnavailableError(RuntimeError):
    """podman can't run a container here; the text says what was tried and what it said."""


@dataclass(frozen=True)
class Host:
    """How containers are started on this machine."""

    runtime: str
    cgroups: str
    cgroup2: bool


def _candidates() -> Iterator[Host]:
    """What to try, the likeliest first. runc can't do without cgroups, crun can."""
    kind = subprocess.run(
        ["stat", "-f", "-c", "%T", "/sys/fs/cgroup"], stdout=subprocess.PIPE, encoding="utf-8"
    ).stdout.strip()
    mixed = kind != _CGROUP2_MAGIC
    if shutil.which("crun"):
        yield Host("crun", "disabled", cgroup2=mixed)
    if shutil.which("runc"):
        yield Host("runc", "enabled", cgroup2=False)
        if mixed:
            yield Host("runc", "enabled", cgroup2=True)


@functools.cache
def host(binary: str = "podman") -> Host:
    """Return the first way in which a container really starts; raises PodmanUnavailableError.

    The trial container has a bare directory as its root file system, so neither an image nor
    the code under test has a part in it.
    """
    for tool in (binary, "nsenter", "unshare"):
        if not shutil.which(tool):
            raise PodmanUnavailableError(f"{tool} is not installed")
    if os.geteuid() != 0:
        raise PodmanUnavailableError("the integration tests need root")
    if not BUSYBOX.exists():
        raise PodmanUnavailableError(f"{BUSYBOX} is missing: install busybox-static")
    failures = []
    for candidate in _candidates():
        with tempfile.TemporaryDirectory(prefix="podman-trial-") as scratch:
            rootfs = Path(scratch, "rootfs")
            for name in ("bin", "dev", "proc", "sys", "tmp", "etc", "run"):
                (rootfs / name).mkdir(parents=True)
            shutil.copy(BUSYBOX, rootfs / "bin/busybox")
            try:
                with running(Path(scratch), stores=[], on=candidate, binary=binary) as podman:
                    podman.run("run", "--rm", "--rootfs", str(rootfs), "/bin/busybox", "true")
                    return candidate
            except (CommandError, NamespaceError) as err:
                failures.append(f"{candidate}: {err}")
    raise PodmanUnavailableError("\n".join(failures) or "neither crun nor runc is installed")


def ulimits() -> list[str]:
    """Limits within what this process may set; podman's own default is above that."""
    limits = []
    for name, kind, most in (
        ("nofile", resource.RLIMIT_NOFILE, 65536),
        ("nproc", resource.RLIMIT_NPROC, 4096),
    ):
        hard = resource.getrlimit(kind)[1]
        value = most if hard == resource.RLIM_INFINITY else min(hard, most)
        limits.append(f"{name}={value}:{value}")
    return limits


class Podman:
    """podman with storage, configuration and caches below ``root``, in a mount namespace.

    ``stores`` are additional image stores, ``insecure`` registries (host:port) spoken to over
    HTTP, which are also searched for unqualified names; ``aliases`` map short names to full ones.
    """

    def __init__(
        self,
        root: Path,
        *,
        stores: Sequence[Path],
        insecure: Sequence[str] = (),
        aliases: Mapping[str, str] | None = None,
        binary: str = "podman",
        on: Host | None = None,
    ) -> None:
        on = on or host(binary)
        self.binary = binary
        self.stores = list(stores)
        self.root = root
        self.graphroot = root / "graph"
        self.insecure = list(insecure)
        self.aliases = dict(aliases or {})
        self._on = on
        self._write_configuration()
        self.namespace = Namespace(cgroup2=on.cgroup2)

    def _write_configuration(self) -> None:
        root = self.root
        for name in ("graph", "tmp", "home/.config/containers", "xdg", "etc", "net"):
            (root / name).mkdir(parents=True, exist_ok=True)
        os.chmod(root / "xdg", 0o700)
        etc = root / "etc"
        write_toml(
            etc / "storage.conf",
            {
                "storage": {
                    "driver": "overlay",
                    "graphroot": str(self.graphroot),
                    "runroot": _RUN_ROOT,
                },
                "storage.options": {"additionalimagestores": list(map(str, self.stores))},
            },
        )
        write_toml(
            etc / "containers.conf",
            {
                "containers": {
                    "default_ulimits": ulimits(),
                    "netns": "none",
                    "cgroups": self._on.cgroups,
                    "log_driver": "k8s-file",
                },
                "engine": {
                    "runtime": self._on.runtime,
                    "cgroup_manager": "cgroupfs",
                    "events_logger": "file",
                    "tmp_dir": _RUN_STATE,
                    "image_copy_tmp_dir": str(root / "tmp"),
                },
                "network": {"network_config_dir": str(root / "net")},
            },
        )
        registries = [f"unqualified-search-registries = {json.dumps(self.insecure)}\n"]
        registries += [
            f'[[registry]]\nlocation = "{name}"\ninsecure = true\n' for name in self.insecure
        ]
        registries += ["[aliases]\n"]
        registries += [f'"{short}" = "{full}"\n' for short, full in self.aliases.items()]
        (etc / "registries.conf").write_text("".join(registries))
        # The one place that podman, buildah and skopeo all look at before /etc/containers.
        policy = root / "home/.config/containers/policy.json"
        policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')

    @property
    def env(self) -> dict[str, str]:
        """The whole environment of the commands: nothing of the caller's but PATH."""
        root = self.root
        return {
            "PATH": os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin",
            "HOME": str(root / "home"),
            "TMPDIR": str(root / "tmp"),
            "XDG_RUNTIME_DIR": str(root / "xdg"),
            "XDG_CONFIG_HOME": str(root / "home/.config"),
            "XDG_DATA_HOME": str(root / "home/.local/share"),
            "XDG_CACHE_HOME": str(root / "home/.cache"),
            "CONTAINERS_STORAGE_CONF": str(root / "etc/storage.conf"),
            "CONTAINERS_CONF": str(root / "etc/containers.conf"),
            "CONTAINERS_REGISTRIES_CONF": str(root / "etc/registries.conf"),
            "LANG": "C.UTF-8",
        }

    def run(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``podman ARGS``; a failure raises CommandError unless ``check`` is false."""
        return self.tool(self.binary, *args, check=check)

    def tool(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run another command (buildah, skopeo) in the same surroundings."""
        return self.namespace.run(argv, env=self.env, check=check)

    def json(self, *args: str) -> Any:
        """Run ``podman ARGS`` and decode the JSON it prints."""
        return json.loads(self.run(*args).stdout)

    def inspect(self, image: str) -> dict[str, Any]:
        """What ``podman image inspect`` says of one image."""
        (found,) = self.json("image", "inspect", image)
        assert isinstance(found, dict)
        return found

    @contextmanager
    def root_of(self, image: str) -> Iterator[Path]:
        """Mount the root file system of a new container of ``image``; yield where it is."""
        name = self.run("create", "--pull=never", image, "true").stdout.strip()
        try:
            yield self.namespace.outside(self.run("mount", name).stdout.strip())
        finally:
            self.run("umount", name)
            self.run("rm", name)

    def close(self) -> None:
        """Remove all containers and drop every mount."""
        try:
            self.run("rm", "--all", "--force", "--time=0", check=False)
        finally:
            self.namespace.close()


@contextmanager
def running(root: Path, **options: Any) -> Iterator[Podman]:
    """A Podman (same arguments) that is cleaned up at the end."""
    podman = Podman(root, **options)
    try:
        yield podman
    finally:
        podman.close()


def write_toml(path: Path, tables: dict[str, dict[str, Any]]) -> None:
    """Write strings and lists of strings, which TOML spells as JSON does."""
    lines = []
    for table, entries in tables.items():
        lines.append(f"[{table}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in entries.items()]
    path.write_text("\n".join(lines) + "\n")
