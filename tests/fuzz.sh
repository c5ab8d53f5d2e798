#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Feeds every parser with bad input, a million times in all; --help shows the options.
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PODMAN_CVMFS_VENV:-.venv}/bin/python" -m tests.fuzz "$@"
