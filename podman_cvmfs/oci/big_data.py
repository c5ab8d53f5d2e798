# SPDX-License-Identifier: Apache-2.0
"""The file names of an image's big data: documents that containers/storage keeps beside it.

Stores have them, and so has what DUCC publishes for podman. Pure: no I/O.
"""

from __future__ import annotations

import base64
import re

_PLAIN_KEY = re.compile(r"[a-z0-9.]+\Z")


def big_data_file(key: str) -> str:
    """The file name of an image's big data item (containers/storage ``images.go``,
    ``makeBigDataBaseName``): a plain key as it is, any other as "=" and its base64."""
    if _PLAIN_KEY.match(key):
        return key
    return "=" + base64.b64encode(key.encode()).decode()


def manifest_digest_of(file_name: str) -> str | None:
    """The digest in the file name of a big data item ``manifest-<digest>``; None for others."""
    try:
        key = base64.b64decode(file_name[1:], validate=True).decode("ascii")
    except ValueError:
        return None
    prefix = "manifest-"
    return key[len(prefix) :] if file_name[:1] == "=" and key.startswith(prefix) else None
