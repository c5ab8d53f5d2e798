# SPDX-License-Identifier: Apache-2.0
"""Addresses of the web in settings. Pure: nothing is looked up, and it imports little."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit


def is_web_address(text: str) -> bool:
    """Whether ``text`` is meant as an address of the web, and not as a path."""
    return text.lower().startswith(("https://", "http://"))


def checked_address(text: str) -> str:
    """``text``, if it is an address that may be asked: https, or http on this machine.

    Raises ValueError with words that follow the name of the setting.
    """
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must be a valid address, such as https://www.example.org/images.yaml")
    if "@" in parts.netloc:
        raise ValueError("must be an address without user and password")
    if parts.scheme != "https" and not _is_loopback(host):
        raise ValueError("must be an https address: http is only for this machine itself")
    return text


def shown_address(text: str) -> str:
    """The address for messages: without its query, which may hold a secret."""
    return urlunsplit((*urlsplit(text)[:3], "", ""))


def _is_loopback(host: str) -> bool:
    import ipaddress  # a sync with nothing to do seldom needs it

    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
