# SPDX-License-Identifier: Apache-2.0
"""Publishes many images: those of wish lists, and those that are named one by one.

All images are looked up first, several at a time: of an image that hasn't changed only the tag is
asked for. Then the new ones are unpacked one after the other. One failure doesn't stop the others.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from podman_cvmfs.errors import InputError, PodmanCvmfsError
from podman_cvmfs.names.reference import ImageName
from podman_cvmfs.names.spec import ImageSpec
from podman_cvmfs.oci.platform import Platform
from podman_cvmfs.publish.present import held_document, present_platform
from podman_cvmfs.publish.publisher import Published, publish
from podman_cvmfs.publish.source.image import ImageSource, SourceImage
from podman_cvmfs.publish.source.registry import RegistrySource, check_host, check_scheme
from podman_cvmfs.publish.targets import Target
from podman_cvmfs.registry.client import RegistryClient
from podman_cvmfs.util.progress import track

#: How many registries' answers are waited for at once.
_LOOKERS = 8


@dataclass(frozen=True)
class Wanted:
    """What is to be published: what the user calls it, and how it is opened.

    ``open`` raises InputError or RegistryError.
    """

    text: str
    open: Callable[[], ImageSource]


@dataclass(frozen=True)
class Outcome:
    """The result for one image, or for an unreadable source. ``before`` is the platform of the
    image that had this name before, if there was one."""

    source: str
    image: SourceImage | None = None
    published: Published | None = None
    error: PodmanCvmfsError | None = None
    before: Platform | None = None


def wanted_by_lists(
    specs: Iterable[ImageSpec], client: RegistryClient, platform: Platform, target: Target
) -> list[Wanted]:
    """What wish lists want. A pattern stands for all tags that match it, in the registry's order.

    An image that several entries want is there once. What can't be looked up raises its error when
    it is opened.
    """
    held = functools.partial(held_document, target.directory, target.below)
    found: dict[ImageName, Wanted] = {}
    failed: list[Wanted] = []
    for spec in specs:
        try:
            names = _names_of(spec, client)
        except PodmanCvmfsError as err:
            failed.append(Wanted(str(spec), functools.partial(_fail, err)))
            continue
        for name in names:
            published_as = replace(name, registry=spec.written)
            source = RegistrySource(client, name, published_as, platform, held)
            found.setdefault(name, Wanted(str(name), functools.partial(_given, source)))
    return [*found.values(), *failed]


def _names_of(spec: ImageSpec, client: RegistryClient) -> Sequence[ImageName]:
    """The images that a wish means. Raises InputError or RegistryError."""
    check_scheme(spec.scheme, spec.written)
    check_host(spec.written)
    if spec.name is not None:
        return [spec.name]
    repository = ImageName(spec.registry, spec.repository, "latest", None)
    pattern = spec.tag or ""
    tags = [tag for tag in client.tags(repository) if fnmatchcase(tag, pattern)]
    if not tags:
        raise InputError(f"{spec}: the registry has no tag that matches", "correct the wish list")
    return [replace(repository, tag=tag) for tag in tags]


def _given(source: ImageSource) -> ImageSource:
    return source


def _fail(error: PodmanCvmfsError) -> ImageSource:
    raise error


def publish_all(wanted: Sequence[Wanted], target: Target) -> Iterator[Outcome]:
    """Publish all images, in the order of ``wanted``. Yields each result as soon as it is known.

    At the end the target is finished. Raises what ``Target.finish`` raises.
    """
    with ThreadPoolExecutor(_LOOKERS) as pool:
        looked_up = list(
            track(pool.map(_look_up, wanted), len(wanted), "Looking at the registries")
        )
    for each, (source, found) in zip(wanted, looked_up):
        if isinstance(found, PodmanCvmfsError):
            yield Outcome(each.text, error=found)
            continue
        assert source is not None
        try:
            for image in found:
                yield _publish_one(each.text, source, image, target)
        finally:
            source.close()
    target.finish()


def _look_up(
    wanted: Wanted,
) -> tuple[ImageSource | None, Sequence[SourceImage] | PodmanCvmfsError]:
    """A source with its images; or the error, and then no source is left open."""
    try:
        source = wanted.open()
    except PodmanCvmfsError as err:
        return None, err
    try:
        return source, source.images()
    except PodmanCvmfsError as err:
        source.close()
        return None, err


def _publish_one(text: str, source: ImageSource, image: SourceImage, target: Target) -> Outcome:
    before = present_platform(target.directory, target.below, image.name)
    try:
        done = publish(
            target.directory,
            image,
            functools.partial(source.layer, image),
            target.assume_nosuid,
            target.max_size,
            target.below,
            target.profiles.get(image.config.digest.hex),
        )
    except PodmanCvmfsError as err:
        return Outcome(text, image, error=err, before=before)
    target.added(done)
    return Outcome(text, image, done, before=before)
