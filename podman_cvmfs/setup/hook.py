# SPDX-License-Identifier: Apache-2.0
"""The OCI hook that has podman read a container's files early, when it starts the container.

podman runs hooks of the stage ``precreate`` before the runtime: the container's configuration comes
on standard input, and podman takes what the hook prints in its place (oci-hooks(5) of podman 4.3 to
5.8; ``libpod/container_internal_common.go``, ``setupOCIHooks``). Each container pays for that, so
the hook is a shell script of a few lines. It stands in the hook's own file: a program that somebody
removes must not keep containers from starting.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence

import tomlkit

from podman_cvmfs.podman.storage_conf.edit import HOOKS, add
from podman_cvmfs.podman.storage_conf.effective import Places, read_hook_directories
from podman_cvmfs.podman.storage_conf.generation import Generation
from podman_cvmfs.podman.storage_conf.toml_file import read_file
from podman_cvmfs.settings.files import VARIABLE
from podman_cvmfs.setup.record import Manifest
from podman_cvmfs.setup.request import Plan

_NAME = "podman-cvmfs-prefetch.json"
_SYSTEM_DROP_IN = "99-podman-cvmfs-hooks.conf"
_USER_DROP_IN = "98-podman-cvmfs-user-hooks.conf"
#: Where podman looks unless a file names directories. One that is missing is no error (seen on
#: podman 4.3, 5.4 and 5.8).
_USUAL = ("/usr/share/containers/oci/hooks.d",)
_HEADER = """\
# Has podman read a container's files early: 'podman-cvmfs setup --prefetch' makes this file,
# 'podman-cvmfs setup --undo' removes it.
"""
#: $1 is the store, $2 the directory of marks, the rest is the command to call. The configuration is
#: one line of JSON without blanks, as Go's encoding/json writes it. In a string a quotation mark
#: comes after a backslash, so no string looks like the parts that are looked for. The container's
#: image is ours if a layer below the container's is one of our store. If its mark has a time in the
#: future, it was read just before: files in /proc are of this moment. The directory may be
#: anybody's (podman run --rootfs): what lies in it isn't waited for, and names no file elsewhere.
SCRIPT = r"""
config=$(cat; echo x)
printf %s "${config%x}"
store=$1
marks=$2
shift 2
[ -x "$1" ] || exit 0
set -f
IFS='"'
found=0
for word in $config; do
    case $found$word in
        0root | 1:\{ | 2path | 3:) found=$((found + 1)) ;;
        4*) layer=${word%/merged}; break ;;
        *) found=0 ;;
    esac
done
[ -f "$layer/lower" ] && [ -r "$layer/lower" ] || exit 0
read -r lower <"$layer/lower"
IFS=:
for name in $lower; do
    name=${name#l/}
    case $name in */*) continue ;; esac
    if [ -L "$store/overlay/l/$name" ]; then
        mark=$marks/$name
        [ "$mark" -nt /proc/self/stat ] && break
        cd /
        setsid "$@" --store "$store" --layer "$name" --mark "$mark" \
            </dev/null >/dev/null 2>&1 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&- &
        break
    fi
done
exit 0
"""
_COMMAND = ("-q", "prefetch")
#: What decides where the command finds a user's settings. Root's hook may serve other users, too.
_USERS_VARIABLES = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")


def put_hook(plan: Plan, places: Places, generation: Generation, store: str) -> None:
    """Plan the hook for root's podman, or for a user's. Raises InputError for broken files of
    podman."""
    directory = f"{places.user if places.uid else places.admin}/oci/hooks.d"
    plan.put(f"{directory}/{_NAME}", hook(store, _marks(places)))
    if places.containers_conf:
        path = places.containers_conf
    else:
        owner, name = (
            (places.user, _USER_DROP_IN) if places.uid else (places.admin, _SYSTEM_DROP_IN)
        )
        path = f"{owner}/containers.conf.d/{name}"
    others = read_hook_directories(places, generation, without=path)
    if places.containers_conf:
        data = read_file(path) or b""
        present = read_hook_directories(places, generation)
        wanted = [each for each in (*(others or _USUAL), directory) if each not in present]
        plan.put(path, add(path, data, HOOKS, wanted))
    elif directory not in others:
        plan.put(path, _drop_in(directory, others or _USUAL, appends=generation.appends))


def has_hook(earlier: Manifest) -> bool:
    """Whether an earlier set-up made the hook, which then follows the store."""
    return any(os.path.basename(record.path) == _NAME for record in earlier.files)


def hook(store: str, marks: str) -> bytes:
    """The file for podman's directory of hooks (oci-hooks(5), version 1.0.0). ``marks`` is a
    directory that is made when it is needed; it has a file for each image that was read."""
    names = (*(_USERS_VARIABLES if os.geteuid() else ()), VARIABLE)
    variables = {name: os.environ[name] for name in names if os.environ.get(name)}
    variables["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    document = {
        "version": "1.0.0",
        "hook": {
            "path": "/bin/sh",
            "args": ["sh", "-c", SCRIPT, "podman-cvmfs", store, marks, *_program(), *_COMMAND],
            "env": [f"{name}={value}" for name, value in sorted(variables.items())],
        },
        "when": {"always": True},
        "stages": ["precreate"],
    }
    return (json.dumps(document, indent=4) + "\n").encode()


def _marks(places: Places) -> str:
    if not places.uid:
        return "/run/podman-cvmfs"
    return f"{os.environ.get('XDG_RUNTIME_DIR') or f'/run/user/{places.uid}'}/podman-cvmfs"


def _program() -> list[str]:
    """How this program is called: by its path, or as a module where it has no program."""
    program = shutil.which(sys.argv[0])
    if program is not None and os.path.basename(program) == "podman-cvmfs":
        return [os.path.abspath(program)]
    return [sys.executable, "-m", "podman_cvmfs"]


def _drop_in(directory: str, others: Sequence[str], *, appends: bool) -> bytes:
    """The drop-in of containers.conf that names the directory behind the ``others``. ``appends``:
    this podman can append to what files say that are read later."""
    array = tomlkit.array()
    for each in (*others, directory):
        array.append(each)
    if appends:
        attribute = tomlkit.inline_table()
        attribute["append"] = True
        array.append(attribute)
    document = tomlkit.document()
    document["engine"] = {"hooks_dir": array}
    return (_HEADER + tomlkit.dumps(document)).encode()
