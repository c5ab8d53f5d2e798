#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds the source and binary RPMs of this checkout:
#     packaging/build-rpm.sh OUTPUT [rpmbuild's options]
# Needs what the spec names as BuildRequires. On Debian: rpm python3-docutils python3-hatchling and the
# libraries that packaging/debian/control names. The same checkout gives the same binary packages,
# byte by byte; the source package also holds where it was built.
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: $0 OUTPUT [OPTION]..." >&2; exit 2; }
mkdir -p "$1"
output=$(cd "$1" && pwd)
shift
cd "$(dirname "$0")/.."

umask 022
# The distribution's own tools: the packages are for its Python.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL=C.UTF-8 TZ=UTC
spec=packaging/rpm/podman-cvmfs.spec
# The date of the changelog's newest entry; its noon, which rpm takes, could be yet to come.
day=$(sed -n '/^%changelog/{n;s/^\* \(... ... .. ....\) .*/\1/p}' "$spec")
SOURCE_DATE_EPOCH=$(date --date="$day 00:00 UTC" +%s)
export SOURCE_DATE_EPOCH

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
name=$(sed -n 's/^Name: *//p' "$spec")-$(sed -n 's/^Version: *//p' "$spec")
# What git knows, as it is here; a source archive is taken whole.
if git rev-parse --is-inside-work-tree > /dev/null 2>&1; then
    git ls-files -z
else
    find . -type f -print0
fi | LC_ALL=C sort --zero-terminated | tar --create --null --no-recursion --files-from=- \
    --transform="s,^\(\./\)\?,$name/," --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 \
    --numeric-owner --mode=u+w,go=u-w --format=gnu | gzip --no-name -9 > "$scratch/$name.tar.gz"

options=(
    --define "_topdir $scratch/top" --define "_sourcedir $scratch" --define "_rpmdir $output"
    --define "_srcrpmdir $output" --define "_build_name_fmt %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm"
    --define "use_source_date_epoch_as_buildtime 1" --define "clamp_mtime_to_source_date_epoch 1"
    --define "_buildhost reproducible"
)
if [ "$(rpm --eval '%{?_unitdir}')" = "" ]; then
    site=$(python3 -c 'import sysconfig; print(sysconfig.get_path("purelib", "deb_system"))')
    # As the user's macros, which every rpm reads, as often as it reads its own: from one place until
    # 4.19, from the other since. Neither --load nor --macros lasts in both.
    export HOME=$scratch
    install -D -m 0644 packaging/rpm/macros.elsewhere "$HOME/.rpmmacros"
    install -D -m 0644 packaging/rpm/macros.elsewhere "$HOME/.config/rpm/macros"
    options+=(--define "python3_sitelib $site" --define "_dbpath $scratch/rpmdb" --nodeps)
fi
rpmbuild -bs "${options[@]}" "$@" "$spec"
# Not in one go: the binary packages would have the source package's digest in them.
rpmbuild -bb "${options[@]}" "$@" "$spec"
