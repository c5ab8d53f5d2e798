# SPDX-License-Identifier: Apache-2.0
"""``podman-cvmfs registry``: a registry whose push publishes into the repository."""

from __future__ import annotations

import asyncio
import logging
import ssl
import subprocess
import sys
from functools import partial

import click

from podman_cvmfs.cli.options import DIRECTORY, FILE, arch_option, settings_given
from podman_cvmfs.errors import InputError, PodmanCvmfsError, printable
from podman_cvmfs.publish.source.budget import parse_size
from podman_cvmfs.publish.source.registry import check_scheme
from podman_cvmfs.publish.targets import target_for
from podman_cvmfs.registry.client import RegistryClient
from podman_cvmfs.settings.paths import default_staging
from podman_cvmfs.util.foreign_file import read_bounded

log = logging.getLogger(__name__)

_MAX_TOKEN = 4096


@click.command("registry")
@click.option(
    "--listen",
    metavar="HOST:PORT",
    default="127.0.0.1:5000",
    show_default=True,
    help="Where to serve.",
)
@click.option(
    "--upstream",
    metavar="URL",
    required=True,
    help="The registry that keeps the images: https://HOST[:PORT], or http:// on this machine.",
)
@click.option(
    "--name",
    metavar="HOST[:PORT]",
    help="The name of this registry in image names. Default: the value of --listen.",
)
@click.option(
    "--repository",
    required=True,
    type=DIRECTORY,
    help="Where images are published: a plain directory, or /cvmfs/NAME on its publisher.",
)
@click.option("--sync", "syncs", is_flag=True, help="Sync this machine's store after publishing.")
@click.option("--tls-cert", type=FILE, help="Serve by https with this certificate chain (PEM).")
@click.option("--tls-key", type=FILE, help="The key of --tls-cert (PEM).")
@click.option(
    "--token-file",
    type=FILE,
    help="Accept notifications of other registries if they send the token in this file.",
)
@click.option("--staging", type=DIRECTORY, help="As for podman-cvmfs publish.")
@click.option("--assume-nosuid", is_flag=True, help="As for podman-cvmfs publish.")
@click.option("--max-size", metavar="SIZE", help="As for podman-cvmfs publish.")
@arch_option
def command(
    listen: str,
    upstream: str,
    name: str | None,
    repository: str,
    syncs: bool,
    tls_cert: str | None,
    tls_key: str | None,
    token_file: str | None,
    staging: str | None,
    assume_nosuid: bool,
    max_size: str | None,
) -> None:
    """Serve a registry whose push publishes into the repository.

    All requests go to the registry --upstream. When an image is pushed under a tag, the client gets
    its answer once the image is in the repository. If that fails, the push fails, and the client
    shows why. Images that are pushed at the same time share one transaction of CernVM-FS.
    """
    try:
        from podman_cvmfs.publish.front.proxy import Front, checked_name
        from podman_cvmfs.publish.front.serve import Publisher, serve
    except ModuleNotFoundError as err:
        raise InputError(
            f"the Python library {err.name} is missing",
            "install aiohttp: the package python3-aiohttp, or podman-cvmfs[registry] with pip",
        ) from None
    address = _address(listen)
    scheme, separator, host = upstream.rstrip("/").partition("://")
    if not separator or scheme not in ("http", "https") or "/" in host:
        raise InputError(
            f"not the address of a registry: {printable(upstream)[:300]}",
            "give --upstream https://HOST or https://HOST:PORT",
        )
    check_scheme(scheme, host)
    checked_name(host)
    called = checked_name(name or listen)
    token = None if token_file is None else _token(token_file)
    tls = _tls(tls_cert, tls_key)
    settings = settings_given()
    patience = settings.registries
    size = None if max_size is None else parse_size(max_size)
    with (
        target_for(repository, staging or default_staging(), assume_nosuid, size) as target,
        RegistryClient(
            timeout=patience.timeout, retries=patience.retries, max_pause=patience.max_pause
        ) as client,
    ):
        then = partial(_sync, repository) if syncs else lambda: None
        publisher = Publisher(host, client, target, settings.platform, then)
        asyncio.run(
            serve(
                lambda batches: Front(called, f"{scheme}://{host}", batches, token),
                publisher,
                address,
                tls,
            )
        )


def _address(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise InputError(f"not HOST:PORT: {printable(listen)[:300]}")
    return host.strip("[]"), int(port)


def _token(path: str) -> str:
    try:
        token = read_bounded(path, _MAX_TOKEN).decode("ascii", "replace").strip()
    except OSError as err:
        raise InputError(f"can't read {printable(path)}: {err.strerror}") from None
    if not token:
        raise InputError(f"{printable(path)} holds no token")
    return token


def _tls(certificate: str | None, key: str | None) -> ssl.SSLContext | None:
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise click.UsageError("give both --tls-cert and --tls-key")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as err:
        raise InputError(f"can't use the certificate {printable(certificate)}: {err}") from None
    return context


def _sync(repository: str) -> None:
    """Sync in a process of its own. Raises PodmanCvmfsError if the store isn't as it should be."""
    argv = [sys.executable, "-m", "podman_cvmfs", "sync", "--repository", repository]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise PodmanCvmfsError(f"published, but sync failed: {printable(last)}")
