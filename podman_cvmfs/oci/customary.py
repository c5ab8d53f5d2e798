# SPDX-License-Identifier: Apache-2.0
"""The directories of images in which files are made by custom, by whoever runs them."""

from __future__ import annotations

#: Where podman and the OCI runtime make files and mount points at each start.
STARTS = ("dev", "etc", "proc", "run", "sys")
#: Those, and where programs expect to write.
CUSTOMARY = (
    *("", *STARTS, "home", "media", "mnt", "opt", "root", "srv", "tmp"),
    *("usr", "usr/local", "var", "var/cache", "var/lib", "var/log", "var/run", "var/spool"),
    *("var/tmp", "cvmfs", "run/lock", "etc/containers"),
)
