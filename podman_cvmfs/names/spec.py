# SPDX-License-Identifier: Apache-2.0
"""Parses entries of wish lists: the images that a site wants. Pure: no I/O.

The form is that of DUCC's recipes (cvmfs 2.12 ``ducc/lib/parse.go``), with OSG's shorter one::

    spec  := [scheme "://"] [registry "/"] repository [":" tag-pattern] ["@" digest]

A pattern is a shell's: ``*``, ``?``, ``[..]``. After a scheme the first word is the registry,
whatever it looks like; without one podman's rule tells a registry from a repository, and no
registry means Docker Hub.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.names.reference import (
    DOCKER_HUB,
    DOCKER_HUB_ALIASES,
    ImageName,
    check_parts,
    split_domain,
)
from podman_cvmfs.oci.documents import Digest

_WILDCARDS = frozenset("*?[")
_IPV6 = re.compile(r"\A\[[0-9A-Fa-f:.]+\]")
_TAG_PATTERN = re.compile(r"[A-Za-z0-9_.*?\[\]!-]{1,128}\Z", re.ASCII)
#: Refused before it is taken apart: no name is nearly as long.
_MAX_SPEC = 1024


@dataclass(frozen=True, order=True)
class ImageSpec:
    """One wish: an image, or all images of a repository whose tag matches a pattern.

    ``registry`` and ``repository`` are canonical (``docker.io/library/debian``). At least one of
    ``tag`` and ``digest`` is set. ``scheme`` says how its author would reach the registry, and
    ``written`` how its author calls it (``registry.hub.docker.com``); wishes that differ in these
    alone are equal.
    """

    registry: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None
    scheme: str = field(default="https", compare=False)
    written: str = field(default="", compare=False)

    @classmethod
    def parse(cls, text: str) -> ImageSpec:
        """Read one entry of a wish list. Raises InputError.

        Without tag and digest the tag is ``latest``.
        """
        scheme, rest = _split_scheme(text)
        rest, at, digest_text = rest.partition("@")
        digest = Digest.parse(digest_text, f"the digest in {_quoted(text)}") if at else None
        registry, path = _split_registry(rest, scheme)
        path, colon, tag = path.partition(":")
        path = path.strip("/")
        written = registry
        if registry in DOCKER_HUB_ALIASES:
            registry = DOCKER_HUB
            path = path if "/" in path else f"library/{path}"
        if _WILDCARDS.intersection(_IPV6.sub("", registry) + path):
            raise InputError(f"a wildcard may stand in the tag only: {_quoted(text)}")
        if not colon and digest is None:
            tag, colon = "latest", ":"
        is_pattern = bool(_WILDCARDS.intersection(tag))
        if is_pattern and (digest is not None or not _TAG_PATTERN.match(tag)):
            raise InputError(f"not a pattern of tags: {_quoted(text)}")
        check_parts(registry, path, tag if colon and not is_pattern else None, text)
        return cls(registry, path, tag if colon else None, digest, scheme or "https", written)

    @property
    def is_pattern(self) -> bool:
        """Whether several images may match."""
        return self.tag is not None and bool(_WILDCARDS.intersection(self.tag))

    @property
    def name(self) -> ImageName | None:
        """The image meant, None if this is a pattern."""
        if self.is_pattern:
            return None
        return ImageName(self.registry, self.repository, self.tag, self.digest)

    def matches(self, name: ImageName) -> bool:
        """Whether ``name`` is an image that is wished for.

        A digest that only one of the two has is no contradiction where the tag fits: DUCC
        publishes an image wished for by tag and digest under its tag alone.
        """
        name = name.canonical
        if (name.registry, name.repository) != (self.registry, self.repository):
            return False
        if self.tag is None or name.tag is None:
            return self.digest is not None and self.digest == name.digest
        if self.digest is not None and name.digest not in (None, self.digest):
            return False
        return fnmatchcase(name.tag, self.tag)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.scheme}://{self.registry}/{self.repository}{tag}{digest}"


def _quoted(text: str) -> str:
    return repr(printable(text)[:300])


def _split_scheme(text: str) -> tuple[str | None, str]:
    if len(text) > _MAX_SPEC:
        raise InputError(f"not an image: {_quoted(text)}..: longer than {_MAX_SPEC} characters")
    scheme, separator, rest = text.partition("://")
    if not separator:
        return None, text
    if scheme.lower() not in ("http", "https"):
        raise InputError(f"not an image: {_quoted(text)}: the scheme is not http or https")
    return scheme.lower(), rest


def _split_registry(text: str, scheme: str | None) -> tuple[str, str]:
    if scheme is None:
        registry, path = split_domain(text)
        return registry or DOCKER_HUB, path
    registry, _, path = text.partition("/")
    return registry, path
