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
#: Where apt puts what it has fetched; in images these are closed to all but one user.
FETCHED = ("var/lib/apt/lists/partial", "var/cache/apt/archives/partial")
#: Where dpkg keeps its database.
DATABASES = ("var/lib/dpkg", "var/lib/dpkg/info", "var/lib/dpkg/triggers", "var/lib/dpkg/updates")
#: What apt and dpkg lock; empty, and closed to other users.
LOCKS = (
    *("var/lib/apt/lists/lock", "var/cache/apt/archives/lock", "var/lib/dpkg/lock"),
    *("var/lib/dpkg/lock-frontend", "var/lib/dpkg/triggers/Lock"),
)
#: Open to everybody by custom, with a sticky bit.
STICKY = ("tmp", "var/tmp", "run/lock")
