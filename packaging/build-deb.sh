#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds the source package and the Debian packages of this checkout on this release:
#     packaging/build-deb.sh OUTPUT [dpkg-buildpackage's options, such as --build=all]
# Needs: apt-get build-dep ./ of the source package, or what packaging/debian/control names.
# The same checkout gives the same bytes, wherever it lies.
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: $0 OUTPUT [OPTION]..." >&2; exit 2; }
mkdir -p "$1"
output=$(cd "$1" && pwd)
shift
cd "$(dirname "$0")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
name=$(sed -n '1s/\(.*\) (\(.*\)).*/\1-\2/p' packaging/debian/changelog)
tree=$scratch/$name
mkdir "$tree"
# What git knows, as it is here; a source archive is taken whole.
if git rev-parse --is-inside-work-tree > /dev/null 2>&1; then
    git ls-files -z
else
    find . -type f -print0
fi | tar --create --null --files-from=- | tar --extract --directory="$tree"
cp -r packaging/debian "$tree/debian"
chmod -R u+w,go=u-w "$tree"

umask 022
# The distribution's own tools: the packages are for its Python.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL=C.UTF-8 TZ=UTC
(cd "$tree" && dpkg-buildpackage --no-sign "$@")
rm -rf "$tree"
mv "$scratch"/* "$output"
