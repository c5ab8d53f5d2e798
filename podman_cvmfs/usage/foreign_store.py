# SPDX-License-Identifier: Apache-2.0
"""Reads the records of a graphroot or another store. Its owner may have put anything there.

Sources: containers/storage 1.43 to 1.60 ``containers.go``, ``images.go``, ``layers.go``. Newer
versions have some files of their own, ``volatile-*.json``, for containers made with ``--rm``.
Nothing is locked or written: podman replaces its JSON files by renaming.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.oci.documents import parse_json
from podman_cvmfs.store.layout import IMAGES, IMAGES_JSON, LAYERS, LAYERS_JSON, OVERLAY
from podman_cvmfs.util.foreign_file import read_bounded
from podman_cvmfs.util.probe import bounded_each

T = TypeVar("T")

_CONTAINERS = (
    "overlay-containers/containers.json",
    "overlay-containers/volatile-containers.json",
)
_IMAGES = (f"{IMAGES}/{IMAGES_JSON}",)
_LAYERS = (f"{LAYERS}/{LAYERS_JSON}", f"{LAYERS}/volatile-{LAYERS_JSON}")
#: Larger files are not read, in bytes; a layer takes about 500.
_MAX_JSON = 256 << 20
_MAX_TEXT = 64 << 10
#: Reading one store may take so many seconds; waiting for all that take longer, so many together.
SECONDS, IN_ALL = 60.0, 120.0
#: The values of these keys are IDs.
_TEXTS = ("layer", "parent", "image")


class ForeignStore:
    """The store or graphroot in the directory ``path`` while it is read.

    A missing file counts as empty. ``unreadable`` has a line for each file that can't be read or
    isn't JSON, ``malformed`` one for each file that holds anything besides records. The caller
    reports these lines or ignores them.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.unreadable: list[str] = []
        self.malformed: list[str] = []

    @property
    def problem(self) -> str | None:
        """The first line of ``unreadable``, else of ``malformed``, else None."""
        return next(iter([*self.unreadable, *self.malformed]), None)

    def containers(self) -> Iterator[dict[str, Any]]:
        """The records of containers. In each record, ``id`` is a text, and so are ``layer``,
        ``parent`` and ``image`` if it has them; the rest may be anything."""
        return self._records(_CONTAINERS)

    def images(self) -> Iterator[dict[str, Any]]:
        """The records of images, as ``containers`` gives them."""
        return self._records(_IMAGES)

    def layers(self) -> Iterator[dict[str, Any]]:
        """The records of layers, as ``containers`` gives them."""
        return self._records(_LAYERS)

    def overlay_names(self) -> list[str]:
        """The names in the directory of all layers' files."""
        path = f"{self.path}/{OVERLAY}"
        try:
            return os.listdir(path)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as err:
            self._fail(path, err)
            return []

    def overlay_text(self, layer_id: str, name: str) -> str | None:
        """What the file ``name`` of a layer holds, without white space around it; None if there is
        none or it can't be read."""
        path = f"{self.path}/{OVERLAY}/{layer_id}/{name}"
        try:
            return read_bounded(path, _MAX_TEXT).decode("utf-8", "replace").strip()
        except (FileNotFoundError, NotADirectoryError, ValueError):
            # A ValueError: no file has a name with NUL.
            return None
        except OSError as err:
            self._fail(path, err)
            return None

    def _records(self, files: Sequence[str]) -> Iterator[dict[str, Any]]:
        for name in files:
            path = f"{self.path}/{name}"
            try:
                records = parse_json(read_bounded(path, _MAX_JSON), printable(path))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (OSError, InputError) as err:
                self._fail(path, err)
                continue
            is_whole = True
            for record in records if isinstance(records, list) else [records]:
                if _is_record(record):
                    yield record
                # Go writes an empty array as null.
                elif record is not None:
                    is_whole = False
            if not is_whole:
                self.malformed.append(f"{printable(path)}: its content is not what podman writes")

    def _fail(self, path: str, err: OSError | InputError) -> None:
        reason = err.message if isinstance(err, InputError) else err.strerror or str(err)
        path = printable(path)
        self.unreadable.append(reason if path in reason else f"{path}: {reason}")


def read_each(
    look: Callable[[ForeignStore], T], paths: Sequence[str]
) -> Iterator[tuple[str, T | None]]:
    """Each of these ``paths`` with what ``look`` returns for the store there, which must be
    picklable; None if reading it takes too long, as on a file system that doesn't answer."""
    found = bounded_each(lambda path: look(ForeignStore(path)), paths, SECONDS, IN_ALL)
    return zip(paths, found)


def too_slow() -> str:
    """The message about a store for which ``read_each`` has None."""
    return f"reading it takes more than {SECONDS:g} seconds"


def _is_record(record: object) -> bool:
    return (
        isinstance(record, dict)
        and isinstance(record.get("id"), str)
        and all(isinstance(record.get(key, ""), str) for key in _TEXTS)
    )


def name_of(record: dict[str, Any]) -> str:
    """What to call the image or container of ``record``: its name, or its ID cut short."""
    names = record.get("names")
    if isinstance(names, list) and names:
        return str(names[0])
    return str(record["id"])[:12]
