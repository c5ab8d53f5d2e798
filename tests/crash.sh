#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Kills a sync at every file-system call it makes, and lets each call fail with each error.
# Needs root and what tests/run.sh sets up; about half an hour. --help shows how to do a part.
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PODMAN_CVMFS_VENV:-.venv}/bin/python" -m tests.crash "$@"
