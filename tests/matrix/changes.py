# SPDX-License-Identifier: Apache-2.0
"""What a container changes, its commit and a build keep: neither more nor less than on an image
that podman has pulled."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.matrix import change_scripts as scripts
from tests.matrix.bench import Bench, Outcome
from tests.matrix.cells import EXACT, Cell, rules
from tests.matrix.guest import Guest
from tests.matrix.host import USER
from tests.matrix.listing import Listed
from tests.matrix.reuse import MOUNT_POINTS
from tests.matrix.site import Site, SyncError
from tests.support.cli import succeed
from tests.support.comparison import Difference, Tree, parents, unexpected
from tests.support.images import build, push
from tests.support.layers import MTIME

#: The cells in which the family is tried. Rootless containers start only from a user's own store
#: where the files are a stranger's; there most changes are refused, the rest must be right.
CELLS = (
    Cell(False, False, "flat"),
    Cell(False, False, "layers"),
    Cell(False, False, "flat", "foreign"),
    Cell(True, False, "flat", "user", True),
    Cell(True, False, "layers", "user", True),
    Cell(True, False, "flat", "foreign", True),
    Cell(True, False, "layers", "foreign", True),
    Cell(False, False, "flat", "foreign", mount=True),
    Cell(False, False, "layers", "foreign", mount=True),
    Cell(True, False, "flat", "foreign", True, mount=True),
    Cell(True, False, "layers", "foreign", True, mount=True),
    Cell(True, False, "layers", "user", True, mount=True),
    *EXACT,
)


#: Kind and path.
_Line = tuple[str, str]


@dataclass
class Changed:
    """What came of the changes in one image, by the way they were made in.

    ``diffs`` is what ``podman diff`` said of the container; ``refused`` are the changes that could
    not be made.
    """

    images: dict[str, Listed] = field(default_factory=dict)
    diffs: frozenset[tuple[str, str]] = frozenset()
    refused: dict[str, frozenset[str]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


def run(bench: Bench, cell: Cell, images: Sequence[str] = (), short: bool = False) -> Outcome:
    """Make the changes in one cell and on pulled images, and compare. ``images`` names some of
    ``change_scripts.IMAGES``, none all of them; ``short``: a few changes, commit and build once."""
    outcome = Outcome()
    built = {image.name: image for image in scripts.IMAGES}
    chosen = list(images or built)
    try:
        store = _store(bench, cell)
    except SyncError as err:
        outcome.problems.append(f"sync: {err}")
        return outcome
    user = USER if cell.rootless else None
    refused: set[str] = set()
    for image in chosen:
        wanted = on_pulled(bench, cell.rootless, image, short, cell.mountopt)
        with bench.fresh(stores=[store], user=user, mountopt=cell.mountopt) as podman:
            seen = make(podman, bench.site.name(image), short)
        outcome.images += 1
        strange = cell.rootless and cell.owner != "user"
        if strange:  # podman must copy what the user may not read: it says so
            outcome.errors += [f"{image}: {error}" for error in seen.errors]
        else:
            outcome.add(image, seen.errors)
        layers = len(built[image].layers)
        outcome.add(image, compare(wanted, seen, cell, layers))
        refused.update(*seen.refused.values())
    outcome.said = f"{outcome.images} same"
    if outcome.errors:
        outcome.said += f", {len(outcome.errors)} commands fail"
    if refused:
        outcome.said += f", {len(refused)} changes refused"
    return outcome


def make(podman: Guest, name: str, short: bool = False) -> Changed:
    """Make the changes in the image ``name``: by commit, again in what was committed, and by a
    build of two layers."""
    found = Changed()
    script = scripts.few() if short else scripts.first()
    if _commit(podman, name, script, "committed", found) and not short:
        _commit(podman, "localhost/committed", scripts.second(), "twice", found)
    _build(podman, name, script, scripts.second(), found, short)
    _differ(podman, name, scripts.for_diff(), found)
    return found


def _commit(podman: Guest, name: str, script: str, way: str, found: Changed) -> bool:
    entry = ("--entrypoint=/bin/sh", "--user=0", "--pull=never", f"--name={way}")
    done = podman.run("run", *entry, name, "-c", script, check=False)
    if _failed(done, f"{way}: run", found):
        return False
    found.refused[way] = frozenset(done.stdout.split())
    image = f"localhost/{way}"
    done = podman.run("commit", "--quiet", way, image, check=False)
    podman.run("rm", way)
    if _failed(done, f"{way}: commit", found):
        return False
    found.images[way] = podman.listings([image])[image]
    return True


def _build(podman: Guest, name: str, script: str, second: str, found: Changed, short: bool) -> None:
    context = podman.root / "tmp/context"
    context.mkdir(exist_ok=True)
    # What fails is seen by what it leaves, and nothing may end the build.
    for number, text in enumerate((script, second)):
        (context / f"{number}.sh").write_text(text)
    lines = [f"FROM {name}", "USER 0", "RUN sh /x/0.sh", *([] if short else ["RUN sh /x/1.sh"])]
    (context / "Containerfile").write_text("\n".join(lines) + "\n")
    options = ("--quiet", "--pull=never", "--isolation=chroot", "--tag=localhost/built")
    volume = f"--volume={context}:/x:ro"
    done = podman.run("build", *options, volume, str(context), check=False)
    if not _failed(done, "build", found):
        found.images["built"] = podman.listings(["localhost/built"])["localhost/built"]


def _differ(podman: Guest, name: str, script: str, found: Changed) -> None:
    entry = ("--entrypoint=/bin/sh", "--user=0", "--pull=never", "--name=differs")
    if _failed(podman.run("run", *entry, name, "-c", script, check=False), "diff: run", found):
        return
    done = podman.run("diff", "--format=json", "differs", check=False)
    if not _failed(done, "diff", found):
        found.diffs = frozenset(_diff(json.loads(done.stdout)))
    podman.run("rm", "differs")


def _failed(done: subprocess.CompletedProcess[str], what: str, found: Changed) -> bool:
    if done.returncode:
        found.errors.append(f"{what}: {done.stderr.strip()[-500:]}")
    return done.returncode != 0


def _diff(document: Mapping[str, Sequence[str] | None]) -> Iterator[tuple[str, str]]:
    """Kind and path of each line, without what podman itself mounts."""
    for kind, paths in document.items():
        for path in paths or ():
            if path.encode().strip(b"/") not in (*MOUNT_POINTS, *_TOUCHED):
                yield kind, path


#: Directories in which podman makes a mount point.
_TOUCHED = (b"etc", b"etc/mtab", b"", b"x", b"data", b"proc", b"sys", b"dev")


def compare(wanted: Changed, seen: Changed, cell: Cell, layers: int) -> Iterator[str]:
    """What is otherwise than on the pulled image."""
    yield from (f"on the pulled image: {error}" for error in wanted.errors)
    refused = {way: names - wanted.refused.get(way, frozenset())
               for way, names in seen.refused.items()}  # fmt: skip
    if not (cell.rootless and cell.owner == "foreign"):
        yield from (f"{way}: {name} is refused" for way in refused for name in sorted(refused[way]))
    lost = {name for names in refused.values() for name in names}
    skipped = [path for name in lost for path in scripts.paths_of(name)]
    for way, truth in wanted.images.items():
        if way not in seen.images:
            continue
        found = seen.images[way]
        if isinstance(truth, str) or isinstance(found, str):
            yield f"{way}: {truth if isinstance(truth, str) else found}"
            continue
        stated = [*rules(cell, layers), dated_by_itself, mount_points]
        for each in unexpected(truth, found, stated):
            if not any(path in skipped for path in (each.path, *parents(each.path))):
                yield f"{way}: {each}"
    if not lost:
        lacks, has = set(wanted.diffs - seen.diffs), set(seen.diffs - wanted.diffs)
        if cell.view == "flat":
            lacks, has = _without_hidden(lacks, has)
        yield from (f"podman diff lacks {kind} {path}" for kind, path in sorted(lacks))
        yield from (f"podman diff has {kind} {path}" for kind, path in sorted(has))


def _without_hidden(lacks: set[_Line], has: set[_Line]) -> tuple[set[_Line], set[_Line]]:
    """The lines without those of what a container has made where an opaque directory hides another.

    podman finds the hidden one in a layer, and says ``changed``; in a merged root it isn't, and
    podman says rightly ``added``, and that the directory above has changed.
    """
    made = {path for kind, path in has if kind == "added" and ("changed", path) in lacks}
    above = {
        ("changed", f"/{directory.decode()}")
        for path in made
        for directory in parents(path.strip("/").encode())
    }
    return (
        {line for line in lacks if line[1] not in made},
        {line for line in has if line[1] not in made and line not in above},
    )


def dated_by_itself(each: Difference, wanted: Tree, seen: Tree) -> bool:
    """What a container has made or changed has the time at which it did."""
    if each.field != "mtime":
        return False
    return bool(min(each.wanted, each.seen) > _NOT_BEFORE)


#: Every time in an image, and every time that a change sets, is earlier.
_NOT_BEFORE = (MTIME + 86_400) * 1_000_000_000


def mount_points(each: Difference, wanted: Tree, seen: Tree) -> bool:
    """A mount point has another mode and time if podman makes it than if the publisher has."""
    return each.field in ("mode", "mtime") and each.path in (*MOUNT_POINTS, b"etc/mtab")


_truths: dict[tuple[Path, str, bool, str, bool, str], Changed] = {}


def on_pulled(bench: Bench, rootless: bool, image: str, short: bool, mountopt: str = "") -> Changed:
    """The truth: the changes made in the image as podman pulls it into empty storage. With some of
    the options ``mountopt`` it tells other lines in ``podman diff``."""
    key = (bench.site.data, bench.version, rootless, image, short, mountopt)
    if key not in _truths:
        _published(bench.site)
        with bench.fresh(user=USER if rootless else None, mountopt=mountopt) as podman:
            podman.run("pull", "--quiet", bench.site.name(image))
            _truths[key] = make(podman, bench.site.name(image), short)
    return _truths[key]


def _published(site: Site) -> Path:
    """The repository of the images; made on first use."""
    path = site.data / "changes"
    if not path.exists():
        names = [push(build(image), site.registry) for image in scripts.IMAGES]
        succeed("publish", *(f"http://{name}" for name in names), "--repository", path)
    return path


def _store(bench: Bench, cell: Cell) -> Path:
    """Write the cell's store, or find it. Raises SyncError."""
    site = bench.site
    own = ("u" if cell.own else "s") + ("m" if cell.mount else "")
    store = site.data / f"ch-{own}-{cell.owner}-{cell.view}-{bench.version}/store"
    if not store.exists():
        store.parent.mkdir(exist_ok=True)
        user = USER if cell.own else None
        repository = site.shown(_published(site), cell.owner, cell.mount)
        site.sync(repository, store, "--view", cell.view, user=user, version=bench.version)
    return store
