#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Syncs every hostile repository in every way, and publishes every hostile image; arguments go to
# pytest. Needs root and what tests/run.sh sets up; about four minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
export PODMAN_CVMFS_TEST_ALL_WAYS=1
exec "${PODMAN_CVMFS_VENV:-.venv}/bin/python" -m pytest \
    tests/fuzz/test_hostile.py tests/fuzz/test_hostile_images.py "$@"
