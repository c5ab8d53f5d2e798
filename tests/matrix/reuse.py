# SPDX-License-Identifier: Apache-2.0
"""Pulls that share layers with the store, and images made from the store's: never a wrong file."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.matrix.bench import Bench, Outcome
from tests.matrix.cells import Cell, rules
from tests.matrix.guest import Guest
from tests.matrix.listing import Listed
from tests.support.comparison import Difference, Rule, Tree, unexpected
from tests.support.images import LAYERS, Image, build, push
from tests.support.layers import directory, file
from tests.support.namespace import CommandError

LAYERS["reuse-new"] = [directory("opt/new"), file("opt/new/file", "new\n")]
#: What layers of the store delete that never stood on it there.
LAYERS["reuse-under"] = [file("var/lib/data/under", "gone\n"), file("var/lib/never", "gone\n")]

_SH = {"Env": ["PATH=/bin"], "Cmd": ["sh"]}
_APP = ["base", "app", "odd-names", "links", "modes"]


@dataclass(frozen=True)
class Shared:
    """An image that only the registry has. Its first ``prefix`` layers are those of an image in
    the store; ``elsewhere`` says that others of its layers are there on other parents."""

    image: Image
    prefix: int
    elsewhere: bool = False


SHARED = [
    Shared(Image("r/all:1", _APP, _SH), 5),
    Shared(Image("r/prefix:1", [*_APP, "reuse-new"], _SH), 5),
    Shared(Image("r/base:1", ["base", "reuse-new"], _SH), 1),
    Shared(Image("r/on-deleted:1", ["base", "delete", "reuse-new"], _SH), 2),
    Shared(Image("r/on-opaque:1", ["base", "opaque", "reuse-new"], _SH), 2),
    Shared(Image("r/on-both:1", ["base", "both", "again", "reuse-new"], _SH), 2),
    Shared(Image("r/moved:1", ["base", "reuse-new", "app"], _SH), 1, True),
    Shared(Image("r/moved-delete:1", ["base", "reuse-new", "delete"], _SH), 1, True),
    Shared(Image("r/moved-opaque:1", ["base", "reuse-new", "opaque", "modes"], _SH), 1, True),
    Shared(Image("r/moved-onto:1", ["base", "reuse-under", "opaque", "modes"], _SH), 1, True),
    Shared(Image("r/moved-nothing:1", ["base", "reuse-under", "delete-nothing"], _SH), 1, True),
    Shared(Image("r/moved-base:1", ["reuse-new", "base"], _SH), 0, True),
    Shared(Image("r/moved-both:1", ["base", "app", "both"], _SH), 2, True),
]

VIEWS = ("auto", "flat", "layers")
REUSES = ("base", "all", "none")


def store(bench: Bench, view: str, reuse: str, fuse: bool = False, mount: bool = False) -> Path:
    """Root's store of all images, laid out so; ``fuse``: for fuse-overlayfs; ``mount``: on the
    emulated mount, whose files are a stranger's."""
    kind = f"{view}-{reuse}{'-fuse' if fuse else ''}{'-m' if mount else ''}"
    path = bench.site.data / f"r-{kind}/store"
    if not path.exists():
        path.parent.mkdir()
        options = ["--view", view, "--reuse", reuse]
        options += ["--overlay", "fuse-overlayfs"] if fuse else []
        repository = bench.site.repository()
        if mount:
            repository = bench.site.shown(repository, "foreign", mount)
        bench.site.sync(repository, path, *options, user=None, version=bench.version)
    return path


def names(bench: Bench, only: Sequence[str] = ()) -> dict[str, Shared]:
    """Push the shared images, or ``only`` these; full name -> image."""
    chosen = [each for each in SHARED if not only or each.image.name in only]
    return {push(build(each.image), bench.site.registry): each for each in chosen}


def plain(bench: Bench, fuse: bool, only: Sequence[str] = ()) -> list[Mapping[str, Listed]]:
    """What containers of the shared images see that are ordinarily pulled; on fuse-overlayfs both
    what they see there and on the kernel's overlayfs."""

    def pull(on_fuse: bool) -> Mapping[str, Listed]:
        images = list(names(bench, only))
        with bench.fresh(fuse=on_fuse) as podman:
            podman.run("pull", "--quiet", *images)
            return podman.listings(images)

    drivers = (True, False) if fuse else (False,)
    return [bench.once(f"reuse {each} {only}", functools.partial(pull, each)) for each in drivers]


def _unlike(
    wanted: list[Mapping[str, Listed]], podman: Guest, name: str, stated: Sequence[Rule]
) -> list[str]:
    """In what a pulled image is unlike all of ``wanted``. On fuse-overlayfs podman itself loses a
    file beside its own whiteout, unless the layer below is a store's."""
    seen = podman.listings([name])[name]
    found = [list(_differences(each[name], seen, stated)) for each in wanted]
    return [line for line in found[0] if all(line in lines for lines in found)]


def pulls(
    bench: Bench,
    view: str,
    reuse: str,
    fuse: bool = False,
    mount: bool = False,
    only: Sequence[str] = (),
) -> Outcome:
    """Pull each shared image, or ``only`` these, next to a store, and compare what came with a
    plain pull; of the layers that the store offers none may be fetched.

    ``fuse``: podman mounts by fuse-overlayfs. ``mount``: the store is on one. ``Outcome.said``
    tells how many bytes of layers in the store were fetched all the same.
    """
    outcome = Outcome()
    images = names(bench, only)
    wanted = plain(bench, fuse, only)
    place, stated = store(bench, view, reuse, fuse, mount), _stated(view, mount)
    again = 0
    for name, shared in images.items():
        built = build(shared.image)
        known = {blob.digest for blob in built.blobs[: shared.prefix]}
        offered = {built.blobs[at].digest for at in _offered(shared, view, reuse)}
        # A fresh podman for each: layers of one pull must not serve the next.
        with bench.fresh(stores=[place], fuse=fuse, mountopt=_mountopt(view)) as podman:
            mark = len(bench.site.registry.since(0))
            done = podman.run("pull", "--quiet", name, check=False)
            fetched = [each for each in bench.site.registry.since(mark) if each.is_blob]
            if done.returncode:
                outcome.problems.append(f"{name}: {done.stderr.strip()}")
                continue
            sizes = {each.path.rpartition("/")[2]: each.size for each in fetched}
            again += sum(size for digest, size in sizes.items() if digest in known)
            needless = sorted(offered.intersection(sizes))
            outcome.add(_path(name), [f"{digest} is fetched again" for digest in needless])
            outcome.add(_path(name), _unlike(wanted, podman, name, stated))
        outcome.images += 1
    outcome.said = f"{outcome.images} same, {again} bytes again"
    return outcome


def _mountopt(view: str) -> str:
    return "metacopy=on" if view == "exact" else ""


def _offered(shared: Shared, view: str, reuse: str) -> list[int]:
    """Which layers of the prefix, from 0, a pull must find in a store. In the exact view all have
    tar-splits."""
    if view == "exact" and reuse != "none":
        return list(range(shared.prefix))
    if reuse == "all":
        names = shared.image.layers[: shared.prefix]
        return [at for at, name in enumerate(names) if not _deletes(name)]
    return [0] if reuse == "base" and shared.prefix else []


def _deletes(layer: str) -> bool:
    """Whether a layer holds whiteouts: its digests are nobody's to find."""
    return any(b"/.wh." in b"/" + entry.path for entry in LAYERS[layer])


_CONTAINERFILE = "FROM {name}\nUSER 0\nRUN echo built > /opt/built && rm -f /var/lib/data/c\n"


def made(bench: Bench, view: str, reuse: str, fuse: bool = False, mount: bool = False) -> Outcome:
    """Build on, commit, save and push images of the store: right, or an error; then pull."""
    outcome = Outcome()
    place, stated = store(bench, view, reuse, fuse, mount), _stated(view, mount)
    said = []
    bases = [bench.site.name(image) for image in ("t/delete:1", "t/app:1", "t/opaque:1")]
    with bench.fresh(fuse=fuse, mountopt=_mountopt(view)) as podman:
        podman.run("pull", "--quiet", *bases)
        wanted = {}
        for name in bases:
            wanted[name] = _build(podman, name)
            committed = _commit(podman, name)
            wanted[f"{name} committed"] = podman.listings([committed])[committed]
    with bench.fresh(stores=[place], fuse=fuse, mountopt=_mountopt(view)) as podman:
        for name in bases:
            carried = [("the store's", name)]
            try:
                seen = _build(podman, name)
            except CommandError as err:
                said.append("build fails")
                outcome.errors.append(f"{_path(name)}: build: {err}")
            else:
                said.append("build works")
                carried.append(("built", "localhost/built"))
                outcome.images += 1
                outcome.add(f"build on {_path(name)}", _differences(wanted[name], seen, stated))
            try:
                committed = _commit(podman, name)
            except CommandError as err:
                said.append("commit fails")
                outcome.errors.append(f"{_path(name)}: commit: {err}")
            else:
                said.append("commit works")
                carried.append(("committed", committed))
                outcome.images += 1
                seen = podman.listings([committed])[committed]
                truth = wanted[f"{name} committed"]
                outcome.add(f"commit of {_path(name)}", _differences(truth, seen, stated))
            for what, image in carried:
                truth = podman.listings([image])[image]
                for how in ("save", "push"):
                    got = _carried(bench, podman, image, how)
                    if isinstance(got, CommandError):
                        said.append(f"{how} fails")
                        outcome.errors.append(f"{_path(name)}: {how} of {what}: {got}")
                    else:
                        said.append(f"{how} works")
                        outcome.images += 1
                        outcome.add(
                            f"{how} of {what} {_path(name)}", _differences(truth, got, stated)
                        )
            podman.run("rmi", "--force", "localhost/built", "localhost/commit", check=False)
        # What builds and commits have copied from the store must be good for pulls, too.
        truths = plain(bench, fuse)
        for name in [name for name, shared in names(bench).items() if shared.elsewhere]:
            podman.run("pull", "--quiet", name)
            outcome.images += 1
            outcome.add(f"then {_path(name)}", _unlike(truths, podman, name, stated))
    outcome.said = f"{outcome.images} same; " + ", ".join(sorted(set(said)))
    return outcome


def _path(name: str) -> str:
    return name.partition("/")[2]


def _build(podman: Guest, name: str) -> Listed:
    context = podman.root / "tmp/context"
    context.mkdir(exist_ok=True)
    (context / "Containerfile").write_text(_CONTAINERFILE.format(name=name))
    options = ("--quiet", "--pull=never", "--isolation=chroot", "--tag=localhost/built")
    podman.run("build", *options, str(context))
    return podman.listings(["localhost/built"])["localhost/built"]


def _commit(podman: Guest, name: str) -> str:
    """Commit a container of the image that has changed something."""
    script = "echo committed > /opt/committed; rm -f /var/lib/data/b"
    entry = ("--entrypoint=/bin/sh", "--user=0")
    container = podman.run("run", "--detach", "--pull=never", *entry, name, "-c", script)
    identity = container.stdout.strip()
    podman.run("wait", identity)
    podman.run("commit", "--quiet", identity, "localhost/commit")
    podman.run("rm", identity)
    return "localhost/commit"


def _carried(bench: Bench, podman: Guest, image: str, how: str) -> Listed | CommandError:
    """What the image is for a podman that gets it by ``save`` or ``push``; else the error."""
    archive = bench.site.data / "carried.tar"
    archive.unlink(missing_ok=True)
    remote = f"{bench.site.registry.address}/carried/{bench.count()}:1"
    try:
        if how == "save":
            podman.run("save", "--quiet", "--output", str(archive), image)
        else:
            podman.run("push", "--quiet", image, remote)
    except CommandError as err:
        return err
    with bench.fresh() as other:
        if how == "save":
            loaded = other.run("load", "--quiet", "--input", str(archive)).stdout
            name = loaded.strip().rpartition(" ")[2]
        else:
            other.run("pull", "--quiet", remote)
            name = remote
        return other.listings([name])[name]


#: What the build, the commit and what they stand in have changed.
_CHANGED = (b"opt/built", b"opt/committed", b"opt", b"var/lib/data", b"etc/mtab")
#: Mount points that a build or a container makes where an image has none.
MOUNT_POINTS = (b"etc/hosts", b"etc/hostname", b"etc/resolv.conf", b"run", b"run/.containerenv")


def _dated_by_itself(each: Difference, wanted: Tree, seen: Tree) -> bool:
    """What a build or a container has changed has the time at which it did."""
    return each.field == "mtime" and each.path in (*_CHANGED, *MOUNT_POINTS)


def _made_by_whom(each: Difference, wanted: Tree, seen: Tree) -> bool:
    """A mount point has another mode if podman makes it than if the publisher has made it."""
    return each.field == "mode" and each.path in MOUNT_POINTS


def _stated(view: str, mount: bool) -> Sequence[Rule]:
    """What may differ from a pull into empty storage."""
    shown = view if view in ("layers", "exact") else "flat"
    # The images have layers enough not to be shown by their only one.
    cell = Cell(False, False, shown, "foreign" if mount else "root", mount=mount)
    return (*rules(cell, layers=2), _dated_by_itself, _made_by_whom)


def _differences(wanted: Listed, seen: Listed, stated: Sequence[Rule]) -> Iterator[str]:
    if isinstance(wanted, str) or isinstance(seen, str):
        yield str(wanted if isinstance(wanted, str) else seen)
        return
    for each in unexpected(wanted, seen, stated):
        yield str(each)
