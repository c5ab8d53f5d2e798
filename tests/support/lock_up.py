# SPDX-License-Identifier: Apache-2.0
"""Starts many containers of one image at once while a client fetches, and tells whether that hangs.

``python -m tests.support.lock_up TRIAL`` (``Trial`` as a JSON object) is one trial, in mount and
process namespaces of its own that are gone with it: a file system that hangs is the trial's own, an
ext4 in memory with the graphroot, the store and the client's cache. It prints an ``Outcome``.

Kernel overlayfs copies a directory up under its file system's rename lock, and asks the client
below for attributes while it holds it. The client's threads, each of which wants to move an object
into the cache on the same file system, wait for that lock. Readers that outnumber the client's
threads, and a cache too small to keep anything, see to it that all are always fetching.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.matrix.guest import Guest
from tests.matrix.host import FOREIGN, USER, Machine, interpreter
from tests.support.bare_store import write_bare_store
from tests.support.copied_up import copied_up
from tests.support.mounted import Mounted

#: A rename between two directories that takes so many seconds has hung.
HUNG = 10.0
#: Seconds for all containers, where nothing hangs.
_PATIENCE = 240.0
#: Seconds in which everything ends once the connection is aborted.
_ENDS = 60.0
_THREADS = 10
_READERS = 2 * _THREADS
_DELAY = 0.01
#: The first process of a process namespace has to end for the kernel to kill the others, and so it
#: must have no thread that may wait for the client: it is a shell, which only waits for the next.
_ISOLATED = [
    *("unshare", "--mount", "--propagation=private", "--pid", "--fork", "--mount-proc"),
    *("--kill-child", "sh", "-c", '"$@"; exit $?', "sh"),
]
_BYTES = 2 << 30
#: So many characters of what a container's podman says.
_ENOUGH = 120
#: An option of each start; those that mount have podman make a directory.
_WAYS = ("--user=root", "--tmpfs=/srv/work", "--tmpfs=/opt/scratch", "--tmpfs=/var/cache/scratch")


@dataclass(frozen=True)
class Trial:
    """What to start: ``starts`` containers of the ``image`` in ``repository``, by the podman in the
    machine with the root file system ``root``.

    ``view`` is that of the sync that writes the store; "" for a store as others write them,
    without directories of its own: the merged root is the image's one layer. ``owner`` of the
    repository's files is "foreign", as a default client shows them, or "user", the rootless one.
    ``shared``: other users may read the store, too.
    """

    root: str
    rootless: bool
    view: str
    repository: str
    image: str
    owner: str = "foreign"
    shared: bool = False
    starts: int = 20


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    ``longest`` are the seconds of the longest rename beside the containers, ``done`` how many of
    these did what they should, ``said`` what the others said. ``copied`` are the directories that
    they have copied up from the repository. ``released``: everything ended when the connection had
    been aborted.
    """

    hung: bool
    seconds: float
    longest: float
    done: int
    said: tuple[str, ...]
    released: bool
    copied: tuple[str, ...]
    version: str


def attempt(trial: Trial, seconds: float = 600) -> Outcome:
    """Run a trial in namespaces of its own, all of whose processes are killed after ``seconds``.

    The directory that it mounts at is removed when nothing is mounted there in any namespace: to
    remove it before would detach the mounts, and the kernel could never free them, since the loop
    device's file is in one of them.
    """
    # A short path: podman 4 has but a page for the paths of all lower directories.
    scratch = tempfile.mkdtemp(prefix="pcl", dir="/var/tmp")
    os.chmod(scratch, 0o755)
    command = [sys.executable, "-m", "tests.support.lock_up", json.dumps(asdict(trial)), scratch]
    # Not pipes: whatever outlives the trial would keep them open.
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        try:
            done = subprocess.run(
                [*_ISOLATED, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                timeout=seconds,
            )
        finally:
            _wait_for_release(scratch)
        output.seek(0)
        errors.seek(0)
        assert done.returncode == 0, errors.read()
        found = json.loads(output.read())
    lists = {name: tuple(found[name]) for name in ("said", "copied")}
    return Outcome(**{**found, **lists})


def _wait_for_release(scratch: str) -> None:
    """Wait until the last process of the trial has ended, and with it its mounts."""
    deadline = time.monotonic() + _ENDS
    while left := _loop_devices(scratch):
        assert time.monotonic() < deadline, f"{left} are still in use"
        time.sleep(0.05)
    os.rmdir(scratch)


def _loop_devices(scratch: str) -> list[str]:
    """The loop devices on a file in the directory."""
    found = []
    for device in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            if device.read_text().startswith(f"{scratch}/"):
                found.append(device.parts[3])
    return found


def _run(trial: Trial, scratch: Path) -> Outcome:
    with _own_file_system(scratch) as data:
        store = _store(trial, data)
        # Mounted anew: nothing is warm.
        client = Mounted(Path(trial.repository), data / "r", data, **_served(trial), keeps=False)
        try:
            client.tell(delay=_DELAY)
            machine = Machine(Path(trial.root), data)
            try:
                return _starts(trial, machine, client, store)
            finally:
                client.abort()
                machine.close()
        finally:
            client.close()


@contextlib.contextmanager
def _own_file_system(scratch: Path) -> Iterator[Path]:
    """An ext4 in a file in memory; the mount namespace of this process alone has it."""
    _call("mount", "-t", "tmpfs", "tmpfs", scratch)
    image, data = scratch / "image", scratch / "d"
    data.mkdir()
    with image.open("wb") as file:
        file.truncate(_BYTES)
    _call("mkfs.ext4", "-q", "-F", image)
    _call("mount", "-o", "loop", image, data)
    try:
        yield data
    finally:
        _call("umount", "--lazy", data)


def _call(*argv: str | Path) -> None:
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=sys.stderr, timeout=60)


def _served(trial: Trial) -> dict[str, object]:
    owner = (USER.uid, USER.uid) if trial.owner == "user" else FOREIGN
    return {"owner": owner, "threads": _THREADS}


def _store(trial: Trial, data: Path) -> Path:
    """The store of the trial, written by a sync, or from what that has written."""
    user = USER if trial.rootless else None
    place = data / "s"
    place.mkdir()
    if user is not None:
        os.chown(place, user.uid, user.uid)
    client = Mounted(Path(trial.repository), data / "r", data, **_served(trial))
    try:
        machine = Machine(Path("/"), data)
        try:
            options = ["--offline", "--view", trial.view or "flat"]
            options += ["--shared"] if trial.shared else []
            places = {"repository": data / "r", "store": place / "store", "cache": place / "cache"}
            for name, path in places.items():
                options += [f"--{name}", str(path)]
            argv = [*interpreter(machine), "-m", "podman_cvmfs", "sync", *options, trial.image]
            env = {"PATH": "/usr/bin:/bin", "HOME": str(data), "LANG": "C.UTF-8"}
            machine.run_as(user, argv, env=env)
        finally:
            client.abort()
            machine.close()
    finally:
        client.close()
    if trial.view:
        return place / "store"
    return write_bare_store(place / "store", data / "plain", data / "r")


def _starts(trial: Trial, machine: Machine, client: Mounted, store: Path) -> Outcome:
    user = USER if trial.rootless else None
    podman = Guest(machine, machine.data / "p", stores=[store], user=user)
    podman.run("images")
    probe = _Probe(machine.data)
    probe.start()
    readers = _read_on(client, Path(trial.repository))
    containers = [
        subprocess.Popen(
            machine.command(machine.as_user(user, _start(trial, number))),
            env=podman.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
        for number in range(trial.starts)
    ]
    began = time.monotonic()
    while probe.waiting() < HUNG and time.monotonic() - began < _PATIENCE:
        if all(each.poll() is not None for each in containers):
            break
        time.sleep(0.05)
    seconds, hung = time.monotonic() - began, probe.waiting() >= HUNG
    assert all(reader.is_alive() for reader in readers), "the client had too little to do"
    client.abort()
    probe.ends.set()
    released = _all_end(containers, [probe, *readers])
    said = [each.communicate()[0].strip() if released else "" for each in containers]
    done = said.count("started")
    others = tuple(sorted({text[-_ENOUGH:] for text in said if text != "started"}))
    repository = Path(trial.repository)
    copied = tuple(copied_up(podman.graphroot, store, repository, client.mountpoint))
    return Outcome(hung, seconds, probe.longest, done, others, released, copied, podman.version)


def _start(trial: Trial, number: int) -> list[str]:
    """The command that starts a container, each in one of the ways that make other directories."""
    # In a shared store /tmp is the repository's: nothing of the store's own may have its mode.
    script = "echo started" if trial.shared else "touch /tmp/file && echo started"
    options = (_WAYS[number % len(_WAYS)], "--entrypoint=/bin/sh")
    return ["podman", "run", "--pull=never", *options, trial.image, "-c", script]


def _all_end(
    containers: Sequence[subprocess.Popen[str]], threads: Sequence[threading.Thread]
) -> bool:
    deadline = time.monotonic() + _ENDS
    try:
        for container in containers:
            container.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return False
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)


def _read_on(client: Mounted, repository: Path) -> list[threading.Thread]:
    """Start reading all files of the repository again and again until the client is gone; return
    once it is busy with that."""
    inside = [
        Path(top, name).relative_to(repository)
        for top, _, names in os.walk(repository / ".flat")
        for name in names
    ]
    regular = [path for path in inside if stat.S_ISREG((repository / path).lstat().st_mode)]
    files = [client.mountpoint / path for path in regular]
    readers = []
    for number in range(_READERS):
        first = number * len(files) // _READERS
        order = files[first:] + files[:first]
        readers.append(threading.Thread(target=_read, args=(order,)))
        readers[-1].start()
    while client.fetched() < _READERS:
        time.sleep(0.05)
    return readers


def _read(files: Sequence[Path]) -> None:
    with contextlib.suppress(OSError):
        for file in itertools.cycle(files):
            with file.open("rb"):
                pass


class _Probe(threading.Thread):
    """Moves a file to and fro between two directories, as any program on that file system may."""

    def __init__(self, data: Path) -> None:
        super().__init__(daemon=True)
        self._places = [data / "probe1/file", data / "probe2/file"]
        for place in self._places:
            place.parent.mkdir()
        self._places[0].touch()
        self._began: float | None = None
        self.longest = 0.0
        self.ends = threading.Event()

    def run(self) -> None:
        here, there = self._places
        while not self.ends.wait(0.02):
            self._began = time.monotonic()
            here.rename(there)
            self.longest = max(self.longest, time.monotonic() - self._began)
            self._began = None
            here, there = there, here

    def waiting(self) -> float:
        """For how many seconds the current rename has been waiting."""
        began = self._began
        return 0.0 if began is None else time.monotonic() - began


def main() -> None:
    """One trial: in its namespaces if a directory for it is given, else in new ones."""
    trial = Trial(**json.loads(sys.argv[1]))
    if not sys.argv[2:]:
        print(attempt(trial))
        return
    print(json.dumps(asdict(_run(trial, Path(sys.argv[2])))), flush=True)
    # A thread that never comes back would keep the process.
    os._exit(0)


if __name__ == "__main__":
    main()
