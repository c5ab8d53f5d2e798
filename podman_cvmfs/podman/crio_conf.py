# SPDX-License-Identifier: Apache-2.0
"""CRI-O's configuration: the files that it reads, and their settings that concern a store.

CRI-O reads crio.conf, then every file below crio.conf.d by the order of the names, whatever a name
ends in. A later value replaces an earlier one. Only the values of ``storage_option`` add up, also
with those of storage.conf. (CRI-O 1.37 ``pkg/config/config.go``, UpdateFromPath and
UpdateFromDropInFile; crio.conf(5).)
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.podman.program import CRIO_FILES
from podman_cvmfs.podman.program import has_crio as has_crio
from podman_cvmfs.podman.storage_conf.effective import names_one_store
from podman_cvmfs.podman.storage_conf.toml_file import plain, read_file, section, strings

DIRECTORY = CRIO_FILES
#: What makes a change count.
RESTART = "restart CRI-O, a reload is not enough: systemctl restart crio"
#: CRI-O reads this many files at most on a sane machine; more are refused.
_MAX_FILES = 1000


@dataclass(frozen=True)
class CrioConf:
    """The sum of CRI-O's files, in the order in which they are read.

    ``root``, ``imagestore`` and ``pause_image`` are "" if no file sets them: then storage.conf or a
    default counts. ``stores`` are the additional stores of ``storage_option``.
    """

    files: tuple[str, ...] = ()
    root: str = ""
    imagestore: str = ""
    stores: tuple[str, ...] = ()
    internal_repair: bool = True
    pinned_images: tuple[str, ...] = ()
    pause_image: str = ""

    @property
    def roots(self) -> tuple[str, ...]:
        """The directories in which CRI-O keeps containers and images, besides storage.conf's."""
        return tuple(each for each in (self.root, self.imagestore) if each)


def drop_in_directory(directory: str = DIRECTORY) -> str:
    """The directory of the files that CRI-O reads after crio.conf."""
    return f"{directory}/crio.conf.d"


def read_crio_conf(directory: str = DIRECTORY, without: str = "") -> CrioConf:
    """The configuration below ``directory``, as if the file ``without`` weren't there.

    Raises InputError for a file that CRI-O can't read, or that sets something to a wrong type.
    """
    conf = CrioConf()
    for path in _files(directory):
        data = None if path == without else read_file(path)
        if data is not None:
            conf = _with(conf, path, plain(path, data))
    return conf


def _files(directory: str) -> list[str]:
    found = [f"{directory}/crio.conf"]
    try:
        for path in _below(drop_in_directory(directory)):
            found.append(path)
            if len(found) > _MAX_FILES:
                raise InputError(
                    f"{printable(drop_in_directory(directory))} has over {_MAX_FILES} files",
                    "CRI-O reads all of them: remove those that are no configuration",
                )
    except OSError as err:
        name = printable(str(err.filename))
        raise InputError(f"can't read {name}: {err.strerror}") from err
    return found


def _below(directory: str) -> Iterator[str]:
    """All files below ``directory``, each directory by the order of its names (Go's
    ``filepath.Walk``). Raises OSError."""
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _below(entry.path)
        else:
            yield entry.path


def _with(conf: CrioConf, path: str, content: dict[str, Any]) -> CrioConf:
    """``conf`` after the file ``path``, which holds ``content``."""
    crio = section(path, content, "crio")
    image = section(path, content, "crio", "image")
    options = _strings(path, crio, "storage_option", ())
    stores = [
        store
        for key, _, value in (option.partition("=") for option in options)
        if names_one_store(key)
        for store in value.split(",")
    ]
    return replace(
        conf,
        files=(*conf.files, path),
        root=_text(path, crio, "root", conf.root) or conf.root,
        imagestore=_text(path, crio, "imagestore", conf.imagestore),
        stores=tuple(dict.fromkeys([*conf.stores, *stores])),
        internal_repair=_truth(path, crio, "internal_repair", conf.internal_repair),
        pinned_images=_strings(path, image, "pinned_images", conf.pinned_images),
        pause_image=_text(path, image, "pause_image", conf.pause_image),
    )


def _text(path: str, table: dict[str, Any], key: str, default: str) -> str:
    value = table.get(key, default)
    if not isinstance(value, str):
        raise _wrong(path, key, "a text")
    return value


def _truth(path: str, table: dict[str, Any], key: str, default: bool) -> bool:
    value = table.get(key, default)
    if not isinstance(value, bool):
        raise _wrong(path, key, "true or false")
    return value


def _strings(
    path: str, table: dict[str, Any], key: str, default: tuple[str, ...]
) -> tuple[str, ...]:
    if key not in table:
        return default
    values, append = strings(path, key, table[key])
    if append is not None:
        raise _wrong(path, key, "an array of strings")
    return tuple(values)


def _wrong(path: str, key: str, what: str) -> InputError:
    return InputError(f"{printable(path)}: {key} is not {what}", "correct it: CRI-O can't start")
