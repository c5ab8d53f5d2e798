# SPDX-License-Identifier: Apache-2.0
"""A site's own TLS certificates: ``certs.d`` directories.

Format: containers-certs.d(5) and containers/image v5.36 ``pkg/tlsclientconfig``: in
``certs.d/<host:port>``, each ``*.crt`` holds authorities that are trusted besides the system's,
and ``<name>.cert`` with ``<name>.key`` is a client's certificate.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass

from podman_cvmfs.errors import RegistryError, printable
from podman_cvmfs.util.foreign_file import read_bounded

SYSTEM_DIRECTORIES = ("/etc/containers/certs.d", "/etc/docker/certs.d")
#: Bytes; a bundle of all authorities there are is a few hundred thousand.
_MAX_FILE = 16 * 1024 * 1024
_FORBIDDEN = frozenset({"", ".", ".."})


@dataclass(frozen=True)
class Certificates:
    """Paths of files: authorities, and a client's certificates with their keys."""

    directory: str
    authorities: tuple[str, ...] = ()
    clients: tuple[tuple[str, str], ...] = ()


def find_certificates(host: str) -> Certificates | None:
    """The certificates for ``host`` (host and port): those in the first directory with its name.

    A directory that we can't read is skipped. Raises RegistryError for a client's certificate
    without its key and a key without its certificate.
    """
    if "/" in host or host in _FORBIDDEN:
        return None
    own = os.path.join(os.path.expanduser("~"), ".config/containers/certs.d")
    for parent in (own, *SYSTEM_DIRECTORIES):
        directory = f"{parent}/{host}"
        try:
            names = sorted(os.listdir(directory))
        except OSError:
            continue
        return _sorted_out(directory, names)
    return None


def tls_context(certificates: Certificates | None, verify: bool = True) -> ssl.SSLContext:
    """A client's TLS settings: the system's authorities and ``certificates``.

    Without ``verify`` any certificate of the server will do. Raises RegistryError for files that
    hold no certificate.
    """
    context = ssl.create_default_context()
    # Python 3.13 began to refuse authorities that don't say what their key is for; podman doesn't.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificates is None:
        return context
    for path in certificates.authorities:
        try:
            # What stands between the certificates may be in any script; ssl wants ASCII.
            text = read_bounded(path, _MAX_FILE).decode("ascii", "replace").replace("\ufffd", "?")
            context.load_verify_locations(cadata=text)
        except (OSError, ssl.SSLError, ValueError):
            raise RegistryError(f"not a certificate of an authority: {printable(path)}") from None
    for certificate, key in certificates.clients:
        try:
            for path in (certificate, key):
                # OpenSSL opens paths only, and would wait for a FIFO.
                read_bounded(path, _MAX_FILE)
            # No prompt: nobody may be there to type a passphrase.
            context.load_cert_chain(certificate, key, password="")
        except (OSError, ssl.SSLError, ValueError):
            raise RegistryError(
                f"not a client's certificate and its key: {printable(certificate)}"
            ) from None
    return context


def _sorted_out(directory: str, names: list[str]) -> Certificates:
    authorities = []
    clients = []
    for name in names:
        base, suffix = os.path.splitext(name)
        path = f"{directory}/{name}"
        if suffix == ".crt":
            authorities.append(path)
        elif suffix == ".cert":
            if f"{base}.key" not in names:
                raise RegistryError(
                    f"a client's certificate without its key: {printable(path)}",
                    "certificates of authorities are called *.crt",
                )
            clients.append((path, f"{directory}/{base}.key"))
        elif suffix == ".key" and f"{base}.cert" not in names:
            raise RegistryError(f"a key without its client's certificate: {printable(path)}")
    return Certificates(directory, tuple(authorities), tuple(clients))
