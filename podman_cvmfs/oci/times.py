# SPDX-License-Identifier: Apache-2.0
"""Times as images tell them and as Go, in which podman is written, reads them. Pure: no I/O."""

from __future__ import annotations

import functools
import re
from datetime import datetime, timezone

#: What Go's ``time.Time`` decodes; upper case only, as RFC 3339 is read by ``time.Parse``, which
#: takes a comma before the fraction, too.
_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2})"
    r"(?:[.,]([0-9]{1,9})[0-9]*)?(Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])\Z"
)
#: No time is longer, and what is kept of untrusted documents must not fill the memory.
_LONGEST = 64
_ZERO_TIME = "0001-01-01T00:00:00Z"


def is_time(text: str) -> bool:
    """Whether Go decodes ``text`` as a time."""
    return len(text) <= _LONGEST and _is_time(text)


@functools.lru_cache(maxsize=4096)
def _is_time(text: str) -> bool:
    """Kept, since images on one base share most of theirs."""
    match = _RFC3339.match(text)
    if match is None:
        return False
    try:
        datetime.fromisoformat(match.group(1))
    except ValueError:
        return False
    return True


def normal_time(text: str) -> str:
    """Return an RFC 3339 time as containers/storage writes it (UTC, ``Z``); junk gives year 1.

    containers/storage refuses a whole images.json for one time it can't parse, so nothing
    unchecked may pass.
    """
    match = _RFC3339.match(text) if len(text) <= _LONGEST else None
    if match is None:
        return _ZERO_TIME
    seconds, fraction, zone = match.groups()
    try:
        zone = "+00:00" if zone == "Z" else zone
        moment = datetime.fromisoformat(seconds + zone).astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return _ZERO_TIME
    fraction = (fraction or "").rstrip("0")
    # isoformat, unlike strftime, always writes the year with four digits.
    return moment.replace(tzinfo=None).isoformat() + (f".{fraction}" if fraction else "") + "Z"
