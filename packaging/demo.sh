#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Shows the main job on an otherwise empty Debian 12 or 13, as root: a small real image is
# published into a directory repository, synced, and run by podman with no registry anywhere.
# The same image is also pulled from a registry on loopback, to compare the times.
# Everything lies in a temporary directory that is removed at the end; mounts are private.
set -euo pipefail

say() { printf '\n== %s\n' "$*"; }
die() { echo "demo.sh: $*" >&2; exit 1; }

[ "$(id -u)" -eq 0 ] || die "run this as root: it installs packages and starts containers"
checkout=$(cd "$(dirname "$0")/.." && pwd)

if [ "${1:-}" != --inside ]; then
    packages=(podman buildah crun runc netavark docker-registry mmdebstrap python3-venv)
    missing=()
    for package in "${packages[@]}"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
            missing+=("$package")
    done
    if [ ${#missing[@]} -gt 0 ]; then
        say "Installing ${missing[*]}"
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq
        apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
    fi
    work=$(mktemp -d /var/tmp/podman-cvmfs-demo.XXXXXX)
    trap 'rm -rf --one-file-system "$work"' EXIT
    # Not exec: the directory can go only after the inner namespace's mounts have gone.
    unshare --mount --propagation private bash "$0" --inside "$work"
    exit
fi

work=$2
cd "$work"
registry_pid=
trap '[ -z "$registry_pid" ] || kill "$registry_pid" 2>/dev/null || true' EXIT

# --- Surroundings: a podman that shares nothing with the machine's own -------------------------

for path in /var/lib/containers /etc/containers /dev/shm /run/containers /run/libpod /run/crun \
    /run/runc; do
    mkdir -p "$path"
    mount -t tmpfs tmpfs "$path"
done
echo '{"default": [{"type": "insecureAcceptAnything"}]}' >/etc/containers/policy.json
export HOME=$work/home TMPDIR=$work/tmp XDG_RUNTIME_DIR=$work/xdg
mkdir -p "$HOME" "$TMPDIR" "$work/networks" && mkdir -m 0700 "$XDG_RUNTIME_DIR"
unset XDG_CONFIG_HOME XDG_DATA_HOME XDG_CACHE_HOME

# containers_conf RUNTIME CGROUPS: no network and no raised limits, which suits any machine.
containers_conf() {
    cat >"$work/containers.conf" <<END
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
netns = "none"
cgroups = "$2"
log_driver = "k8s-file"
[engine]
runtime = "$1"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_config_dir = "$work/networks"
END
}
export CONTAINERS_CONF=$work/containers.conf CONTAINERS_REGISTRIES_CONF=$work/registries.conf

# in_storage NAME ADDITIONAL_STORE COMMAND...: run a command with a storage of its own.
in_storage() {
    local name=$1 store=$2
    shift 2
    cat >"$work/$name.conf" <<END
[storage]
driver = "overlay"
graphroot = "$work/$name"
runroot = "$work/$name.run"
[storage.options]
additionalimagestores = [${store:+"\"$store\""}]
END
    CONTAINERS_STORAGE_CONF=$work/$name.conf "$@"
}

start_registry() {
    docker-registry serve registry.yml >registry.log 2>&1 &
    registry_pid=$!
    for _ in $(seq 200); do
        (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null && return
        sleep 0.05
    done
    die "the registry doesn't start: $(tail -n 3 registry.log)"
}
stop_registry() {
    kill "$registry_pid"
    wait "$registry_pid" || true
    registry_pid=
}

# timed COMMAND...: run it, leave its seconds in $seconds.
timed() {
    local begin=$EPOCHREALTIME
    "$@"
    seconds=$(python - "$begin" "$EPOCHREALTIME" <<'END'
import sys
print(f"{float(sys.argv[2]) - float(sys.argv[1]):.2f}")
END
    )
}

say "Installing podman-cvmfs into a virtual environment"
/usr/bin/python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "$checkout"
PATH=$work/venv/bin:$PATH

say "Making a Debian root file system (mmdebstrap)"
# The suite and mirror that apt uses here.
# shellcheck source=/dev/null
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
# shellcheck disable=SC2016  # apt expands these
mirror=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI) $(CREATED_BY)' |
    awk -v suite="$suite" '$1 == suite && $3 == "Packages" { print $2; exit }')
mmdebstrap --quiet --mode=root --variant=essential "$suite" "$work/root" ${mirror:+"$mirror"}

# How containers start here is found by starting one; crun can do without cgroups.
started=
if [ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ]; then
    umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup
fi
for how in "crun disabled" "runc enabled"; do
    # shellcheck disable=SC2086
    containers_conf $how
    if in_storage trial "" podman run --rm --rootfs "$work/root" true 2>>trial.log; then
        started=$how
        break
    fi
done
[ -n "$started" ] || die "podman can't start a container here: $(cat trial.log)"

say "Building a three-layer image and pushing it to a registry on loopback"
port=$(python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat >registry.yml <<END
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $work/registry}}
http: {addr: "127.0.0.1:$port"}
END
printf '[[registry]]\nlocation = "127.0.0.1:%s"\ninsecure = true\n' "$port" >registries.conf
image=127.0.0.1:$port/demo/hello:1
mkdir context
tar --numeric-owner --exclude='./dev/*' -C root -cf context/root.tar .
# shellcheck disable=SC2016  # the container's shell expands these
printf '#!/bin/sh\n. /etc/os-release\necho "$GREETING from $PRETTY_NAME in $(cat /etc/demo)"\n' \
    >context/hello
chmod 0755 context/hello
echo "three layers" >context/demo
cat >context/Containerfile <<'END'
FROM scratch
ADD root.tar /
COPY hello /usr/local/bin/hello
COPY demo /etc/demo
ENV PATH=/usr/local/bin:/usr/bin:/bin GREETING=Hello
CMD ["hello"]
END
start_registry
in_storage build "" buildah build --quiet --layers --tag "$image" context >/dev/null
in_storage build "" buildah push --quiet "$image"
rm -rf root context

say "The usual way: podman run pulls the image first"
timed in_storage pulled "" podman run --quiet --rm "$image"
pull_seconds=$seconds

say "podman-cvmfs publish: unpack the image into a directory repository (once for a whole site)"
timed podman-cvmfs publish "http://$image" --repository "$work/repository"
publish_seconds=$seconds

say "podman-cvmfs sync: write the additional image store"
timed podman-cvmfs sync --repository "$work/repository" --store "$work/store" --cache "$work/cache"
sync_seconds=$seconds

say "Stopping the registry"
stop_registry

size() { du -sk "$@" | awk '{ sum += $1 } END { printf "%.1f MB", sum / 1024 }'; }
ours() { in_storage ours "$work/store" "$@"; }
ours podman images
timed ours podman run --pull=never --name demo "$image" >output
run_seconds=$seconds
run_size=$(size ours)
ours podman rm demo >/dev/null

say "What it took"
cat <<END
podman run, image pulled from loopback   $pull_seconds s   $(size pulled) in podman's storage
podman run, image from the repository    $run_seconds s   $run_size in podman's storage
podman-cvmfs sync                        $sync_seconds s   $(size store) of store
podman-cvmfs publish (once, centrally)   $publish_seconds s   $(size repository) in the repository
A registry on loopback is as near as one can be; both ways started with empty storage.
END

say "The container's output, with no registry running"
cat output
