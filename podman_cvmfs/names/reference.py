# SPDX-License-Identifier: Apache-2.0
"""What an image is called: podman's names and the paths DUCC gives them. Pure: no I/O.

The grammar is that of containers/image v5 ``docker/reference`` (from distribution/reference)::

    reference  := [domain "/"] path-component *("/" path-component) [":" tag] ["@" digest]
    domain     := host [":" port], told from a path component by a "." or ":" in it, an
                  upper-case letter, or by being "localhost"
    tag        := word-character *127(word-character | "." | "-")
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.oci.documents import Digest

#: Docker Hub as podman writes it, and every other name it goes by.
DOCKER_HUB = "docker.io"
DOCKER_HUB_ALIASES = frozenset(
    {DOCKER_HUB, "registry.hub.docker.com", "index.docker.io", "registry-1.docker.io"}
)

_HOST_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN = re.compile(
    rf"(?:{_HOST_LABEL}(?:\.{_HOST_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?\Z"
)
_PATH_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*\Z")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z", re.ASCII)
_MAX_NAME = 255


@dataclass(frozen=True, order=True)
class ImageName:
    """A fully qualified image name, e.g. ``docker.io/library/debian:12``.

    ``registry`` is host and port, ``repository`` the path below it; at least one of ``tag`` and
    ``digest`` is set.
    """

    registry: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    def __str__(self) -> str:
        """The name as podman writes it: ``registry/repository[:tag][@sha256:..]``."""
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"

    @property
    def repository_path(self) -> str:
        """The path of DUCC's public link for this image, relative to the repository's root.

        A digest-only image is ``<repository>:sha256:<hex>``; one with tag and digest appears
        under its tag alone.
        """
        return f"{self.registry}/{self.repository}:{self.tag or self.digest}"

    @property
    def canonical(self) -> ImageName:
        """The same name as podman writes it: Docker Hub's other hosts are ``docker.io``, and its
        images without a namespace are in ``library/``."""
        if self.registry not in DOCKER_HUB_ALIASES:
            return self
        repository = self.repository if "/" in self.repository else f"library/{self.repository}"
        return replace(self, registry=DOCKER_HUB, repository=repository)


def split_domain(text: str) -> tuple[str | None, str]:
    """Split a name as it is typed into registry and path; the registry is None if it has none."""
    head, slash, rest = text.partition("/")
    is_domain = slash and (
        "." in head or ":" in head or head == "localhost" or head != head.lower()
    )
    return (head, rest) if is_domain else (None, text)


def is_tag(text: str) -> bool:
    """Whether ``text`` can be a tag."""
    return bool(_TAG.match(text))


def check_parts(registry: str, repository: str, tag: str | None, text: str) -> None:
    """Raise InputError, quoting ``text``, unless the parts make up an image name."""
    problem = None
    if not _DOMAIN.match(registry):
        problem = f"{printable(registry)[:300]!r} is not a registry host"
    elif len(registry) + 1 + len(repository) > _MAX_NAME:
        problem = f"it is longer than {_MAX_NAME} characters"
    elif not all(_PATH_COMPONENT.match(part) for part in repository.split("/")):
        problem = f"{printable(repository)[:300]!r} is not a repository path"
    elif tag is not None and not is_tag(tag):
        problem = f"{printable(tag)[:300]!r} is not a tag"
    if problem:
        raise InputError(
            f"not an image name: {printable(text)[:300]!r}: {problem}",
            "a name looks like docker.io/library/debian:12 or registry.example.org/group/app:1",
        )


def parse_name(text: str) -> ImageName:
    """Read an image name as a podman user types it.

    Without a registry it is Docker Hub's (``debian`` is ``docker.io/library/debian:latest``);
    without tag and digest the tag is ``latest``. Docker Hub's aliases become ``docker.io``.
    Raises InputError.
    """
    rest, at, digest_text = text.partition("@")
    digest = Digest.parse(digest_text, f"the digest in {printable(text)[:300]!r}") if at else None
    registry, path = split_domain(rest)
    path, colon, tag = path.partition(":")
    if registry is None:
        registry = DOCKER_HUB
    if registry in DOCKER_HUB_ALIASES and "/" not in path:
        path = f"library/{path}"
    if not colon and digest is None:
        tag, colon = "latest", ":"
    check_parts(registry, path, tag if colon else None, text)
    return ImageName(registry, path, tag if colon else None, digest).canonical


def parse_repository_path(path: str) -> ImageName:
    """Read the path of a public link, ``registry/repository:tag`` or ``..:sha256:<hex>``.

    The registry stays as it is written there. Raises InputError.
    """
    registry, slash, rest = path.partition("/")
    repository, colon, tag = rest.partition(":")
    if not slash or not colon:
        raise InputError(f"not the path of an image: {printable(path)[:300]!r}")
    if tag.startswith("sha256:"):
        digest = Digest.parse(tag, f"the digest in {printable(path)[:300]!r}")
        check_parts(registry, repository, None, path)
        return ImageName(registry, repository, None, digest)
    check_parts(registry, repository, tag, path)
    return ImageName(registry, repository, tag)


def podman_names(name: ImageName) -> tuple[str, ...]:
    """All names under which podman should find the image: the canonical one first.

    podman itself rewrites ``index.docker.io`` only, so an image of
    ``registry.hub.docker.com`` is listed under that name and under ``docker.io``.
    """
    return tuple(dict.fromkeys((str(name.canonical), str(name))))


def assign_names(published: Iterable[tuple[ImageName, str]]) -> dict[str, str]:
    """Give every podman name to exactly one image.

    ``published`` pairs a name as the repository writes it with an image ID. A name written in the
    repository beats one that is only another way to write it (``docker.io`` for
    ``registry.hub.docker.com``); among equals the first wins. containers/storage refuses a whole
    store for one name on two images.
    """
    pairs = list(published)
    names: dict[str, str] = {}
    for name, image_id in pairs:
        names.setdefault(str(name), image_id)
    for name, image_id in pairs:
        for other in podman_names(name):
            names.setdefault(other, image_id)
    return names
