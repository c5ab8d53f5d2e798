#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tests/soak.sh [MINUTES]: podmans that list, run, pull and build in loops while syncs add, retag,
# remove and prune; 10 minutes unless told otherwise. Needs root and what tests/run.sh sets up.
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PODMAN_CVMFS_VENV:-.venv}/bin/python" -m tests.crash.soak "$@"
