#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Syncs every hostile repository in every way; arguments go to pytest. Needs root and what
# tests/run.sh sets up; about two minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
export PODMAN_CVMFS_TEST_ALL_WAYS=1
exec "${PODMAN_CVMFS_VENV:-.venv}/bin/python" -m pytest tests/fuzz/test_hostile.py "$@"
