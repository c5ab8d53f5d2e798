# SPDX-License-Identifier: Apache-2.0
"""Whether podman here mounts and commits layers with metadata of their own.

podman 5.4 and later mount them, as root. But ``commit`` and ``build`` lose data on such layers
unless podman compares directories file by file: a file whose attributes were changed is committed
with null bytes as its content. podman decides that from storage.conf alone
(containers/storage 1.57 and 1.64, ``drivers/overlay/overlay.go``, useNaiveDiff). ``podman info``
tells the decision.

Even a sync with nothing to do needs the answer. So this module imports little, and the answer is
kept until podman, its configuration or the kernel changes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Mapping

from podman_cvmfs.podman.program import has_crio, identity
from podman_cvmfs.podman.storage_conf.places import Places, system_mains, with_drop_ins
from podman_cvmfs.util.foreign_file import read_bounded

#: These variables lead podman to other configuration.
_VARIABLES = (
    "CONTAINERS_CONF",
    "CONTAINERS_STORAGE_CONF",
    "CONTAINERS_STORAGE_CONF_OVERRIDE",
    "STORAGE_OPTS",
)
_TEMPLATE = (
    '{{index .Store.GraphStatus "Native Overlay Diff"}} '
    '{{index .Store.GraphOptions "overlay.mount_program"}}'
)
#: What Go's templates print for a missing key.
_NO_PROGRAM = ("", "<no value>", "<nil>")
#: Without one of these words in storage.conf podman doesn't compare file by file.
_WORDS = re.compile(r"metacopy=on|redirect_dir=on|use_composefs", re.IGNORECASE)
#: What to write into storage.conf.
OPTION = "metacopy=on"
#: The obstacle on most machines.
NAIVE_DIFF_OFF = (
    "podman would lose data in commits and builds, because storage.conf lacks "
    f'mountopt = "{OPTION}"'
)
#: CRI-O older than 1.32 would start containers without files (containers/storage before 1.56).
CRIO_HERE = "CRI-O is on this machine, and nobody has tried the exact view with CRI-O"
#: The first kernel with data-only lower directories, without which the data's directories show.
_KERNEL = (6, 5)
_PODMAN = (5, 4)
_ALL_IDS = ["0", "0", "4294967295"]
#: Longer files are not read, in bytes.
_MOST = 1 << 20


def obstacle(memo: str, places: Places | None = None, store: str = "") -> str:
    """Why podman here can't be given layers with metadata of their own, as a sentence without a
    full stop; "" if it can. ``memo`` is the file that keeps podman's answer. ``places`` are
    podman's, by default those of this process. ``store`` is the store with the layers: the podmans
    of other sessions may use it too."""
    if os.geteuid() != 0 or _systems("/proc/self/uid_map").split() != _ALL_IDS:
        return "only root on the machine itself can mount it"
    if not has_erofs():
        return f"the kernel has no EROFS, or is older than {_version(_KERNEL)}"
    if has_crio():
        return CRIO_HERE
    texts = {path: _text(path) for path in _files(places or Places.of_process())}
    set_here = {name: os.environ.get(name, "") for name in _VARIABLES}
    if not any(map(_WORDS.search, [*texts.values(), *set_here.values()])):
        return NAIVE_DIFF_OFF
    asked = json.dumps([identity(), texts, set_here, os.uname().release, store])
    key = hashlib.sha256(asked.encode(errors="surrogateescape")).hexdigest()
    with contextlib.suppress(ValueError, KeyError, TypeError):
        known = json.loads(_text(memo))
        if known["asked"] == key:
            return str(known["obstacle"])
    from podman_cvmfs.errors import InputError, PodmanCvmfsError
    from podman_cvmfs.util.files import write_whole

    try:
        found = _ask(store)
    except InputError as err:
        # Nobody knows how long that lasts: the next sync asks again.
        return err.message
    # If the answer can't be written, podman is asked again next time.
    with contextlib.suppress(OSError, PodmanCvmfsError):
        data = json.dumps({"asked": key, "obstacle": found}).encode()
        write_whole(memo, data, inside=os.path.dirname(memo))
    return found


def has_erofs() -> bool:
    """Whether the kernel can mount such metadata: it has EROFS, or a module for it, and overlayfs
    with directories for data alone."""
    release = os.uname().release
    found = re.match(r"(\d+)\.(\d+)", release)
    if found is None or (int(found[1]), int(found[2])) < _KERNEL:
        return False
    if "\terofs\n" in _systems("/proc/filesystems"):
        return True
    modules = f"/lib/modules/{release}"
    return any(
        "/erofs.ko" in _systems(f"{modules}/{name}") for name in ("modules.dep", "modules.builtin")
    )


def _ask(store: str) -> str:
    """podman's answer, also for ``store`` in other sessions. Raises InputError if podman gives
    none."""
    from podman_cvmfs.podman.storage_conf.ask import ask_version, environment

    env = environment()
    version = ask_version(env)
    numbers = tuple(int(word) for word in re.findall(r"\d+", version)[:2])
    if numbers < _PODMAN:
        return f"podman {version} is older than {_version(_PODMAN)}"
    given = {name: os.environ[name] for name in _VARIABLES if os.environ.get(name)}
    found = _ask_about_storage({**env, **given})
    if not found and given and _is_named(store):
        found = _ask_about_storage(env)
        if found:
            return f"in sessions without {' and '.join(given)}, {found}"
    return found


def _ask_about_storage(env: Mapping[str, str]) -> str:
    from podman_cvmfs.errors import InputError
    from podman_cvmfs.podman.storage_conf.ask import ask

    done = ask("info", env, "--format", _TEMPLATE)
    if done.returncode:
        raise InputError("podman info fails")
    is_native, _, program = done.stdout.strip().partition(" ")
    # With a program podman compares file by file, but the program can't mount metadata.
    if program not in _NO_PROGRAM:
        return "podman mounts layers by a mount_program"
    return "" if is_native == "false" else NAIVE_DIFF_OFF


def _is_named(store: str) -> bool:
    """Whether podman without this process's variables uses ``store``. Raises InputError."""
    from podman_cvmfs.podman.storage_conf.effective import names_store, read_effective
    from podman_cvmfs.podman.storage_conf.generation import find_generation

    plain = {name: value for name, value in os.environ.items() if name not in _VARIABLES}
    effective = read_effective(Places.of_process(plain), find_generation(plain))
    return names_store(effective.stores, store)


def _files(places: Places) -> list[str]:
    """The files from which podman may take its storage options, whatever its version."""
    named = [places.storage_conf, places.storage_override]
    found = [*system_mains(places), *with_drop_ins(places, "storage"), *filter(None, named)]
    return list(dict.fromkeys(found))


def _version(numbers: tuple[int, int]) -> str:
    return ".".join(map(str, numbers))


def _systems(path: str) -> str:
    """The text of a file of the kernel's, which has no size beforehand; "" if it can't be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _text(path: str) -> str:
    """The text of a file; "" if it can't be read."""
    try:
        return read_bounded(path, _MOST).decode("utf-8", "replace")
    except OSError:
        return ""
