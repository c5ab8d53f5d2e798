#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Sets up everything the tests need on Debian 12 or 13 and runs all checks.
# Arguments go to pytest. PODMAN_CVMFS_VENV names the virtual environment (default: .venv).
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(
    podman buildah skopeo crun runc fuse-overlayfs uidmap netavark aardvark-dns catatonit
    docker-registry busybox-static git python3 python3-venv ca-certificates util-linux mount
    mmdebstrap openssl strace binutils golang-go gcc libc6-dev
    golang-github-containers-storage-dev golang-github-ulikunitz-xz-dev
    # For a file system like CernVM-FS's client, and one of its own to hang: libfuse, mkfs.ext4.
    fuse3 e2fsprogs
    # The packages of packaging/: what they are built with, judged by and installed with.
    build-essential debhelper dh-python pybuild-plugin-pyproject lintian rpm rpmlint systemd
    python3-all python3-hatchling python3-click python3-docutils python3-requests python3-rich
    python3-tomlkit python3-yaml python3-zstandard
    # What shows manual pages and completes.
    man-db bash-completion zsh fish
)

is_installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing=()
for package in "${packages[@]}"; do
    is_installed "$package" || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" -ne 0 ]; then
        echo "tests/run.sh: not root, and these packages are missing: ${missing[*]}" >&2
        exit 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    apt-get install -q -y --no-install-recommends "${missing[@]}"
fi

# The interpreter of the distribution: the package is meant for that one.
venv=${PODMAN_CVMFS_VENV:-.venv}
[ -x "$venv/bin/pip" ] || /usr/bin/python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check -e '.[test]'

# Root file systems of other releases, for their podmans and storage libraries, and clean ones to
# install the packages in: a few minutes, once. Without CI's demand the tests that need them say so
# and are skipped.
export PODMAN_CVMFS_ROOTS=${PODMAN_CVMFS_ROOTS:-$HOME/.cache/podman-cvmfs-test/roots}
plugins=()
if [ -n "${CI:-}" ]; then
    "$venv/bin/python" -m tests.support.roots
    "$venv/bin/python" -m tests.packaging.machine
    # All three storage libraries judge every store that any test writes.
    plugins=(-p tests.support.every_store)
fi

"$venv/bin/ruff" check .
"$venv/bin/ruff" format --check .
"$venv/bin/mypy"
pytest=("$venv/bin/python" -m pytest "${plugins[@]}")
if [ -z "${CI:-}" ] || [ $# -gt 0 ]; then
    exec "${pytest[@]}" "$@"
fi

# What is timed has the machine to itself; the rest, which waits as much as it computes, goes in two
# halves side by side.
status=0
"${pytest[@]}" tests/benchmarks || status=$?
output=$(mktemp)
trap 'rm -f "$output"' EXIT
"${pytest[@]}" tests/integration tests/packaging >"$output" 2>&1 &
"${pytest[@]}" tests --ignore tests/benchmarks --ignore tests/integration \
    --ignore tests/packaging || status=$?
wait $! || status=$?
cat "$output"
exit "$status"
