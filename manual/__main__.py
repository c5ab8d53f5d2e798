# SPDX-License-Identifier: Apache-2.0
"""``python3 -m manual DIRECTORY`` writes all pages: DIRECTORY/man1/podman-cvmfs.1 and so on."""

from __future__ import annotations

import sys

from manual.pages import write_pages

if len(sys.argv) != 2:
    sys.exit("usage: python3 -m manual DIRECTORY")
write_pages(sys.argv[1])
