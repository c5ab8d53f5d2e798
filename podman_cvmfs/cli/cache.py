# SPDX-License-Identifier: Apache-2.0
"""``podman-cvmfs cache``: carry the blob cache to hosts that can't reach registries."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import BinaryIO, TextIO

import click

from podman_cvmfs.cache.archive import Shipped, export_cache, import_cache
from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.cache.export_tree import export_tree
from podman_cvmfs.cli.options import DIRECTORY, FILE, setting, settings_given
from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.sync.stamp import forget

log = logging.getLogger(__name__)


@click.group("cache")
def command() -> None:
    """Carry configurations and manifests from registries to another host.

    So a host without outside network gets genuine configurations and manifests: sync on a host
    with network, export the cache there, import it here, and sync.
    """


@command.command("export")
@click.argument("file", type=FILE, required=False)
@click.option(
    "--directory",
    type=DIRECTORY,
    help="Write a directory instead of FILE, for the setting blob_sources of other hosts. It can "
    "be on a shared file system or below a web server. Existing files in it stay.",
)
@setting("cache", "--cache", type=DIRECTORY, help="The cache. Default: the settings' cache.")
@click.option(
    "--format",
    "output",
    type=click.Choice(["text", "json"]),
    default="text",
    help="With json: print the result as an object on standard output.",
)
def export_command(file: str | None, directory: str | None, output: str) -> None:
    """Write the whole cache to FILE, a tar archive. "-" is standard output."""
    if (file is None) == (directory is None):
        raise click.UsageError("name a FILE or a --directory")
    if file == "-" and output == "json":
        raise click.UsageError('"-" and --format json both want standard output')
    opened = _cache()
    where = printable(file or directory or "")
    more = {}
    try:
        if directory is not None:
            done = export_tree(opened, directory)
            more["new"] = done.new
        else:
            with _written(file or "") as target:
                done = export_cache(opened, target)
    except BrokenPipeError:
        raise
    except OSError as err:
        raise InputError(f"can't write {where}: {err.strerror}") from None
    log.info("%s: %d blobs, %d bytes", where, done.blobs, done.size)
    _tell(done, output, broken=done.broken, **more)


@command.command("import")
@click.argument("file", type=FILE)
@setting("cache", "--cache", type=DIRECTORY, help="The cache. Default: the settings' cache.")
@click.option(
    "--format",
    "output",
    type=click.Choice(["text", "json"]),
    default="text",
    help="With json: print the result as an object on standard output.",
)
def import_command(file: str, output: str) -> None:
    """Put the content of FILE into the cache. "-" is standard input.

    FILE comes from "cache export". Everything in it is checked. A damaged FILE changes nothing.
    """
    opened = _cache()
    try:
        with _buffer(sys.stdin) if file == "-" else open(file, "rb") as source:
            done = import_cache(opened, source, file)
    except OSError as err:
        raise InputError(f"can't read {printable(file)}: {err.strerror}") from None
    if done.new or done.new_notes:
        _wake_syncs(opened.directory)
    log.info("%s: %d blobs, %d of them new", opened.directory, done.blobs, done.new)
    _tell(done, output, new=done.new)


def _cache() -> BlobCache:
    return BlobCache(settings_given().cache)


def _wake_syncs(directory: str) -> None:
    """The next sync may find genuine documents instead of made-up ones, although no repository has
    changed."""
    try:
        forget(directory)
    except OSError as err:
        log.warning(
            "the next sync may not use the new blobs: can't remove %s/stamps: %s",
            printable(directory),
            err.strerror,
        )


def _tell(done: Shipped, output: str, **more: int) -> None:
    if output == "json":
        click.echo(json.dumps({"blobs": done.blobs, "bytes": done.size, **more}))


def _buffer(stream: TextIO | None) -> BinaryIO:
    """The bytes below a standard stream. Raises OSError where it is closed."""
    if stream is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return stream.buffer


@contextlib.contextmanager
def _written(path: str) -> Iterator[BinaryIO]:
    """A new file that replaces ``path`` once it is complete."""
    if path == "-":
        yield _buffer(sys.stdout)
        return
    if os.path.exists(path) and not os.path.isfile(path):
        # A pipe or a device is written directly.
        with open(path, "wb") as file:
            yield file
        return
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path) or ".", prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
