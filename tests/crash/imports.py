# SPDX-License-Identifier: Apache-2.0
"""Imports all that a sync needs, so that it imports nothing while it is watched."""

from __future__ import annotations

import importlib

for _module in ("blobcache", "cli.sync", "files", "prune", "registry", "selection", "sync"):
    importlib.import_module(f"podman_cvmfs.{_module}")
