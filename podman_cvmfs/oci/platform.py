# SPDX-License-Identifier: Apache-2.0
"""The names of platforms in OCI, the kernel, Docker Hub and DUCC, and which programs each runs.
Pure, except for asking which machine this is.

Sources: OCI image-spec v1.1 ``image-index.md`` (Go's names); containerd ``platforms`` v1
``database.go``, by which podman understands the platform in a config (containers/common
``libimage/platform.go``); DUCC's ``.multiarch`` directories are called ``<architecture>`` or
``<architecture>:<variant>``, where the variant may be empty.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from podman_cvmfs.errors import InputError, printable

#: The operating system of containers here.
LINUX = "linux"
#: What the kernel calls a machine -> architecture and variant as Go and OCI call it.
_MACHINES = {
    "x86_64": ("amd64", ""),
    "i686": ("386", ""),
    "i386": ("386", ""),
    "aarch64": ("arm64", "v8"),
    "armv8l": ("arm", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "loongarch64": ("loong64", ""),
}
#: Other names of architectures: containerd's, and those of Docker Hub's namespaces.
_ALIASES = {
    **_MACHINES,
    "x86-64": ("amd64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "arm32v5": ("arm", "v5"),
    "arm32v6": ("arm", "v6"),
    "arm32v7": ("arm", "v7"),
    "arm64v8": ("arm64", "v8"),
}
#: What Go calls the architectures that Linux runs on (``go tool dist list``), and OCI after it.
ARCHITECTURES = (
    *("386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle"),
    *("ppc64", "ppc64le", "riscv64", "s390x"),
)
#: The other architectures that Go has a name for (``go/build`` ``syslist.go``).
_NOT_OF_LINUX = frozenset(
    ("amd64p32", "armbe", "arm64be", "mips64p32", "mips64p32le", "ppc", "riscv", "s390", "sparc")
    + ("sparc64", "wasm")
)
#: podman fails for an image whose platform doesn't consist of such words.
_READABLE = re.compile(r"[A-Za-z0-9_-]*\Z")
_PLATFORM = re.compile(r"(?:linux/)?([a-z0-9_-]{1,32})(?:[/:]([a-z0-9.]{0,32}))?\Z")
#: The variant that is meant where none is said (containerd ``platforms``, ``normalizeArch``).
_USUAL_LEVEL = {"arm": 7, "arm64": 8, "amd64": 1}
_LEVEL = re.compile(r"v(\d+)")
#: Programs of these run as well: host -> guests.
_ALSO_RUNS = {"amd64": ("386",)}
#: Ranks of what isn't quite what was asked for.
_UNSURE, _OTHER = 100, 200


@dataclass(frozen=True)
class Platform:
    """An architecture as OCI names it, with its variant or "", and an operating system."""

    architecture: str
    variant: str = ""
    os: str = LINUX

    @classmethod
    def stated(cls, architecture: str, variant: str = "", os: str = "") -> Platform:
        """What a config or an index means by these words, any of which may be "".

        Upper case and other names count as podman counts them. A word that nobody knows stays as it
        is.
        """
        architecture, variant = architecture.lower(), variant.lower()
        architecture, usual = _ALIASES.get(architecture, (architecture, ""))
        if variant.isdigit() and architecture in _USUAL_LEVEL:
            variant = f"v{variant}"
        return cls(architecture, variant or usual, os.lower() or LINUX)

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Read ``arm64``, ``arm/v7``, ``arm64:v8``, ``amd64:``, ``linux/amd64``, or another name
        for it (``aarch64``, ``arm32v7``). Raises InputError."""
        match = _PLATFORM.match(text.lower())
        if match is None:
            raise InputError(
                f"not an architecture: {printable(text)[:100]!r}",
                "one looks like amd64, arm64 or arm/v7",
            )
        return cls.stated(match.group(1), match.group(2) or "")

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

        A variant that isn't said is the usual one. An older variant runs where a newer one is asked
        for. Of amd64's variants a machine is not known to have any, nor podman to look at them: the
        lowest comes first.
        """
        if image.os != self.os:
            return None
        if image.architecture != self.architecture:
            guests = _ALSO_RUNS.get(self.architecture, ())
            return _OTHER if image.architecture in guests else None
        if image._full_variant == self._full_variant:
            return 0
        own, its = self._level, image._level
        if its <= own:
            return 1 + own - its
        return _UNSURE + its if self.architecture == "amd64" and not self.variant else None

    def runs(self, image: Platform) -> bool:
        """Whether an image for ``image`` can run here. One that doesn't say what it is for may, and
        one that says it in a word that nobody knows: podman starts it with a warning. But podman
        fails if it can't read the words."""
        if not image.is_readable or image.os != self.os:
            return False
        return self.rank(image) is not None or not image.tells_architecture

    @property
    def is_readable(self) -> bool:
        """Whether every podman can read it. podman 4 doesn't look at the variant, but newer ones
        do. podman 5.8 reads words with a dot as well, but 5.4 doesn't."""
        return all(map(_READABLE.match, (self.os, self.architecture, self.variant)))

    def runs_named(self, text: str) -> bool:
        """The same of the platform that ``text``, a Linux platform as ``str`` gives it, names."""
        try:
            return self.runs(Platform.parse(text))
        except InputError:
            return self.runs(Platform(text))

    @property
    def tells_architecture(self) -> bool:
        """Whether the architecture is one that anybody knows."""
        return self.is_known or self.architecture in _NOT_OF_LINUX

    @property
    def _full_variant(self) -> str:
        usual = _USUAL_LEVEL.get(self.architecture)
        return self.variant or ("" if usual is None else f"v{usual}")

    @property
    def _level(self) -> int:
        match = _LEVEL.match(self.variant)
        return int(match.group(1)[:9]) if match else _USUAL_LEVEL.get(self.architecture, 0)

    def __str__(self) -> str:
        """As ``parse`` reads it, if the operating system is Linux."""
        parts = ("" if self.os == LINUX else self.os, self.architecture, self.variant)
        return "/".join(part for part in parts if part)


#: What nothing tells the architecture of.
UNKNOWN = Platform("")


def nearest(text: str) -> str:
    """The architecture whose name, here or in the kernel, is most like ``text``; "" if none is."""
    from difflib import get_close_matches

    names = (*ARCHITECTURES, *_ALIASES)
    return "".join(get_close_matches(text, names, 1))
