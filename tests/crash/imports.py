# SPDX-License-Identifier: Apache-2.0
"""Imports all that a sync needs, so that it imports nothing while it is watched."""

from __future__ import annotations

import importlib

for _module in (
    "podman_cvmfs.cache.blobs",
    "podman_cvmfs.cli.sync",
    "podman_cvmfs.cli.sync_report",
    "podman_cvmfs.registry",
    "podman_cvmfs.sync.about_sharing",
    "podman_cvmfs.sync.from_settings",
    "podman_cvmfs.sync.new_stamp",
    "podman_cvmfs.sync.run",
    "podman_cvmfs.sync.selection",
    "podman_cvmfs.usage.graphroots",
    "podman_cvmfs.usage.layer_users",
    "podman_cvmfs.usage.prune",
    "podman_cvmfs.util.files",
):
    importlib.import_module(_module)
