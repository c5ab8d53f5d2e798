# SPDX-License-Identifier: Apache-2.0
"""One podman under test: its machines, and what it sees in images that it has pulled itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.matrix.guest import Guest, guest
from tests.matrix.host import USER, Machine
from tests.matrix.listing import Listed
from tests.matrix.site import Site


@dataclass
class Outcome:
    """What a row of the table gave with one podman.

    ``images`` is how many were compared, ``problems`` every unexpected thing, ``said`` what the
    table tells if there is none, ``errors`` those of podman's that are as they should be.
    """

    images: int = 0
    seconds: float = 0.0
    said: str = ""
    problems: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def add(self, image: str, lines: Iterable[object]) -> None:
        """Add what is wrong with an image."""
        self.problems += [f"{image}: {line}" for line in lines]

    @property
    def verdict(self) -> str:
        """The cell of the table."""
        if self.problems:
            return f"**{len(self.problems)} wrong**"
        return self.said or f"{self.images} same"


class Bench:
    """The podman of the root file system ``root``."""

    def __init__(self, site: Site, root: Path) -> None:
        self.site = site
        self.root = root
        self._kept: dict[str, Mapping[str, Listed]] = {}
        self._count = 0
        with self.fresh() as podman:
            self.version = podman.version

    @property
    def names(self) -> list[str]:
        """The full names of all images to compare."""
        return [self.site.name(image) for image in self.site.images]

    def count(self) -> int:
        """Another number at each call."""
        self._count += 1
        return self._count

    @contextmanager
    def fresh(self, **options: Any) -> Iterator[Guest]:
        """A podman with nothing in it; ``options`` as Guest takes them.

        It has a machine of its own: two podmans with different storage must not share the state
        that they keep below /run.
        """
        place = self.site.data / f"p{self.count()}-{id(self) % 9973}"
        place.mkdir()
        machine = Machine(self.root, self.site.data)
        try:
            insecure = [self.site.registry.address]
            with guest(machine, place, insecure=insecure, **options) as podman:
                yield podman
        finally:
            machine.close()

    def once(self, key: str, make: Callable[[], Mapping[str, Listed]]) -> Mapping[str, Listed]:
        """What ``make`` gives, made on first use."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def pulled(
        self, rootless: bool, fuse: bool = False, names: Sequence[str] = ()
    ) -> Mapping[str, Listed]:
        """What containers of ordinarily pulled images see: of ``names``, or of all."""
        images = list(names or self.names)

        def pull() -> Mapping[str, Listed]:
            with self.fresh(user=USER if rootless else None, fuse=fuse) as plain:
                plain.run("pull", "--quiet", *images)
                return plain.listings(images)

        return self.once(f"pulled {rootless} {fuse} {' '.join(names)}", pull)
