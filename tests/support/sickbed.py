# SPDX-License-Identifier: Apache-2.0
"""A machine that exists only for doctor's judges: real files of configuration, made-up facts around
them, and the cures applied by a machine."""

from __future__ import annotations

import copy
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from podman_cvmfs.doctor.facts import Engine, Facts, Place, Presence
from podman_cvmfs.doctor.finding import Finding
from podman_cvmfs.doctor.judge.judges import judge
from podman_cvmfs.doctor.look.engine import look_at_configuration
from podman_cvmfs.errors import InputError
from podman_cvmfs.podman.storage_conf.effective import names_store
from podman_cvmfs.podman.storage_conf.generation import Generation
from podman_cvmfs.podman.storage_conf.places import Places
from podman_cvmfs.settings.policy import Overlay
from podman_cvmfs.setup.changes import make
from podman_cvmfs.setup.plan import plan_setup
from podman_cvmfs.setup.request import SetupRequest
from tests.support.conf_corpus import Kind
from tests.support.doctor_facts import CONTENTS, MOUNTED, PLACE, ROOT, USER
from tests.support.storage_confs import places_below

_FUSE, _KERNEL = Overlay.FUSE.value, Overlay.KERNEL.value


class RefusedError(Exception):
    """The cure's command refuses, and says what a person has to do."""


@dataclass(frozen=True)
class State:
    """What is wrong apart from the files. ``None`` for ``laid_out``: as podman mounts."""

    named: bool = True
    laid_out: str | None = None
    wanted: str = _KERNEL
    userns: str = ""
    strangers: bool = False
    has_fuse: bool = True
    has_store: bool = True
    storage_opts: str | None = None


@dataclass
class Sickbed:
    """The machine of one user, below ``root``, with files of a ``kind``."""

    root: Path
    kind: Kind
    generation: Generation
    uid: int
    state: State
    places: Places = field(init=False)
    store: Path = field(init=False)
    laid_out: str | None = field(init=False)

    def __post_init__(self) -> None:
        self.root.mkdir()
        self.store = self.root / "store"
        self.laid_out = self.state.laid_out
        options = self.state.storage_opts
        self.places = places_below(
            self.root, self.uid, storage_opts=None if options is None else self._filled(options)
        )
        for name in ("there", "home", "bin"):
            (self.root / name).mkdir()
        for name in ("bin/fuse-overlayfs", "bin/wrapper"):
            (self.root / name).touch(mode=0o755)
        (self.root / "bin/link").symlink_to("fuse-overlayfs")
        for name, data in self.kind.items():
            path = self.root / ("user" if self.uid else "admin") / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._filled(data.decode("latin-1")).encode("latin-1"))
        if self.state.has_store:
            self.store.mkdir()
        if self.state.named:
            self._set_up()

    def _filled(self, text: str) -> str:
        for word, name in {
            "@fuse@": "bin/fuse-overlayfs",
            "@link@": "bin/link",
            "@site@": "bin/wrapper",
            "@there@": "there",
            "@gone@": "gone",
            "@home@": "home",
            "/var/lib/containers/storage": "graph",
        }.items():
            text = text.replace(word, str(self.root / name))
        return text

    def without_variable(self) -> Sickbed:
        """The same machine in a session without STORAGE_OPTS."""
        found = copy.copy(self)
        found.places = replace(self.places, storage_opts=None)
        return found

    def facts(self) -> Facts:
        """What doctor would see."""
        conf = look_at_configuration(self.generation, str(self.store), self.places)
        conf = replace(
            conf, userns=conf.userns or self.state.userns, has_fuse=self.state.has_fuse, profile=""
        )
        named = dict.fromkeys(conf.effective.stores)
        others = [each for each in named if not names_store([each], str(self.store))]
        base = USER if self.uid else ROOT
        overlay, by_layers = self.laid_out, 2
        if overlay is None:
            overlay, by_layers = (
                _FUSE if conf.effective.options.get("mount_program") else _KERNEL,
                0,
            )
        return replace(
            base,
            store=replace(PLACE, path=str(self.store), owner=self.uid, presence=_at(self.store)),
            engine=Engine(self.generation.version, self.generation.drop_ins),
            configuration=conf,
            is_configured=len(others) < len(named),
            others=tuple(Place(each, _at(Path(each))) for each in others),
            contents=replace(CONTENTS, overlay=overlay, by_layers=by_layers),
            repositories=(
                replace(MOUNTED, owners=(999,) if self.state.strangers else (self.uid,)),
            ),
            wanted_overlay=self.state.wanted,
        )

    def findings(self) -> list[Finding]:
        """What doctor says."""
        return judge(self.facts())

    def apply(self, cure: str) -> None:
        """Do what the command ``cure`` does, one part after the other. Raises RefusedError."""
        for command in re.split(r" && |; ", cure):
            self._do(command)

    def _do(self, command: str) -> None:
        words = shlex.split(command)
        if words[0] in ("sed", "mkdir", "printf", "rm"):
            done = subprocess.run(["sh", "-c", command], stdout=subprocess.DEVNULL)
            assert done.returncode == 0, command
        elif words[:2] == ["podman-cvmfs", "setup"]:
            self._set_up(dict(_options(words)).get("--overlay"))
        elif words[:2] == ["podman-cvmfs", "sync"]:
            self.laid_out = dict(_options(words)).get("--overlay", self.state.wanted)
            self.store.mkdir(exist_ok=True)
        elif words[0] == "unset":
            assert words[1] == "STORAGE_OPTS"
            self.places = replace(self.places, storage_opts=None)
        elif words[:2] in (["modprobe", "fuse"], ["chmod", "0666"]):
            self.state = replace(self.state, has_fuse=True)
        else:
            assert words[0] == "podman" and words[-3:] == ["system", "reset", "--force"], command

    def _set_up(self, overlay: str | None = None) -> None:
        program = str(self.root / "bin/fuse-overlayfs") if overlay == _FUSE else None
        kernel = None if overlay is None else overlay == _KERNEL
        request = SetupRequest(str(self.store), kernel=kernel, mount_program=program)
        self.store.mkdir(exist_ok=True)
        try:
            plan = plan_setup(self.places, self.generation, request, environment_files=False)
        except InputError as err:
            raise RefusedError(f"{err.message}: {err.hint}") from err
        for change in plan.changes:
            make(change)


def _at(path: Path) -> Presence:
    return Presence.THERE if path.is_dir() else Presence.MISSING


def _options(words: list[str]) -> Iterator[tuple[str, str]]:
    return ((name, value) for name, value in zip(words, words[1:]) if name.startswith("--"))
