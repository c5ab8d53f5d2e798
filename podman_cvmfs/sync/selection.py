# SPDX-License-Identifier: Apache-2.0
"""Which images of a repository are wanted: wishes, globs, and podman's own policy. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase

from podman_cvmfs.names.reference import ImageName, podman_names
from podman_cvmfs.names.spec import ImageSpec


class Selection:
    """Decides which images are wanted, and remembers which wishes have found an image.

    ``specs`` are the wishes; None means all images. ``include`` and ``exclude`` are shell globs,
    but their ``*`` also matches slashes. They are compared with all names that podman has for the
    image (``docker.io/library/debian:12``). No ``include`` includes everything; ``exclude`` wins.
    ``refusal`` gives the rule by which podman's ``policy.json`` refuses a name, "" if it doesn't.
    """

    def __init__(
        self,
        specs: Iterable[ImageSpec] | None = None,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        refusal: Callable[[ImageName], str] = lambda name: "",
    ) -> None:
        #: The rule by which an image is never wanted, "" for no such rule.
        self.refusal = refusal
        self._include = tuple(include)
        self._exclude = tuple(exclude)
        self._specs = tuple(dict.fromkeys(specs or ()))
        self._unmatched: dict[ImageSpec, None] = {}
        self._by_repository: dict[tuple[str, str], list[ImageSpec]] | None = None
        if specs is not None:
            self._by_repository = {}
            # Equal wishes are one; a list may repeat another.
            for spec in self._specs:
                self._unmatched[spec] = None
                self._by_repository.setdefault((spec.registry, spec.repository), []).append(spec)

    @property
    def specs(self) -> tuple[ImageSpec, ...]:
        """All wishes; empty if all images are wanted."""
        return self._specs

    def wants(self, name: ImageName) -> bool:
        """Whether the image called ``name`` is wanted, and podman would take it."""
        return self.selects(name) and not self.refusal(name)

    def selects(self, name: ImageName) -> bool:
        """Whether wishes and globs want the image called ``name``."""
        if not self._is_wished(name):
            return False
        names = podman_names(name)
        if self._include and not _any_match(names, self._include):
            return False
        return not _any_match(names, self._exclude)

    def unmatched(self) -> tuple[ImageSpec, ...]:
        """The wishes that no name has fulfilled so far, in their order."""
        return tuple(self._unmatched)

    def _is_wished(self, name: ImageName) -> bool:
        if self._by_repository is None:
            return True
        canonical = name.canonical
        specs = self._by_repository.get((canonical.registry, canonical.repository), ())
        matching = [spec for spec in specs if spec.matches(name)]
        for spec in matching:
            self._unmatched.pop(spec, None)
        return bool(matching)


def _any_match(names: Sequence[str], globs: Sequence[str]) -> bool:
    return any(fnmatchcase(name, glob) for name in names for glob in globs)
