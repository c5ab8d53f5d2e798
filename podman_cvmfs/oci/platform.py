# SPDX-License-Identifier: Apache-2.0
"""The names of architectures in OCI, the kernel and DUCC, and which programs each of them runs.
Pure, except for asking which machine this is.

Sources: OCI image-spec v1.1 ``image-index.md`` (Go's names); DUCC's ``.multiarch`` directories are
called ``<architecture>`` or ``<architecture>:<variant>``.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from podman_cvmfs.errors import InputError, printable

#: What the kernel calls a machine -> architecture and variant as Go and OCI call it.
_MACHINES = {
    "x86_64": ("amd64", ""),
    "i686": ("386", ""),
    "i386": ("386", ""),
    "aarch64": ("arm64", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "loongarch64": ("loong64", ""),
}
#: What Go calls the architectures that Linux runs on (``go tool dist list``), and OCI after it.
ARCHITECTURES = (
    *("386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle"),
    *("ppc64", "ppc64le", "riscv64", "s390x"),
)
_PLATFORM = re.compile(r"(?:linux/)?([a-z0-9_]{1,32})(?:[/:]([a-z0-9.]{1,32}))?\Z")
#: The variant that is meant where none is said (containerd ``platforms``, ``normalizeArch``).
_USUAL_LEVEL = {"arm": 7, "arm64": 8, "amd64": 1}
_LEVEL = re.compile(r"v(\d+)")
#: Programs of these run as well: host -> guests.
_ALSO_RUNS = {"amd64": ("386",)}
#: Ranks of what isn't quite what was asked for.
_UNSURE, _OTHER = 100, 200


@dataclass(frozen=True)
class Platform:
    """An architecture as OCI names it, with its variant or ""."""

    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Read ``arm64``, ``arm/v7``, ``arm64:v8``, ``linux/amd64``, or the kernel's name for it
        (``aarch64``). Raises InputError."""
        match = _PLATFORM.match(text)
        if match is None:
            raise InputError(
                f"not an architecture: {printable(text)[:100]!r}",
                "one looks like amd64, arm64 or arm/v7",
            )
        architecture, variant = match.groups()
        if variant is None and architecture in _MACHINES:
            return cls(*_MACHINES[architecture])
        return cls(architecture, variant or "")

    @property
    def is_known(self) -> bool:
        """Whether there may be images for it."""
        return self.architecture in ARCHITECTURES

    @classmethod
    def of_host(cls) -> Platform:
        """This machine's."""
        machine = os.uname().machine
        return cls(*_MACHINES.get(machine, (machine, "")))

    def rank(self, image: Platform) -> int | None:
        """How well an image for ``image`` runs here: 0 best, None not at all.

        An older variant runs where a newer one is asked for. Of amd64's variants a machine is not
        known to have any, nor podman to look at them: the lowest comes first.
        """
        if image.architecture != self.architecture:
            guests = _ALSO_RUNS.get(self.architecture, ())
            return _OTHER if image.architecture in guests else None
        if image.variant == self.variant:
            return 0
        own, its = self._level, image._level
        if its <= own:
            return 1 + own - its
        return _UNSURE + its if self.architecture == "amd64" and not self.variant else None

    def runs(self, image: Platform) -> bool:
        """Whether an image for ``image`` can run here; one that doesn't say what it is for may."""
        return not image.architecture or self.rank(image) is not None

    def runs_named(self, text: str) -> bool:
        """The same of the platform that ``text`` names; False if it names none."""
        try:
            return self.runs(Platform.parse(text))
        except InputError:
            return False

    @property
    def _level(self) -> int:
        match = _LEVEL.match(self.variant)
        return int(match.group(1)[:9]) if match else _USUAL_LEVEL.get(self.architecture, 0)

    def __str__(self) -> str:
        """As ``parse`` reads it."""
        return f"{self.architecture}/{self.variant}" if self.variant else self.architecture


#: What nothing tells the architecture of.
UNKNOWN = Platform("")


def nearest(text: str) -> str:
    """The architecture whose name, here or in the kernel, is most like ``text``; "" if none is."""
    from difflib import get_close_matches

    names = (*ARCHITECTURES, *_MACHINES)
    return "".join(get_close_matches(text, names, 1))
