# SPDX-License-Identifier: Apache-2.0
"""Turns failed requests into errors with a message. No network."""

from __future__ import annotations

import requests
import urllib3

from podman_cvmfs.errors import RegistryBusy, RegistryError, RegistryUnreachable, printable
from podman_cvmfs.registry.addresses import ForbiddenAddressError

TIMEOUTS = (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)
#: urllib3 2 has an error of its own for it; urllib3 1 passes on what the resolver says.
_UNKNOWN_HOST = ("NameResolutionError", "Name or service not known", "name resolution")
#: How requests says that it can't use a proxy at all.
_NO_SOCKS = "Missing dependencies for SOCKS"
_NO_PROXY = ("Proxy URL had", "Please check proxy URL")


class BrokenOffError(RegistryError):
    """An answer broke off. The next attempt may succeed."""


class StalledError(BrokenOffError):
    """The rest of an answer didn't come in time."""


def refused(subject: str, host: str, status: int) -> RegistryError:
    """The error if a registry limits our requests or has a fault."""
    if status == 429:
        return RegistryBusy(
            f"{subject}: {printable(host)} limits the rate of requests (HTTP 429)",
            "try again later, or log in: users with a login may have a higher limit",
        )
    kind = RegistryBusy if status >= 500 else RegistryError
    return kind(f"{subject}: {printable(host)} answered HTTP {status}")


def may_pass(err: Exception) -> bool:
    """Whether a failed request is worth repeating: after a broken connection, but not after a
    refused one."""
    if isinstance(err, (requests.exceptions.SSLError, requests.exceptions.ProxyError)):
        return False
    if isinstance(err, requests.Timeout) or "NewConnectionError" in repr(err):
        return False
    return isinstance(err, (requests.ConnectionError, requests.exceptions.ChunkedEncodingError))


def is_late(err: Exception) -> bool:
    """Whether a request reached its host, and no answer came in time."""
    return isinstance(err, TIMEOUTS) and not isinstance(err, requests.ConnectTimeout)


def failure(err: Exception, subject: str, host: str) -> RegistryError:
    """Put a failed request into words. The exception's own text may hold a URL: not used."""
    text, hint = str(err), None
    if isinstance(err, ForbiddenAddressError):
        return RegistryError(f"{subject}: bad answer from {printable(host)}: {text}", err.hint)
    if isinstance(err, requests.exceptions.SSLError):
        cause = "its TLS certificate or connection is not acceptable"
    elif isinstance(err, requests.exceptions.ProxyError):
        cause = "the proxy can't be reached"
    elif text.startswith(_NO_SOCKS):
        cause = "a SOCKS proxy needs PySocks, which isn't installed"
        hint = "its packages are python3-socks in Debian, python3-pysocks in Fedora"
    elif text.startswith(_NO_PROXY):
        cause = "the proxy address is not valid"
    elif isinstance(err, TIMEOUTS):
        cause = "it doesn't answer in time"
    elif "Connection refused" in text:
        cause = "connection refused"
    elif any(sign in text for sign in _UNKNOWN_HOST):
        cause = "no such host"
    elif isinstance(err, (requests.ConnectionError, urllib3.exceptions.HTTPError, OSError)) and (
        not isinstance(err, requests.RequestException) or isinstance(err, requests.ConnectionError)
    ):
        cause = "the connection failed"
    else:
        # A redirect to another scheme, too many redirects, an address that is not valid.
        return RegistryError(f"{subject}: bad answer from {printable(host)}: {type(err).__name__}")
    message = f"{subject}: can't reach {printable(host)}: {cause}"
    return RegistryUnreachable(message, hint)
