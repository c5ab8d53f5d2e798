# SPDX-License-Identifier: Apache-2.0
"""Which deeds fail in which cells on an emulated CernVM-FS mount, with which words, and why.

What isn't here works. ``to_mend``: it needn't fail; who mends it removes it here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.matrix import deeds
from tests.matrix.bench import Bench, Outcome
from tests.matrix.cells import Cell
from tests.matrix.site import SyncError


@dataclass(frozen=True)
class Failure:
    """The ``deeds`` fail in the cells ``where``, with one of ``words``, in capitals or not. ``why``
    is for readers. ``podmans`` are the versions that fail, by their first figures; "" is all.
    """

    deeds: tuple[str, ...]
    where: Callable[[Cell], bool]
    words: tuple[str, ...]
    why: str
    to_mend: bool = True
    podmans: tuple[str, ...] = ("",)


def _strange(cell: Cell) -> bool:
    return cell.rootless and cell.owner == "foreign"


def _strange_kernel(cell: Cell) -> bool:
    return _strange(cell) and not cell.fuse


def _strange_flat_kernel(cell: Cell) -> bool:
    return _strange_kernel(cell) and cell.view == "flat"


def _is_roots_store(cell: Cell) -> bool:
    return not cell.rootless


def _claimed_by_root(cell: Cell) -> bool:
    return not cell.rootless and cell.owner == "foreign"


def _own_files(cell: Cell) -> bool:
    return cell.rootless and cell.owner == "user"


def _one_owner(cell: Cell) -> bool:
    return cell.owner != "root"


def _closed_to_app(cell: Cell) -> bool:
    return _claimed_by_root(cell) or _own_files(cell)


def _no_setuid(cell: Cell) -> bool:
    return cell.view == "flat" or cell.owner == "foreign"


def _su_of_a_stranger(cell: Cell) -> bool:
    return cell.view == "layers" and cell.owner == "foreign" and (cell.fuse or not cell.rootless)


def _bits_lost(cell: Cell) -> bool:
    return cell.view == "flat"


def _everywhere(cell: Cell) -> bool:
    return True


_DENIED = ("permission denied",)
_GONE = ("permission denied", "no such file")
_REFUSED = ("permission denied", "operation not permitted")
_BUILDS = (
    "build: RUN, on one layer",
    "build: RUN, on two layers",
    "build: RUN and COPY, on layers that delete",
    "build: RUN that removes a file",
    "build: USER that writes in its home",
    "commit",
)
#: containers/storage while it copies a layer that holds what the user can't read.
_NO_COPY = ("unexpected EOF", "permission denied")

FAILURES = (
    # What the image's own user does.
    Failure(
        ("app: appends to a file of its home",),
        _closed_to_app,
        _DENIED,
        "the file is shown as another user's",
    ),
    Failure(
        ("app: appends to a file of its home",),
        _strange,
        ("its content is gone",),
        "the file is closed to the user, and a new one is in its place",
    ),
    Failure(
        ("app: reads its closed files",),
        _one_owner,
        _GONE,
        "the file is shown as another user's, and closed to the image's",
    ),
    Failure(
        ("app: writes in another directory of its own",),
        _one_owner,
        _DENIED,
        "the directory is shown as another user's",
    ),
    Failure(
        ("app: runs a setuid program (su)",),
        _no_setuid,
        ("must be suid",),
        "merged roots have lost the bit; in layers the program runs as the owner that is shown",
    ),
    # What root does.
    Failure(
        ("root: becomes another user (su)", "run: su as root, on one layer"),
        _su_of_a_stranger,
        ("can't set groups: Operation not permitted",),
        "`su` is setuid and runs as the owner that is shown, not as root",
    ),
    Failure(
        ("root: writes in a sticky directory of the image",),
        _bits_lost,
        ("mode 777",),
        "merged roots have lost the sticky bit",
    ),
    Failure(
        (
            "root: makes a file in a system directory",
            "root: appends to a file",
            "root: removes a directory",
            "root: renames a directory",
            "root: changes owner and mode",
            "root: replaces a file (as dpkg)",
            "root: keeps a database (as dpkg)",
        ),
        _strange_kernel,
        _REFUSED,
        "the files are a stranger's; only local directories can be written",
    ),
    Failure(
        (
            "root: makes a file in a directory of a package",
            "root: removes a file",
            "cp: into a container",
        ),
        _strange_flat_kernel,
        _REFUSED,
        "the files are a stranger's; only local directories can be written",
    ),
    Failure(
        ("root: reads closed files of others", "cp: a closed file out of a container"),
        _strange,
        _GONE,
        "the files are closed to the user",
    ),
    # What podman does.
    Failure(
        ("run: --userns=auto", "run: --uidmap"),
        _is_roots_store,
        ("no such file or directory",),
        "podman looks for the layers where it mounts them with other IDs, and finds nothing",
        podmans=("4.", "5.4."),
    ),
    Failure(
        ("run: --userns=keep-id",),
        _is_roots_store,
        ("no such file or directory", "only supported in rootless mode"),
        "podman 4 has it for users only; podman 5.4 doesn't find the layers (as with auto)",
        podmans=("4.", "5.4."),
    ),
    Failure(
        _BUILDS,
        _strange,
        _NO_COPY,
        "podman copies the image's layers, and some files are closed to the user",
    ),
    Failure(
        ("export",),
        _strange,
        ("Unexpected EOF in archive",),
        "podman says nothing, but the archive ends at the first file that is closed to the user",
    ),
    Failure(
        ("save", "push"),
        _everywhere,
        ("Digest did not match", "write too long"),
        "a layer's tar can't be made again byte by byte from its files",
        to_mend=False,
    ),
    Failure(
        ("save: what was built", "push: what was built"),
        lambda cell: not _strange(cell),
        ("Digest did not match",),
        "a layer's tar can't be made again byte by byte from its files",
    ),
    Failure(
        ("save: what was built", "push: what was built"),
        _strange,
        ("nothing was built",),
        "it could not be built",
    ),
    Failure(
        ("pull: an image on a layer of the store",),
        _strange,
        ("is fetched again",),
        "the layer holds what is closed to the user, and podman couldn't commit what stands on it",
        to_mend=False,
    ),
)


def stated(deed: str, cell: Cell, version: str) -> Failure | None:
    """How the deed fails in a cell with podman ``version``; None if it works."""
    found = [
        each
        for each in FAILURES
        if deed in each.deeds and each.where(cell) and version.startswith(each.podmans)
    ]
    assert len(found) <= 1, f"{deed}, {cell.name}: stated twice"
    return found[0] if found else None


def unlike(done: deeds.Done, cell: Cell, version: str) -> Iterator[str]:
    """What came out otherwise than stated."""
    for name in deeds.names():
        failure, said = stated(name, cell, version), done[name]
        if failure is None and said:
            yield f"{name} fails: {said}"
        elif failure is not None and not said:
            yield f"{name} works, but should fail: {failure.why}"
        elif failure is not None and not any(
            words.lower() in said.lower() for words in failure.words
        ):
            yield f"{name} fails with other words: {said}"


def run(bench: Bench, cell: Cell) -> Outcome:
    """Do all deeds in a cell and hold them against what is stated."""
    outcome = Outcome()
    try:
        done = deeds.do(bench, cell)
    except SyncError as err:
        outcome.problems.append(f"sync: {err}")
        return outcome
    outcome.problems += unlike(done, cell, bench.version)
    outcome.images = sum(not said for said in done.values())
    outcome.said = f"{outcome.images} of {len(done)} work"
    return outcome
