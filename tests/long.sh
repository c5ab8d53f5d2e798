#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tests/long.sh: every variant of the tests of which CI takes a part: commits, real layers, upgrades,
# lock-ups and doctor's cures on every podman. Two hours or less. Needs root and what tests/run.sh
# sets up.
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PODMAN_CVMFS_VENV:-.venv}/bin/python" -m pytest --long tests/matrix \
    tests/integration/test_lock_up.py tests/integration/test_cures.py tests/unit/doctor/test_cures.py "$@"
