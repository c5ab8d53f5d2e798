# SPDX-License-Identifier: Apache-2.0
"""What containers do to files: a family of changes, and the images that they are made in.

Each change of ``TREES`` has a directory of its own, ``/c/<name>``, that looks the same for all. So
one container makes all of them, and the path of a wrong file names the change. ``SYSTEM`` are the
changes of directories that every image has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tests.support.images import LAYERS, Image
from tests.support.layers import Entry, directory, file, hardlink, opaque, symlink, whiteout

#: Name -> the commands, run in ``/c/<name>``. There are the directories ``d`` (with ``d/sub``) and
#: ``e`` (empty), the file ``f``, the link ``l``, the hard links ``h1`` and ``h2``.
TREES: Mapping[str, str] = {
    # Removed and made again.
    "remake": "rm -r d; mkdir d",
    "remake-filled": "rm -r d; mkdir -p d/sub; echo new > d/new; echo new > d/sub/new",
    "remake-same-names": "rm -r d; mkdir d; echo new > d/b; echo new > d/sub",
    "remake-below": "rm -rf d/sub; mkdir d/sub",
    "remake-twice": "rm -r d; mkdir d; echo x > d/b; rm -r d; mkdir d",
    "remake-closed": "rm -r d; mkdir -m 0700 d; echo x > d/x",
    "remake-file": "rm f; echo new > f",
    "remake-all": "cd /; rm -r /c/remake-all; mkdir -p /c/remake-all/d/sub",
    "parent-gone-child-made": "rm -r d; mkdir -p d/sub",
    "opaque-in-opaque": "rm -r d; mkdir -p d/sub; rm -r d/sub; mkdir d/sub; echo x > d/sub/x",
    "emptied": "rm -r d/*",
    "removed": "rm -r d; rm f l h1",
    # Moved.
    "move": "mv d moved",
    "move-and-remake": "mv d moved; mkdir d",
    "move-there-and-back": "mv d moved; mv moved d",
    "move-into": "mv d e/d",
    "move-out": "rm -rf d/sub/never; mkdir -p d/sub; mv d/sub sub; rm -r d; mkdir d",
    "move-onto-removed": "rm -r e; mv d e",
    "swap": "mv d x; mv e d; mv x e",
    "move-file": "mv f g",
    "move-file-and-remake": "mv f g; echo new > f",
    "move-file-over": "echo new > n; mv n f",
    "move-link": "mv l k",
    # Replaced by another type.
    "directory-to-file": "rm -r d; echo file > d",
    "directory-to-link": "rm -r d; busybox ln -s e d",
    "directory-to-file-and-back": "rm -r d; echo x > d; rm d; mkdir d",
    "file-to-directory": "rm f; mkdir f; echo in > f/in",
    "file-to-link": "rm f; busybox ln -s e f",
    "link-to-directory": "rm l; mkdir l; echo x > l/x",
    "link-to-other-link": "rm l; busybox ln -s d l",
    # Attributes alone.
    "chmod-file": "chmod 0640 f",
    "chmod-directory": "chmod 0711 d",
    "chown-file": "chown 1234:1234 f",
    "chown-directory": "chown 1234:1234 d",
    "touch": "touch -d @1500000000 f",
    "touch-directory": "touch -d @1500000000 d",
    # Hard links, content, new ones.
    "link-made": "busybox ln f g",
    "link-made-and-first-removed": "busybox ln f g; rm f",
    "link-broken": "echo more >> h1",
    "link-replaced": "rm h1; echo new > h1",
    "link-removed": "rm h2",
    "append": "echo more >> f",
    "truncate": ": > f",
    "new": "mkdir -p n/a/b; echo x > n/a/b/c; echo x > d/new; mkdir d/newer",
}

#: Of an image's usual directories: closed ones, those with the sticky bit, those that a container
#: gets something mounted on or copied up in.
SYSTEM: Mapping[str, str] = {
    "root": "cd /root; mkdir -p new/sub; echo x > new/sub/x; rm .profile; echo x > .profile",
    "etc": "echo x > /etc/new; rm /etc/group; echo x >> /etc/passwd; mkdir -p /etc/d/d",
    "shadow": "chmod 0640 /etc/shadow",
    "home": "rm -r /home; mkdir -p /home/app /home/new; echo x > /home/new/x",
    "opt": "rm -r /opt; mkdir /opt; echo x > /opt/x",
    "data": "rm -r /var/lib/data; mkdir -m 0700 /var/lib/data",
    "old": "mv /var/lib/old /var/lib/young; mkdir /var/lib/old",
    "share": "rm -r /usr/share; mkdir -p /usr/share/thing",
    "usr": "mkdir -p /usr/local/bin; echo x > /usr/local/bin/x",
    "tmp": "echo x > /tmp/x; mkdir -m 0700 /tmp/d",
    "srv": "rm -rf /srv /mnt /media; mkdir /srv; echo x > /srv/x",
    "workdir": "cd /work; rm -r d; mkdir d; echo x > x; rm f",
}

#: The same in all directories of ``TREES``, for a container of the image that was made first.
ONCE_MORE = "if [ -e d ]; then rm -r d; mkdir -p d/sub; echo again > d/again; fi; rm -rf f; mkdir f"
_SECOND_SYSTEM: Mapping[str, str] = {
    "root": "rm -r /root/new; mkdir /root/new",
    "opt": "rm -r /opt; mkdir /opt; mkdir /opt/app",
    "home": "mv /home /homes; mkdir /home",
    "data": "rm -r /var/lib; mkdir -p /var/lib/data",
    "workdir": "rm -r /work/d; mkdir -p /work/d/e",
}


def first() -> str:
    """The shell script of all changes; it prints the names of those that fail."""
    trees = {name: f"cd /c/{name}; {commands}" for name, commands in TREES.items()}
    return _script({**trees, **SYSTEM})


def second() -> str:
    """The script that changes again what ``first`` has left."""
    trees = {name: f"cd /c/{name}; {ONCE_MORE}" for name in TREES}
    return _script({**trees, **_SECOND_SYSTEM})


def for_diff() -> str:
    """The script without the changes at which ``podman diff`` fails on any image: it looks for old
    names below what is a file by now, and for new ones below what was one."""
    trees = {
        name: f"cd /c/{name}; {commands}"
        for name, commands in TREES.items()
        if "-to-" not in name and name != "remake-same-names"
    }
    return _script({**trees, **SYSTEM})


def few() -> str:
    """A few of the changes, the worst."""
    names = ("remake", "opaque-in-opaque", "move-and-remake", "file-to-directory", "chmod-file")
    trees = {name: f"cd /c/{name}; {TREES[name]}" for name in names}
    return _script({**trees, **{name: SYSTEM[name] for name in ("root", "data", "workdir")}})


def paths_of(change: str) -> tuple[bytes, ...]:
    """The paths that a change has to do with."""
    if change in TREES:
        return (f"c/{change}".encode(),)
    return {
        "root": (b"root",),
        "etc": (b"etc",),
        "shadow": (b"etc/shadow",),
        "home": (b"home", b"homes"),
        "opt": (b"opt",),
        "data": (b"var/lib",),
        "old": (b"var/lib",),
        "share": (b"usr/share",),
        "usr": (b"usr/local",),
        "tmp": (b"tmp",),
        "srv": (b"srv", b"mnt", b"media"),
        "workdir": (b"work",),
    }[change]


def _script(changes: Mapping[str, str]) -> str:
    # These two are no commands in the images.
    head = 'chmod() { busybox chmod "$@"; }; chown() { busybox chown "$@"; }\n'
    # In front of || a shell takes no notice of -e.
    lines = [
        f"(set -e; {text}) 2>/dev/null; [ $? = 0 ] || echo {name}" for name, text in changes.items()
    ]
    return head + "\n".join(lines) + "\n"


def _each(*make: Iterable[Entry]) -> list[Entry]:
    return [entry for entries in make for entry in entries]


def _tree(top: str) -> list[Entry]:
    return [
        directory(top),
        directory(f"{top}/d"),
        file(f"{top}/d/a", "a\n"),
        file(f"{top}/d/b", "b\n"),
        directory(f"{top}/d/sub"),
        file(f"{top}/d/sub/deep", "deep\n"),
        directory(f"{top}/e"),
        file(f"{top}/f", "f\n"),
        symlink(f"{top}/l", "f"),
        file(f"{top}/h1", "linked\n"),
        hardlink(f"{top}/h2", f"{top}/h1"),
    ]


def _tops() -> list[str]:
    return [*(f"c/{name}" for name in TREES), "work"]


LAYERS["changes"] = [directory("c"), *_each(*(_tree(top) for top in _tops()))]
LAYERS["changes-upper"] = _each(
    *([file(f"{t}/d/up", "up\n"), file(f"{t}/f", "upper f\n"), file(f"{t}/d/sub/up", "up\n")]
      for t in _tops())
)  # fmt: skip
LAYERS["changes-delete"] = _each(
    *([whiteout(f"{t}/d/a"), file(f"{t}/d/b", "kept\n"), whiteout(f"{t}/d/sub")] for t in _tops())
)
LAYERS["changes-opaque"] = _each(
    *([directory(f"{t}/d"), opaque(f"{t}/d"), file(f"{t}/d/only", "only\n")] for t in _tops())
)
LAYERS["changes-opaque-inside"] = _each(
    *([directory(f"{t}/d"), directory(f"{t}/d/sub"), opaque(f"{t}/d/sub"),
       file(f"{t}/d/sub/only", "only\n")] for t in _tops())
)  # fmt: skip
LAYERS["changes-whole"] = [*LAYERS["base"], *LAYERS["changes"]]

_SH = {"Env": ["PATH=/bin"], "Cmd": ["sh"], "WorkingDir": "/work"}
_APP = {**_SH, "User": "app", "WorkingDir": "/work/d", "Volumes": {"/data": {}}}

IMAGES = [
    Image("ch/one:1", ["changes-whole"], _SH),
    Image("ch/plain:1", ["base", "changes"], _SH),
    Image("ch/upper:1", ["base", "changes", "changes-upper"], _SH),
    Image("ch/delete:1", ["base", "changes", "changes-delete"], _SH),
    Image("ch/opaque:1", ["base", "changes", "changes-opaque"], _SH),
    Image("ch/nested:1", ["base", "changes", "changes-opaque-inside", "changes-upper"], _APP),
    Image(
        "ch/all:1",
        [
            *("base", "changes", "delete", "changes-delete", "changes-upper", "opaque"),
            *("changes-opaque", "again", "changes-upper", "changes-delete", "app"),
        ],
        _SH,
    ),
]
#: A short form that has a plain layer, whiteouts and opaque directories.
FEW = ("ch/plain:1", "ch/delete:1", "ch/nested:1")
