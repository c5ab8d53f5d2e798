# SPDX-License-Identifier: Apache-2.0
"""Writes all pages, below DIRECTORY (man1/podman-cvmfs.1 and so on).

``PYTHONPATH=packaging python3 -m manual DIRECTORY``
"""

from __future__ import annotations

import sys

from manual.pages import write_pages

if len(sys.argv) != 2:
    sys.exit("usage: PYTHONPATH=packaging python3 -m manual DIRECTORY")
write_pages(sys.argv[1])
