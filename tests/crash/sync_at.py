# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.crash.sync_at SECONDS ARGUMENT..`` is podman-cvmfs at that time."""

from __future__ import annotations

import sys
import time

from podman_cvmfs.cli.main import main

_NOW = float(sys.argv.pop(1))
time.time = lambda: _NOW
main()
