# SPDX-License-Identifier: Apache-2.0
"""A layer that is really pulled breaks nothing that stands on a store's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.matrix.bench import Bench, Outcome
from tests.matrix.guest import Guest
from tests.matrix.host import USER
from tests.matrix.listing import Listed
from tests.matrix.standing import STORED, TOOLS, Standing, repository, unlike, unlike_pulled
from tests.support.namespace import CommandError


def run(
    bench: Bench, view: str, reuse: str, rootless: bool = False, code: Path | None = None
) -> Outcome:
    """Make things on a store, take the store out of podman's configuration, pull its images for
    real, and put the store back; ``code``: have another release write the store."""
    outcome = Outcome()
    place = store(bench, view, reuse, rootless, code)
    with bench.fresh(stores=[place], user=USER if rootless else None) as podman:
        standing = Standing(podman, bench.site)
        standing.make()
        before = standing.look()
        outcome.add("made", unlike_pulled(_on_pulled(bench, rootless), before, view, rootless))
        configure(podman, [])
        _pull(podman, bench, outcome)
        # Without the store nothing may be shown wrong; what doesn't start says so.
        without = {
            name: each for name, each in standing.look().items() if not isinstance(each, str)
        }
        outcome.add("without", unlike({name: before[name] for name in without}, without, rootless))
        configure(podman, [place])
        outcome.add("back", unlike(before, standing.look(), rootless))
        outcome.add("back", standing.start())
        _pull(podman, bench, outcome)
        outcome.add("pulled again", unlike(before, standing.look(), rootless))
        # What is made from now on stands on the real layers.
        later = Standing(podman, bench.site)
        for name in standing.containers:
            podman.run("rm", name)
        wanted = _on_pulled(bench, rootless)
        try:
            later.make()
        except CommandError as err:
            outcome.add("later", [err])
            return outcome
        outcome.add("later", unlike_pulled(wanted, later.look(), view, rootless))
    outcome.images = len(before)
    return outcome


def two_stores(bench: Bench) -> Outcome:
    """The same with two stores that show the same images otherwise, of which one goes."""
    outcome = Outcome()
    first, second = (store(bench, view, "base") for view in ("flat", "layers"))
    with bench.fresh(stores=[first, second]) as podman:
        standing = Standing(podman, bench.site)
        standing.make()
        before = standing.look()
        for stores in ([second], [], [second, first]):
            configure(podman, stores)
            _pull(podman, bench, outcome)
            without = standing.look()
            there = {n: each for n, each in without.items() if not isinstance(each, str)}
            names = before if first in stores else there
            outcome.add(f"{len(stores)} stores", unlike({n: before[n] for n in names}, without))
        outcome.add("back", standing.start())
    outcome.images = len(before)
    return outcome


def configure(podman: Guest, stores: list[Path]) -> None:
    """Have ``podman`` look into other stores."""
    conf = podman.root / "etc/storage.conf"
    lines = conf.read_text().splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines) if line.startswith("additionalimagestores"))
    named = ", ".join(f'"{store}"' for store in stores)
    lines[at] = f"additionalimagestores = [{named}]\n"
    conf.write_text("".join(lines))
    podman.stores = stores


def store(
    bench: Bench, view: str, reuse: str, rootless: bool = False, code: Path | None = None
) -> Path:
    """The store of what things stand on, of podman's user; made on first use."""
    kind = f"{'u' if rootless else 's'}-{view}-{reuse}-{bench.version}{'-old' if code else ''}"
    path = bench.site.data / f"st-{kind}/s"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        options = ("--view", view, "--reuse", reuse)
        user = USER if rootless else None
        bench.site.sync(
            owned(bench, rootless), path, *options, user=user, version=bench.version, code=code
        )
    return path


def owned(bench: Bench, rootless: bool) -> Path:
    """The repository, whose files belong to podman's user."""
    plain = repository(bench.site)
    return bench.site.owned(plain, "user") if rootless else plain


def _pull(podman: Guest, bench: Bench, outcome: Outcome) -> None:
    """Pull all, or be told why not: podman 5.4 doesn't where layers are missing below its own."""
    for image in (*STORED, *TOOLS):
        done = podman.run("pull", "--quiet", bench.site.name(image.name), check=False)
        if done.returncode:
            outcome.errors.append(f"{image.name}: {done.stderr.strip()}")


def _on_pulled(bench: Bench, rootless: bool) -> Mapping[str, Listed]:
    def make() -> Mapping[str, Listed]:
        repository(bench.site)
        with bench.fresh(user=USER if rootless else None) as podman:
            for image in STORED:
                podman.run("pull", "--quiet", bench.site.name(image.name))
            standing = Standing(podman, bench.site)
            standing.make()
            return standing.look()

    return bench.once(f"standing {rootless}", make)
