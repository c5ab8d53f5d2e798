# SPDX-License-Identifier: Apache-2.0
"""What CernVM-FS's client tells of its network, without a request.

A client whose server is down still shows names, attributes and what is in its cache. It notices
the outage when it looks for a new revision, and when a file is read that it hasn't got.
"""

from __future__ import annotations

import os
import time

from podman_cvmfs.sync.stamp import last_error

#: The client's last messages, the newest last (seen with 2.12).
_MESSAGES = "user.logbuffer"
#: The client (2.12, ``fuse_remount.cc``) logs these when its server is gone, and when it is back.
_GONE, _BACK = "entering offline mode", "recovered from offline mode"
#: So long after a failed fetch, in seconds, the next one may fail, too.
_RECENT = 300


def trouble_of(repository: str) -> str:
    """Why the client of ``repository`` may fail to fetch files now, as a clause; "" if it tells of
    nothing, or isn't CernVM-FS's."""
    if is_offline(repository):
        return "CernVM-FS's client can't reach its server"
    if time.time() - last_error(repository) > _RECENT:
        return ""
    return "CernVM-FS's client has failed to fetch a file"


def is_offline(repository: str) -> bool:
    """Whether the client says that it works without its server."""
    try:
        said = os.getxattr(repository, _MESSAGES).decode("utf-8", "replace")
    except OSError:
        return False
    return said.rfind(_GONE) > said.rfind(_BACK)
