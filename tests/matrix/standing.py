# SPDX-License-Identifier: Apache-2.0
"""What users make on a store's images, and whether it stays what it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.matrix.cells import Cell, rules
from tests.matrix.changes import dated_by_itself, mount_points
from tests.matrix.guest import Guest
from tests.matrix.listing import CONTAINER, Listed
from tests.matrix.site import Site
from tests.support.cli import succeed
from tests.support.comparison import Difference, Tree, undated_directories, unexpected
from tests.support.images import LAYERS, Image, build, push
from tests.support.layers import directory, file

LAYERS["standing-new"] = [directory("opt/tool"), file("opt/tool/run", "tool\n")]

_SH = {"Env": ["PATH=/bin"], "Cmd": ["sh"]}
#: In the repository, with layers that add, delete and hide.
STORED = (
    Image("s/base:1", ["base", "app", "other"], _SH),
    Image("s/delete:1", ["base", "app", "delete", "again"], _SH),
    Image("s/opaque:1", ["base", "opaque", "other"], _SH),
)
#: Only in the registry: each has the layers of a stored one, and one more; the last shares just the
#: base layer.
TOOLS = (
    *(
        Image(each.name.replace("s/", "tool/"), [*each.layers, "standing-new"], _SH)
        for each in STORED
    ),
    Image("tool/on-base:1", ["base", "standing-new"], _SH),
)


def repository(site: Site) -> Path:
    """The repository of ``STORED``; made on first use, with everything in the registry."""
    path = site.data / "standing"
    if not path.exists():
        names = [push(build(image), site.registry) for image in STORED]
        for image in TOOLS:
            push(build(image), site.registry)
        succeed("publish", *(f"http://{name}" for name in names), "--repository", path)
    return path


class Standing:
    """What a podman has made on the images of its store: containers of them, stopped; images pulled
    onto their layers; builds and commits, and containers of these."""

    def __init__(self, podman: Guest, site: Site) -> None:
        self.podman = podman
        self.site = site
        self.containers: list[str] = []
        self.images: list[str] = []

    def make(self) -> None:
        """Make all of it."""
        for image in STORED:
            self._container(self.site.name(image.name))
            self._build(self.site.name(image.name))
        for image in TOOLS:
            name = self.site.name(image.name)
            self.podman.run("pull", "--quiet", name)
            self.images.append(name)
            self._container(name)
            self._build(name)
        committed = "localhost/committed:1"
        self.podman.run("commit", "--quiet", self.containers[0], committed)
        self.images.append(committed)
        self._container(committed)

    def _container(self, image: str) -> None:
        name = f"on-{len(self.containers)}"
        script = "echo $((1 + $(cat /opt/count 2>/dev/null || echo 0))) > /opt/count; ls /opt"
        command = ("--entrypoint=/bin/sh", "--pull=never", f"--name={name}", image, "-c", script)
        self.podman.run("run", *command)
        self.containers.append(name)

    def _build(self, image: str) -> None:
        context = self.podman.root / "tmp/context"
        context.mkdir(exist_ok=True)
        lines = (f"FROM {image}", "RUN echo built > /opt/built", "RUN rm -f /var/lib/data/c")
        (context / "Containerfile").write_text("\n".join(lines))
        name = f"localhost/built-{len(self.images)}:1"
        options = ("--quiet", "--pull=never", "--isolation=chroot", f"--tag={name}")
        self.podman.run("build", *options, str(context))
        self.images.append(name)

    def look(self) -> dict[str, Listed]:
        """What each shows."""
        names = [*self.images, *(f"{CONTAINER}{name}" for name in self.containers)]
        return self.podman.listings(names)

    def start(self) -> Iterator[str]:
        """Start each container once more; yield what went wrong."""
        for name in self.containers:
            done = self.podman.run("start", "--attach", name, check=False)
            if done.returncode or "count\n" not in done.stdout:
                yield f"{name} doesn't start: {done.stdout}{done.stderr.strip()}"


def _real_owners(each: Difference, wanted: Tree, seen: Tree) -> bool:
    """A user's own files in a store are root's in the user's namespace. Newer podman mounts the
    real layer in their place once it is there, and that has the image's owners."""
    return each.field in ("uid", "gid") and each.wanted == 0


def unlike(
    before: Mapping[str, Listed], after: Mapping[str, Listed], rootless: bool = False
) -> Iterator[str]:
    """What has become of what stood on a store: nothing but that containers ran, and that layers
    have been pulled."""
    # A layer that has really come by now has the time at which it was unpacked.
    stated = [dated_by_itself, mount_points, undated_directories]
    stated += [_real_owners] if rootless else []
    for name, wanted in before.items():
        seen = after[name]
        if isinstance(wanted, str) or isinstance(seen, str):
            yield f"{name}: {wanted if isinstance(wanted, str) else seen}"
            continue
        for each in unexpected(wanted, seen, stated):
            if each.path != b"opt/count":
                yield f"{name}: {each}"


def unlike_pulled(
    pulled: Mapping[str, Listed], seen: Mapping[str, Listed], view: str, rootless: bool
) -> Iterator[str]:
    """In what things are unlike those that stand on pulled images alone."""
    shown = "layers" if view == "layers" else "flat"
    cell = Cell(rootless, False, shown, "user" if rootless else "root", rootless)
    stated = (*rules(cell, layers=2), dated_by_itself, mount_points)
    for name, wanted in pulled.items():
        found = seen[name]
        if isinstance(wanted, str) or isinstance(found, str):
            yield f"{name}: {wanted if isinstance(wanted, str) else found}"
            continue
        yield from (f"{name}: {each}" for each in unexpected(wanted, found, stated))
