# SPDX-License-Identifier: Apache-2.0
"""What else than files is looked at: whether containers start and write, deep images, user
namespaces."""

from __future__ import annotations

from tests.matrix.bench import Bench, Outcome
from tests.matrix.cells import EXACT, Cell
from tests.matrix.guest import Guest
from tests.matrix.listing import Listed
from tests.matrix.site import Site, SyncError
from tests.support.comparison import RULES, unexpected

#: Images that say something with their own command, and need no file that only its owner may read.
SPEAKING = ("t/single:1", "t/delete:1", "t/opaque:1", "t/turned:1", "t/plain:1")

_NEW = "touch /etc/new /root/new /tmp/new /var/lib/new && echo made"
_OLD = (
    "(echo x > /var/lib/data/b) 2>/dev/null && echo changed;"
    "rm /var/lib/data/b 2>/dev/null && echo removed;"
    "mv /var/lib/data/c /var/lib/data/d 2>/dev/null && echo moved; true"
)


def starts(cell: Cell) -> bool:
    """Whether containers can start: not where every directory is a stranger's for rootless podman
    on kernel overlay, and nobody has put a skeleton above them."""
    strange = cell.rootless and cell.owner != "user"
    return cell.fuse or cell.own or not strange


def run_images(podman: Guest, cell: Cell, outcome: Outcome, site: Site) -> None:
    """Run containers in a cell, let them write, and hold it against what is stated:

    * everything works as root, with files of the user's own, and on fuse-overlayfs, where only
      /root can't be written without a skeleton;
    * with a skeleton on kernel overlay new files can be made, the image's not be changed.
    """
    if not starts(cell):
        done = podman.run("run", "--rm", "--pull=never", site.name(SPEAKING[0]), check=False)
        if done.returncode == 0 or "ermission denied" not in done.stderr:
            outcome.problems.append(f"start: should be refused, but {done.stdout}{done.stderr}")
        outcome.said = "does not start, as stated"
        return
    for image in SPEAKING:
        done = podman.run("run", "--rm", "--pull=never", site.name(image), check=False)
        if done.stdout != site.images[image].image.prints:
            outcome.problems.append(f"{image}: run: {done.stdout}{done.stderr.strip()}")
    strange = cell.rootless and cell.owner != "user"
    new = "made\n" if cell.own or not strange else ""
    old = "" if strange and not cell.fuse else "changed\nremoved\nmoved\n"
    for script, wanted in ((_NEW, new), (_OLD, old)):
        command = ("run", "--rm", "--pull=never", site.name("t/single:1"), "sh", "-c", script)
        done = podman.run(*command, check=False)
        if done.stdout != wanted:
            outcome.problems.append(
                f"writing: {done.stdout!r} instead of {wanted!r}: {done.stderr.strip()}"
            )


def deep(bench: Bench, view: str) -> Outcome:
    """Images of 60 and 120 layers. podman 4 has one page for the paths of all layers: there sync
    refuses what doesn't fit, or the flat view serves."""
    outcome = Outcome()
    site = bench.site
    names = [site.name(image) for image in site.deep]

    def pulled() -> dict[str, Listed]:
        with bench.fresh() as podman:
            podman.run("pull", "--quiet", *names)
            return podman.listings(names)

    wanted = bench.once("deep", pulled)
    repository = site.repository(deep=True)
    refused = []
    for name in names:
        store = site.data / f"deep-{view}-{bench.version}-{name[-2:]}" / "s"
        store.parent.mkdir()
        options = ("--view", view, name)
        try:
            site.sync(repository, store, *options, user=None, version=bench.version)
        except SyncError as err:
            fits = not bench.version.startswith("4.") or view == "flat"
            if fits or "podman 4 can't mount" not in str(err):
                outcome.problems.append(f"{name}: {err}")
            refused.append(name.rpartition(":")[2])
            continue
        with bench.fresh(stores=[store]) as podman:
            seen = podman.listings([name])[name]
        outcome.images += 1
        truth = wanted[name]
        if isinstance(truth, str) or isinstance(seen, str):
            outcome.problems.append(f"{name}: {truth if isinstance(truth, str) else seen}")
            continue
        outcome.add(name, map(str, unexpected(truth, seen, RULES[view])))
    outcome.said = f"{outcome.images} same"
    if refused:
        outcome.said += f", sync refuses {' and '.join(refused)} layers"
    return outcome


#: An image may cost so many bytes a container beyond what a container without mapping costs.
_NO_COPY = 500_000


def namespaces(bench: Bench, cell: Cell, podman: Guest) -> str:
    """What each way of mapping IDs does with an image of the store: works, copies it, or fails."""
    name = bench.site.name("t/single:1")
    first = 1 if cell.rootless else 20_000_000
    ways = {
        "keep-id": ["--userns=keep-id"],
        "auto": ["--userns=auto:size=2000"],
        "uidmap": [f"--uidmap=0:{first}:3000", f"--gidmap=0:{first}:3000"],
    }
    podman.run("run", "--rm", "--pull=never", name, "true", check=False)
    found = []
    for way, options in ways.items():
        before = podman.stored_bytes()
        command = ["run", "--name=mapped", "--pull=never", *options, name, "id", "-u"]
        done = podman.run(*command, check=False)
        grown = podman.stored_bytes() - before
        podman.run("rm", "--force", "mapped", check=False)
        if done.returncode:
            found.append(f"{way} fails")
        else:
            found.append(f"{way} {'copies' if grown > _NO_COPY else 'works'}")
    return ", ".join(found)


#: The cells whose mappings are tried.
MAPPED = (
    Cell(False, False, "flat"),
    Cell(False, True, "flat"),
    Cell(True, False, "flat", "foreign", True),
    Cell(True, True, "flat", "foreign", True),
    Cell(True, False, "flat", "user"),
    Cell(True, True, "flat", "user"),
    Cell(False, False, "flat", "foreign", mount=True),
    Cell(False, False, "layers", "foreign", mount=True),
    Cell(True, False, "flat", "foreign", True, mount=True),
    Cell(True, True, "flat", "foreign", True, mount=True),
    *EXACT,
)
