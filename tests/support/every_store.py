# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin: whatever store any test generates, all judges must find it good.

A store is known once this process opens it or starts a command with its path after ``--store``, and
in the usual places inside a namespace. Each generation that is written from then on is judged as
soon as the change, or the command, is over, or at the end of a test that has broken what judging
needs until then; one that is to the last byte what was judged before needs no second judgement.
What a test spoils itself is no generation of ours.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from podman_cvmfs.errors import PodmanCvmfsError
from podman_cvmfs.settings.paths import SYSTEM_STORE
from podman_cvmfs.storage_native import Artefact
from podman_cvmfs.store import layout
from podman_cvmfs.store.store import Store
from tests.support.namespace import Namespace
from tests.support.native import JudgeMissingError, disagreements, judges
from tests.support.picture import picture

#: Where stores are, root's and those of the tests' users, unless told otherwise.
_PLACES = [
    SYSTEM_STORE,
    *(f"{home}/.local/share/podman-cvmfs/store" for home in ("/home/u", "/var/u")),
]
#: What tells one generation from all others: where the link to it leads, its inode and its time.
_Generation = tuple[str, int, int]


class Watch:
    """Knows stores, and has each new generation judged by ``judges``."""

    def __init__(self, judges: Mapping[str, Artefact]) -> None:
        self.judges = judges
        self._process = os.getpid()
        self._last: dict[Path, _Generation | None] = {}
        self._judging = False
        #: Whether a store is judged as soon as it is written, not only at the end of the test.
        self.at_once = True
        self._good: set[bytes] = set()
        self.judged = self.again = 0
        self.problems: list[str] = []

    def _is_here(self) -> bool:
        """Neither in a child, which may be supervised or about to be killed, nor beside a thread,
        nor in what judging itself does."""
        main = threading.current_thread() is threading.main_thread()
        return os.getpid() == self._process and main and not self._judging

    def know(self, path: str) -> None:
        """What is written to the store at ``path`` from now on is to be judged."""
        if self._is_here():
            store = Path(os.path.abspath(path))
            self._last.setdefault(store, _generation(store))

    def judge(self, *, finally_: bool = False, below: str = "/") -> None:
        """Judge what hasn't been, of the stores below a directory; ``finally_``: now or never."""
        if not self._is_here() or not (self.at_once or finally_):
            return
        self._judging = True
        try:
            for store in list(self._last):
                if f"{store}/".startswith(f"{below.rstrip('/')}/"):
                    self._judge(store, finally_)
        finally:
            self._judging = False

    def _judge(self, store: Path, finally_: bool) -> None:
        generation = _generation(store)
        if generation is None:
            if finally_:
                del self._last[store]
            return
        if generation == self._last[store]:
            return
        try:
            key = _content(store)
            found = [] if key in self._good else disagreements(store, self.judges)
        except (OSError, PodmanCvmfsError) as err:
            # Tests of full disks and the like break our system calls too.
            if finally_:
                self.problems.append(f"{store}: {err}")
                self._last[store] = generation
            return
        if _generation(store) == generation:
            self._last[store] = generation
            self.again += key in self._good
            self.judged += key not in self._good
            self.problems += [f"{store}: {each}" for each in found]
            if not found:
                self._good.add(key)


def _generation(store: Path) -> _Generation | None:
    """The store's current generation; None where it has none, or none of ours."""
    current = store / layout.CURRENT
    try:
        link, state = os.readlink(current), current.lstat()
    except OSError:
        return None
    is_ours = os.path.dirname(link) == layout.GENERATIONS
    return (link, state.st_ino, state.st_mtime_ns) if is_ours else None


def _content(store: Path) -> bytes:
    """What tells a store from all others that the judges may see otherwise: all there is in it but
    for earlier generations, the locks, and its own path."""
    seen = picture(store)
    current = seen.pop(layout.CURRENT)[2].decode()
    content = hashlib.sha256()
    for path, facts in sorted(seen.items()):
        place = path.replace(current, layout.CURRENT, 1)
        if not place.startswith(f"{layout.GENERATIONS}/") and not place.endswith(".lock"):
            content.update(repr((place, facts)).encode())
    return content.digest()


_watch: Watch | None = None


def pytest_sessionstart() -> None:
    """Who asks for judges wants all of them."""
    global _watch
    try:
        _watch = Watch(judges())
    except JudgeMissingError as err:
        raise pytest.UsageError(str(err)) from None
    _listen(_watch)


def _listen(watch: Watch) -> None:
    """Have ``watch`` hear of stores and of their changes."""
    begin, replace = Store.__init__, Store.replace
    start, run = subprocess.Popen.__init__, subprocess.run
    enter, remove = Namespace.run, shutil.rmtree

    def begin_known(store: Store, path: str, *others: Any, **options: Any) -> None:
        begin(store, path, *others, **options)
        watch.know(store.path)

    def replace_judged(store: Store, *args: Any, **options: Any) -> bool:
        changed = replace(store, *args, **options)
        watch.judge()
        return changed

    def start_known(process: Any, args: Any, *others: Any, **options: Any) -> None:
        for store in _stores(args):
            watch.know(store)
        start(process, args, *others, **options)

    def run_judged(*args: Any, **options: Any) -> Any:
        done = run(*args, **options)
        watch.judge()
        return done

    def enter_known(namespace: Namespace, *args: Any, **options: Any) -> Any:
        for place in _PLACES:
            watch.know(str(namespace.outside(place)))
        return enter(namespace, *args, **options)

    def remove_judged(path: Any, *args: Any, **options: Any) -> None:
        watch.judge(finally_=True, below=os.path.abspath(os.fsdecode(path)))
        remove(path, *args, **options)

    patch = pytest.MonkeyPatch()
    patch.setattr(shutil, "rmtree", remove_judged)
    patch.setattr(Namespace, "run", enter_known)
    patch.setattr(Store, "__init__", begin_known)
    patch.setattr(Store, "replace", replace_judged)
    patch.setattr(subprocess.Popen, "__init__", start_known)
    patch.setattr(subprocess, "run", run_judged)


def _stores(argv: Any) -> Iterator[str]:
    """The paths after ``--store`` in a command line."""
    if isinstance(argv, Sequence) and not isinstance(argv, (str, bytes)):
        words = [os.fsdecode(word) for word in argv if isinstance(word, (str, bytes, os.PathLike))]
        for option, value in zip(words, words[1:]):
            if option == "--store":
                yield value


@pytest.fixture(autouse=True)
def every_store_is_good(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test whose stores the judges don't find good."""
    assert _watch is not None
    # What is being timed must not be judged meanwhile.
    _watch.at_once = "benchmarks" not in request.path.parts
    yield
    _watch.judge(finally_=True)
    problems, _watch.problems = _watch.problems, []
    assert problems == []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many there were."""
    if _watch is not None:
        releases = ", ".join(_watch.judges)
        terminalreporter.write_line(
            f"{_watch.judged} stores judged by containers/storage of {releases}; "
            f"{_watch.again} more were byte for byte the same"
        )
