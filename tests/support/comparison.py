# SPDX-License-Identifier: Apache-2.0
"""The images that both views are tried on, and what may differ from podman's own pull, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Callable

from tests.support.images import LAYERS, Image, deep
from tests.support.layers import MTIME, directory, file, opaque, whiteout
from tests.support.lister import Entry

#: Singularity's files, which the publisher puts into every merged root.
ADDED = (b".singularity.d", b".exec", b".run", b".shell", b".test", b"environment", b"singularity")
#: Files and mount points that the publisher, like DUCC, makes where an image has none.
MADE = (b"etc/hosts", b"etc/resolv.conf", b"var/tmp", b"run", b"mnt", b"media", b"srv", b"lib")

LAYERS.update(
    {
        "both": [
            whiteout("var/lib/data/a"),
            file("var/lib/data/a", "made anew\n"),
            file("var/lib/data/e", "new\n"),
        ],
        "opaque-outside": [
            directory("var/lib", 0o750),
            opaque("var/lib"),
            directory("var/lib/data"),
            file("var/lib/data/z", "kept\n"),
        ],
        "opaque-inside": [
            directory("var/lib", 0o750),
            directory("var/lib/data", 0o711, 1234),
            opaque("var/lib/data"),
            file("var/lib/data/y", "only this\n"),
        ],
        "delete-all": [whiteout("var/lib"), whiteout("opt")],
        "delete-nothing": [whiteout("var/lib/never")],
        "delete-deep": [whiteout("var/lib"), whiteout("var/lib/data"), whiteout("var/lib/data/a")],
        "remake": [
            directory("var/lib", 0o700, 1234),
            file("var/lib/mine", "mine\n", 0o600, 1234),
        ],
        "whiteout-name": [file("opt/.wh.odd..name", ""), file("opt/wh.plain", "x\n")],
        "aufs": [file(".wh..wh.aufs", ""), directory(".wh..wh.plnk"), file("opt/f", "f\n")],
    }
)

_SH = {"Env": ["PATH=/bin"], "Cmd": ["ls", "/"]}
EXTRA = [
    Image("v/both:1", ["base", "both"], _SH),
    Image("v/nested-opaque:1", ["base", "opaque-outside", "opaque-inside"], _SH),
    Image("v/nested-opaque:2", ["base", "opaque-inside", "opaque-outside"], _SH),
    Image("v/delete-all:1", ["base", "app", "delete-all"], _SH),
    Image("v/delete-nothing:1", ["base", "delete-nothing"], _SH),
    Image("v/delete-deep:1", ["base", "delete-deep"], _SH),
    Image("v/remade:1", ["base", "delete-all", "remake"], _SH),
    Image("v/remade:2", ["base", "delete-all", "remake", "delete-all", "remake"], _SH),
    Image("v/names:1", ["base", "whiteout-name"], _SH),
    Image("v/aufs:1", ["base", "aufs"], _SH),
    Image("v/alternating:1", ["base", "delete", "again", "delete", "again", "delete"], _SH),
    Image("v/turning:1", ["base", "turn", "turn-back", "turn", "turn-back", "turn"], _SH),
    Image("v/markers-in-base:1", ["both", "base"], _SH),
    deep(9),
]


def dated(wanted: dict[bytes, Entry], seen: dict[bytes, Entry]) -> dict[bytes, Entry]:
    """``seen``, with the time podman made them for directories that no layer lists: these have
    the time of unpacking, at every pull another one."""
    return {
        path: replace(entry, mtime=wanted[path].mtime)
        if entry.kind == "directory"
        and path in wanted
        and wanted[path].mtime != MTIME * 1_000_000_000
        else entry
        for path, entry in seen.items()
    }


@dataclass(frozen=True)
class Difference:
    """One field of one path; ``field`` is ``missing`` or ``extra`` where only one tree has it."""

    path: bytes
    field: str
    wanted: Any
    seen: Any

    def __str__(self) -> str:
        if self.field in ("missing", "extra"):
            return f"{self.path!r} is {self.field}"
        return f"{self.path!r}: {self.field} is {self.seen!r}, should be {self.wanted!r}"


Tree = Mapping[bytes, Entry]
#: Says whether a difference is expected; gets it with the whole trees, wanted and seen.
Rule = Callable[[Difference, Tree, Tree], bool]

_NAMES = [field.name for field in fields(Entry)]


def differences(wanted: Tree, seen: Tree) -> list[Difference]:
    """All differences, by path."""
    found = []
    for path in sorted({*wanted, *seen}):
        if path not in seen:
            found.append(Difference(path, "missing", wanted[path], None))
        elif path not in wanted:
            found.append(Difference(path, "extra", None, seen[path]))
        else:
            for name in _NAMES:
                old, new = getattr(wanted[path], name), getattr(seen[path], name)
                if old != new:
                    found.append(Difference(path, name, old, new))
    return found


def unexpected(wanted: Tree, seen: Tree, rules: Iterable[Rule]) -> list[Difference]:
    """The differences that no rule expects."""
    rules = list(rules)
    return [
        each
        for each in differences(wanted, seen)
        if not any(rule(each, wanted, seen) for rule in rules)
    ]


def parents(path: bytes) -> Sequence[bytes]:
    """The directories above ``path``, nearest first, the root excepted."""
    found = []
    while b"/" in path:
        path = path.rpartition(b"/")[0]
        found.append(path)
    return found


def root_is_the_containers(each: Difference, wanted: Tree, seen: Tree) -> bool:
    """podman makes a container's root directory itself, when it is first mounted."""
    return each.path == b"."


def undated_directories(each: Difference, wanted: Tree, seen: Tree) -> bool:
    """A directory that no layer lists has the time of unpacking, at every pull another one."""
    return (
        each.field == "mtime"
        and wanted[each.path].kind == "directory"
        and each.wanted != MTIME * 1_000_000_000
    )


def merged(each: Difference, wanted: Tree, seen: Tree) -> bool:
    """A publisher's merging changes the time of directories and adds files for Singularity."""
    if each.field == "mtime":
        return wanted[each.path].kind == "directory"
    added = [*ADDED, *(path for path in MADE if path not in wanted)]
    return each.field == "extra" and any(p in added for p in (each.path, *parents(each.path)))


#: What may differ in each view when nothing else interferes.
RULES: Mapping[str, tuple[Rule, ...]] = {
    "layers": (root_is_the_containers, undated_directories),
    "flat": (root_is_the_containers, merged),
    "exact": (root_is_the_containers, undated_directories),
}
