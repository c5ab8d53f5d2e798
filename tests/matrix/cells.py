# SPDX-License-Identifier: Apache-2.0
"""The cells of the matrix, and what may differ in each from podman's own pull, with the reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tests.matrix.host import FOREIGN
from tests.matrix.listing import UNREADABLE
from tests.support.comparison import RULES, Difference, Rule, Tree, parents
from tests.support.ducc_losses import PUBLISHED

#: How the kernel shows an owner that a user namespace doesn't map.
UNMAPPED = 65534


@dataclass(frozen=True)
class Cell:
    """One combination.

    ``rootless``; ``fuse``: mounted by fuse-overlayfs; ``view`` flat, layers or exact; ``owner`` of
    the repository's files (see ``site.OWNERS``); ``own``: the store is the user's, written by the
    user, else root's; ``layout``: sync's ``--overlay``; ``mountopt``: storage.conf's;
    ``with_users``: root shares the store, and looks into it. ``mount``: the repository is as
    DUCC leaves it and as CernVM-FS's client shows it, else it is a plain directory of ours.
    """

    rootless: bool
    fuse: bool
    view: str
    owner: str = "root"
    own: bool = False
    layout: str = "kernel"
    mountopt: str = ""
    with_users: bool = False
    mount: bool = False

    @property
    def shared(self) -> bool:
        """Whether users can read the store of root."""
        return self.with_users or (self.rootless and not self.own)

    @property
    def name(self) -> str:
        """As in ``--only`` and in the table."""
        words = ["rootless" if self.rootless else "root", "fuse" if self.fuse else "kernel"]
        words += [self.view, f"owner:{self.owner}"]
        words += ["own-store"] if self.own else []
        words += ["fuse-layout"] if self.layout != "kernel" else []
        words += [self.mountopt] if self.mountopt else []
        words += ["shared"] if self.with_users else []
        words += ["mount"] if self.mount else []
        return " ".join(words)


#: The exact view, on a mount with a stranger's files, and in plain directories of root's.
EXACT = (
    Cell(False, False, "exact", "foreign", mountopt="metacopy=on", mount=True),
    Cell(False, False, "exact", mountopt="metacopy=on"),
)


def cells() -> Iterator[Cell]:
    """All combinations that make sense, in plain directories and on a mount."""
    for cell in _plain_cells():
        yield cell
        if _is_on_mounts(cell):
            yield replace(cell, mount=True)
    yield from EXACT


def _is_on_mounts(cell: Cell) -> bool:
    """Whether mounts show such files: one user's, or a merged root with those of the image. Root
    makes no store of what a user has mounted: nobody else sees that."""
    if cell.owner == "root":
        return cell.view == "flat" and not cell.rootless
    return cell.owner == "foreign" or cell.own


def _plain_cells() -> Iterator[Cell]:
    """
    Merged roots are right on fuse-overlayfs whatever the layout; layers need the layout for it,
    since it takes a whiteout named ``.wh..wh..opq``, which hides that marker from the kernel, for
    the marker itself.
    """
    for owner in ("root", "foreign"):
        for view in ("flat", "layers"):
            yield Cell(False, False, view, owner)
            yield Cell(False, True, view, owner, layout=_fuse_layout(view))
            yield Cell(False, False, view, owner, with_users=True)
    for owner in ("user", "root", "foreign"):
        for view in ("flat", "layers"):
            for own in (False, True):
                yield Cell(True, False, view, owner, own)
                yield Cell(True, True, view, owner, own, _fuse_layout(view))
            if owner == "foreign":
                yield Cell(True, True, view, owner, True, _fuse_layout(view), "squash_to_root")


def _fuse_layout(view: str) -> str:
    return "kernel" if view == "flat" else "fuse-overlayfs"


def foreign_owners(each: Difference, wanted: Tree, seen: Tree) -> bool:
    """A CernVM-FS client shows its files as owned by one user, and podman mounts what it shows."""
    return each.field in ("uid", "gid") and ((seen[each.path].uid, seen[each.path].gid) == FOREIGN)


def guessed_owners(each: Difference, wanted: Tree, seen: Tree) -> bool:
    """Where all files are shown as one user's, nobody can tell whose a directory is. Local ones are
    root's then, but for those of the image's USER."""
    is_local = seen[each.path].kind == "directory" and seen[each.path].uid == 0
    return each.field in ("uid", "gid") and is_local and each.seen == 0


def writers_own(each: Difference, wanted: Tree, seen: Tree) -> bool:
    """In a store that root shares, local directories are root's, and closed to others' writing.
    Those of other owners and modes are left to the repository, but where they hold markers."""
    if seen[each.path].kind != "directory" or seen[each.path].uid != 0:
        return False
    if each.field == "mode":
        return bool(each.seen == each.wanted & ~0o022)
    return each.field in ("uid", "gid") and each.seen == 0


def no_capabilities(each: Difference, wanted: Tree, seen: Tree) -> bool:
    """A repository that isn't root's has lost file capabilities: CernVM-FS drops them, and so does
    a change of owner."""
    return each.field == "xattrs" and each.seen == tuple(
        pair for pair in each.wanted if pair[0] != "security.capability"
    )


def lost_bits(each: Difference, wanted: Tree, seen: Tree) -> bool:
    """DUCC loses the setuid, setgid and sticky bits of merged roots, and gives a file without any
    bit to its owner."""
    return each.field == "mode" and each.seen == (each.wanted & 0o777 or 0o600)


def left_by_ducc(each: Difference, wanted: Tree, seen: Tree) -> bool:
    """DUCC puts a marker for CernVM-FS into each merged root and each layer, and in merged roots
    links have the time of publication."""
    if each.field == "extra":
        return each.path == b".cvmfscatalog"
    is_link = each.field == "mtime" and wanted[each.path].kind == "link"
    return is_link and bool(each.seen == PUBLISHED * 1_000_000_000)


def lost_in_repositories(each: Difference, wanted: Tree, seen: Tree) -> bool:
    """CernVM-FS as DUCC fills it has no hard links and no extended attributes."""
    return (each.field == "nlink" and each.seen == 1) or (each.field == "xattrs" and not each.seen)


def unmapped_owners(each: Difference, wanted: Tree, seen: Tree) -> bool:
    """A user namespace shows owners that it doesn't map as nobody."""
    return each.field in ("uid", "gid") and each.seen == UNMAPPED


def squashed_owners(each: Difference, wanted: Tree, seen: Tree) -> bool:
    """fuse-overlayfs was told to show every file as root's."""
    return each.field in ("uid", "gid") and each.seen == 0


def users_own(each: Difference, wanted: Tree, seen: Tree) -> bool:
    """The user's own files are root's in the user's namespace."""
    return each.field in ("uid", "gid") and each.seen == 0


def skeleton(each: Difference, wanted: Tree, seen: Tree) -> bool:
    """The directories of a skeleton are the user's own, made at the sync."""
    if each.field not in ("uid", "gid", "mtime") or seen[each.path].kind != "directory":
        return False
    return seen[each.path].uid == seen[each.path].gid == 0


def account_copies(each: Difference, wanted: Tree, seen: Tree) -> bool:
    """Copies of account files are the user's own. In the place of one that the user can't read
    there is one in which all passwords are locked."""
    if not each.path.startswith((b"etc/passwd", b"etc/group", b"etc/shadow", b"etc/gshadow")):
        return False
    is_closed = each.path in wanted and not wanted[each.path].mode & 0o004
    if each.field in ("content", "size"):
        return is_closed and each.path.endswith(b"shadow")
    if each.field == "missing":
        return is_closed and each.path.endswith(b"shadow-")
    return each.field in ("uid", "gid") and seen[each.path].uid == seen[each.path].gid == 0


def opened(each: Difference, wanted: Tree, seen: Tree) -> bool:
    """A skeleton can't give a directory to the image's USER, so it opens it to everybody."""
    return (
        each.field == "mode"
        and each.path in (b"opt/app", b"home/app")
        and each.seen == 0o1777
        and seen[each.path].uid == 0
    )


def not_looked_up(each: Difference, wanted: Tree, seen: Tree) -> bool:
    """Where several layers hold a directory that the user can't read, kernel overlayfs refuses to
    look it up: it must ask each, with the user's rights, whether it is opaque."""
    if each.field in ("missing", "extra") or seen[each.path].kind != UNREADABLE:
        return False
    return wanted[each.path].kind == "directory" and not wanted[each.path].mode & 0o004


def as_pulled_there(there: Tree) -> Rule:
    """podman's own pull on fuse-overlayfs shows the same: one link of a file with several, and of
    a file and its whiteout in one layer the whiteout. ``there`` is what it shows."""

    def rule(each: Difference, wanted: Tree, seen: Tree) -> bool:
        if each.field == "missing":
            return each.path not in there
        return each.path in there and getattr(there[each.path], each.field, None) == each.seen

    return rule


def _closed(path: bytes, wanted: Tree) -> bool:
    """Whether a directory above lets nobody in but its owner."""
    return any(wanted[p].mode & 0o005 != 0o005 for p in parents(path) if p in wanted)


def unreadable_files(each: Difference, wanted: Tree, seen: Tree) -> bool:
    """What its mode keeps from others, an ordinary user can't read in the repository either: the
    content of a file, the entries of a directory."""
    if each.field == "missing":
        return _closed(each.path, wanted)
    if each.field in ("content", "xattrs"):
        unread = seen[each.path].content.startswith(UNREADABLE)
        return unread and not wanted[each.path].mode & 0o004
    return False


def rules(cell: Cell, layers: int, there: Tree | None = None) -> Sequence[Rule]:
    """What may differ in a cell from podman's own pull on kernel overlay, of an image of so many
    ``layers``; ``there`` is what its pull shows on the cell's own overlay."""
    found = list(RULES[cell.view])
    if cell.view == "exact":
        return found
    if there is not None:
        found.append(as_pulled_there(there))
    if cell.owner != "root":
        found.append(no_capabilities)
    if cell.mount:
        found += [left_by_ducc, lost_in_repositories]
        found += [lost_bits] if cell.view == "flat" else []
    if cell.with_users and cell.view == "layers":
        found.append(writers_own)
    if not cell.rootless:
        return [*found, foreign_owners, guessed_owners] if cell.owner == "foreign" else found
    if cell.owner == "user":
        return [*found, users_own, opened] if cell.own else [*found, users_own]
    found += [unmapped_owners, unreadable_files]
    if cell.own:
        found += [skeleton, opened, account_copies]
    # Below the merged root of one layer lies an empty one, for builds to be right.
    if (cell.view == "layers" or layers == 1) and not cell.fuse:
        found.append(not_looked_up)
    if cell.mountopt:
        found.append(squashed_owners)
    return found
