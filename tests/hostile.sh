#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs all attacks that tests/support/attacks.py lists, and syncs every hostile repository in every
# way; arguments go to pytest. Needs root and what tests/run.sh sets up; about ten minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PODMAN_CVMFS_VENV:-.venv}/bin/python"
attacks=$("$python" -m tests.support.attacks)
export PODMAN_CVMFS_TEST_ALL_WAYS=1
# shellcheck disable=SC2086
exec "$python" -m pytest $attacks "$@"
