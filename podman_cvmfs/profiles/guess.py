# SPDX-License-Identifier: Apache-2.0
"""Guesses what an image opens when it starts, from what the image says.

These are the entrypoint or command, the interpreters of scripts, and the libraries that the loader
would load (ld.so(8): DT_RPATH, DT_RUNPATH, /etc/ld.so.conf, the default directories). What programs
open later by themselves isn't known. Reading for the guess fetches these files, which are wanted
anyway; nothing else is opened than them and the loader's configuration.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import shlex
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from podman_cvmfs.errors import InputError
from podman_cvmfs.oci.documents import parse_json
from podman_cvmfs.profiles.elf import Needs, needs_of
from podman_cvmfs.profiles.profile import Use
from podman_cvmfs.profiles.shown import ShownImage
from podman_cvmfs.repository.readers import Readers
from podman_cvmfs.util.foreign_file import read_bounded

#: No more files are guessed.
MAX_GUESSES = 500
#: How long files are looked for, in seconds: an image can name any number of places.
MAX_SECONDS = 20.0
#: Linux' PATH_MAX.
_MAX_PATH = 4095
#: Linux reads so much of a script's first line (``linux/binfmts.h``).
_MAX_LINE = 256
_MAX_CONF = 64 * 1024
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: ld.so(8); musl's ldso has the last three by default (``ldso/dynlink.c``).
_DIRECTORIES = ("/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib")
_LOADERS_FILES = ("/etc/ld.so.preload", "/etc/ld.so.cache")
_CONF = "/etc/ld.so.conf"
_MAX_WORDS = 64


def guess(shown: ShownImage, config: bytes) -> tuple[Use, ...]:
    """The files that a container of the image with this config opens first, in order.

    Nothing in the image or its config makes it fail: what isn't understood isn't guessed.
    """
    try:
        document = parse_json(config, "the config")
    except InputError:
        return ()
    settings = document.get("config") if isinstance(document, dict) else None
    return _Guess(shown, settings if isinstance(settings, dict) else {}).uses()


@dataclass(frozen=True)
class _Known:
    """What a file says of itself: the words behind ``#!``, or the needs of an ELF file."""

    interpreters: tuple[str, ...] = ()
    needs: Needs | None = None


class _TimeIsOverError(Exception):
    """What is found until now is the guess."""


class _Guess:
    def __init__(self, shown: ShownImage, settings: Mapping[str, Any]) -> None:
        self._shown = shown
        self._settings = settings
        #: Paths in the image; the keys are in order.
        self._found: dict[str, None] = {}
        #: Libraries and programs to look into, with the RPATHs of whoever loads them.
        self._pending: list[tuple[str, tuple[str, ...]]] = []
        self._configured: tuple[str, ...] | None = None
        self._deadline = time.monotonic() + MAX_SECONDS

    def uses(self) -> tuple[Use, ...]:
        with contextlib.suppress(_TimeIsOverError):
            self._search()
        return tuple(map(Use, self._found))

    def _search(self) -> None:
        self._add("/etc/passwd")
        self._add("/etc/group")
        for word in self._words():
            # Also later words are files, as in: tini -- python3 /app/main.py.
            self._add_program(word)
        readers = Readers(is_slow=True)
        while self._pending and len(self._found) < MAX_GUESSES:
            # Each may have to be fetched, so all that are known are read at once.
            level, self._pending = self._pending, []
            examined = readers.map(self._examine, [path for path, _ in level])
            for (path, above), known in zip(level, examined):
                self._look_into(path, above, known)

    def _words(self) -> list[str]:
        """The command line, and what is quoted in a shell's."""
        words = []
        for key in ("Entrypoint", "Cmd"):
            value = self._settings.get(key)
            parts = value if isinstance(value, list) else []
            words += [part for part in parts[:_MAX_WORDS] if isinstance(part, str)]
        if len(words) > 1 and words[1] == "-c":
            with contextlib.suppress(ValueError, IndexError):
                words[2:3] = shlex.split(words[2], comments=True)[:_MAX_WORDS]
        return [word for word in words if word and not word.startswith("-")]

    def _add(self, path: str, beside: str = "") -> str | None:
        """Note the file that ``path`` leads to; the file's own path, None if there is none."""
        found = self._resolved(path, beside)
        if found is not None and len(self._found) < MAX_GUESSES:
            self._found.setdefault(found)
        return found

    def _resolved(self, path: str, beside: str = "") -> str | None:
        self._check_time()
        if len(path) + len(beside) > _MAX_PATH:
            return None
        # ValueError: a null byte, or what isn't Unicode.
        with contextlib.suppress(OSError, ValueError):
            return self._shown.resolve(path, beside)
        return None

    def _check_time(self) -> None:
        if time.monotonic() > self._deadline:
            raise _TimeIsOverError

    def _add_program(self, word: str) -> None:
        if "/" in word:
            directory = self._settings.get("WorkingDir")
            beside = directory if isinstance(directory, str) else ""
            places: Iterable[str] = (word,)
        else:
            beside = ""
            places = [f"{directory}/{word}" for directory in self._search_path()]
        for place in places:
            if self._add_and_examine(place, (), beside):
                return

    def _add_and_examine(self, path: str, rpath: tuple[str, ...], beside: str = "") -> bool:
        """Note the file that ``path`` leads to, and look into it once; whether it is there."""
        known = len(self._found)
        found = self._add(path, beside)
        if found is not None and len(self._found) > known:
            self._pending.append((found, rpath))
        return found is not None

    def _search_path(self) -> list[str]:
        variables = self._settings.get("Env")
        for each in variables if isinstance(variables, list) else []:
            if isinstance(each, str) and each.startswith("PATH="):
                return [part for part in each[5:].split(":") if part.startswith("/")]
        return _DEFAULT_PATH.split(":")

    def _look_into(self, path: str, above: tuple[str, ...], known: _Known) -> None:
        """Note what the program or library ``path`` needs."""
        for word in known.interpreters:
            self._add_program(word)
        needs = known.needs
        if needs is None:
            return
        if needs.interpreter:
            self._add(needs.interpreter)
            for each in _LOADERS_FILES:
                self._add(each)
        origin = f"/{os.path.dirname(path)}"
        # A library's RPATH counts for those that it loads, too, unless it has a RUNPATH.
        rpath = () if needs.runpath else (*_expanded(needs.rpath, origin), *above)
        for name in needs.needed:
            self._add_library(name, needs, rpath, origin)

    def _add_library(self, name: str, needs: Needs, rpath: tuple[str, ...], origin: str) -> None:
        if "/" in name:
            places = [name]
        else:
            directories = [*rpath, *_expanded(needs.runpath, origin), *self._directories()]
            places = [f"{directory}/{name}" for directory in directories]
        for place in places:
            if self._add_and_examine(place, rpath):
                return

    def _directories(self) -> tuple[str, ...]:
        """Where the image's loader looks, by its configuration."""
        if self._configured is None:
            found = dict.fromkeys(self._conf(_CONF, depth=2))
            self._configured = (*found, *(each for each in _DIRECTORIES if each not in found))
        return self._configured

    def _conf(self, path: str, depth: int) -> Iterable[str]:
        where = None
        found = self._resolved(path)
        with contextlib.suppress(OSError):
            where = None if found is None else self._shown.locate(found)
        if where is None:
            return
        with contextlib.suppress(OSError):
            text = read_bounded(where, _MAX_CONF).decode("utf-8", "surrogateescape")
            for line in text.splitlines():
                words = line.partition("#")[0].split()
                if words[:1] == ["include"] and depth:
                    for pattern in words[1:]:
                        for each in self._matching(pattern):
                            yield from self._conf(each, depth - 1)
                elif words and words[0].startswith("/"):
                    yield words[0]

    def _matching(self, pattern: str) -> Sequence[str]:
        self._check_time()
        start = "" if pattern.startswith("/") else "/etc/"
        directory, _, name = f"{start}{pattern}".rpartition("/")
        names = self._shown.list(directory.strip("/"))
        return [f"{directory}/{each}" for each in fnmatch.filter(names, name)][:MAX_GUESSES]

    def _examine(self, path: str) -> _Known:
        """What the program or library ``path`` says of itself; nothing if it can't be read."""
        with contextlib.suppress(OSError):
            where = self._shown.locate(path)
            if where is not None:
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
                descriptor = os.open(where, flags)
                try:
                    return _known(lambda offset, size: os.pread(descriptor, size, offset))
                finally:
                    os.close(descriptor)
        return _Known()


def _known(read: Callable[[int, int], bytes]) -> _Known:
    line = read(0, _MAX_LINE).partition(b"\n")[0]
    if not line.startswith(b"#!"):
        return _Known(needs=needs_of(read))
    # As in: #!/usr/bin/env python3
    words = line[2:].decode("utf-8", "surrogateescape").split()[:2]
    return _Known(tuple(word for word in words if not word.startswith("-")))


def _expanded(directories: Iterable[str], origin: str) -> tuple[str, ...]:
    """The same with ld.so's $ORIGIN replaced; its other variables are left out."""
    replaced = (
        each.replace("${ORIGIN}", origin).replace("$ORIGIN", origin) for each in directories
    )
    return tuple(each for each in replaced if each.startswith("/") and "$" not in each)
