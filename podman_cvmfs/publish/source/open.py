# SPDX-License-Identifier: Apache-2.0
"""Finds the kind of a SOURCE on the command line, and opens it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.names.reference import ImageName
from podman_cvmfs.names.spec import ImageSpec
from podman_cvmfs.oci.platform import Platform
from podman_cvmfs.publish.source.docker_archive import MANIFEST, DockerArchive
from podman_cvmfs.publish.source.files import DirectoryFiles, TarFiles
from podman_cvmfs.publish.source.image import ImageSource
from podman_cvmfs.publish.source.oci_layout import OciLayout
from podman_cvmfs.publish.source.registry import RegistrySource, check_host, check_scheme
from podman_cvmfs.registry.client import RegistryClient

_FORMS = (
    "a source is https://registry/repository:tag, oci:PATH[:TAG], oci-archive:PATH[:TAG], "
    "docker-archive:PATH, or the path of an OCI layout or an archive"
)


def open_source(
    text: str,
    name: ImageName | None,
    client: RegistryClient,
    platform: Platform,
    max_size: int | None = None,
) -> ImageSource:
    """Open the source that ``text`` names. ``name`` is the name to give its image. Of images for
    several platforms the one for ``platform`` is used. ``max_size`` is how many bytes a compressed
    archive may take decompressed.

    Raises InputError if it is of no known form or not there.
    """
    kind, colon, rest = text.partition(":")
    if kind in ("http", "https") and rest.startswith("//"):
        return _registry(kind, rest[2:], name, client, platform)
    if kind == "oci" and colon:
        path, tag = _split_tag(rest, os.path.isdir)
        return _layout(path, tag, name, platform)
    if kind == "oci-archive" and colon:
        path, tag = _split_tag(rest, os.path.isfile)
        return _oci_archive(TarFiles(path, max_size), path, tag, name, platform)
    if kind == "docker-archive" and colon:
        return _archive(rest, name, platform, max_size)
    if os.path.isdir(text):
        return _layout(text, None, name, platform)
    if os.path.exists(text):
        return _archive(text, name, platform, max_size)
    raise InputError(f"there is no such source: {printable(text)[:300]}", _FORMS)


def _registry(
    scheme: str, rest: str, name: ImageName | None, client: RegistryClient, platform: Platform
) -> RegistrySource:
    host = rest.partition("/")[0]
    check_scheme(scheme, host)
    if "/" not in rest:
        raise InputError(f"not an image in a registry: {printable(rest)[:300]}", _FORMS)
    # After a scheme the first word is the registry, as in a wish list.
    asked = ImageSpec.parse(f"{scheme}://{rest}").name
    if asked is None:
        raise InputError(f"a pattern, not an image: {printable(rest)[:300]}", _FORMS)
    if name is None:
        check_host(host)
    # The repository has the registry by the name the user gave, as DUCC does; Docker Hub's
    # aliases matter to those who look for the image.
    return RegistrySource(client, asked, name or replace(asked, registry=host), platform)


def _split_tag(text: str, is_there: Callable[[str], bool]) -> tuple[str, str | None]:
    """Split ``PATH[:TAG]``; the path may hold colons itself, so the longest that exists wins."""
    if is_there(text):
        return text, None
    path, tag = text, ""
    while ":" in path:
        path, _, last = path.rpartition(":")
        tag = f"{last}:{tag}" if tag else last
        if is_there(path):
            return path, tag
    raise InputError(f"there is no OCI layout {printable(text)[:300]}", _FORMS)


def _layout(path: str, tag: str | None, name: ImageName | None, platform: Platform) -> OciLayout:
    files = DirectoryFiles(path)
    if not files.has("oci-layout") and not files.has("index.json"):
        files.close()
        raise InputError(f"the directory {printable(path)} is not an OCI layout", _FORMS)
    return OciLayout(files, printable(path), tag, name, platform)


def _oci_archive(
    files: TarFiles, path: str, tag: str | None, name: ImageName | None, platform: Platform
) -> OciLayout:
    if not files.has("index.json"):
        files.close()
        raise InputError(f"there is no OCI layout in {printable(path)}", _FORMS)
    return OciLayout(files, printable(path), tag, name, platform)


def _archive(
    path: str, name: ImageName | None, platform: Platform, max_size: int | None
) -> ImageSource:
    """Open a tar file; it may hold an OCI layout instead of, or beside, Docker's files."""
    if not os.path.isfile(path):
        raise InputError(f"there is no file {printable(path)[:300]}", _FORMS)
    files = TarFiles(path, max_size)
    what = printable(path)
    layout = OciLayout(files, what, None, name, platform) if files.has("index.json") else None
    if files.has(MANIFEST):
        if layout is not None and _is_for_several(layout):
            # Docker's file knows no platforms, and mostly has one of them.
            return layout
        return DockerArchive(files, what, name, platform)
    if layout is not None:
        return layout
    files.close()
    raise InputError(f"{what} holds neither {MANIFEST} nor index.json", _FORMS)


def _is_for_several(layout: OciLayout) -> bool:
    try:
        return layout.has_several_platforms()
    except InputError:
        # A layout that can't be read takes nothing from the other files.
        return False
