# SPDX-License-Identifier: Apache-2.0
"""Shell files that name the store to ordinary users of podman 5 and older, by STORAGE_OPTS.

Those versions give an ordinary user none of the system's additional stores, but append the options
of the environment (containers/storage 1.43 to 1.62, ``types/options.go`` getRootlessStorageOpts) -
unless the user has a storage.conf: then, as in later versions, the environment *replaces* all
options. A driver other than overlay fails on the option, and so does every driver where the store
is missing. So the file checks all this at each login before it sets anything.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil

from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.podman.storage_conf.toml_file import read_file

PROFILE = "/etc/profile.d/podman-cvmfs.sh"
#: systemd.environment-generator(7): for what a user's service manager and desktop start.
GENERATOR = "/etc/systemd/user-environment-generators/60-podman-cvmfs"

_PROGRAM = re.compile(r",overlay\.mount_program=([\w./+@-]+)", re.ASCII)
_PLAIN = re.compile(r"[\w./+@-]+", re.ASCII)

_PROFILE_TEXT = """\
# Made by 'podman-cvmfs setup'; 'podman-cvmfs setup --undo' removes it.
# Names the store of podman-cvmfs to ordinary users, whom podman 5 and older give none of the
# stores in the system's storage.conf.

_podman_cvmfs_store() {
    [ "$(id -u)" -ne 0 ] && [ -d @STORE@/overlay-images ] || return 0
    # Options from here would replace the user's own settings.
    [ -z "${CONTAINERS_STORAGE_CONF-}" ] || return 0
    [ ! -e "${XDG_CONFIG_HOME:-${HOME-}/.config}/containers/storage.conf" ] || return 0
    # Images kept with another driver than overlay: podman would refuse the option.
    [ "${STORAGE_DRIVER:-overlay}" = overlay ] || return 0
    [ ! -d "${XDG_DATA_HOME:-${HOME-}/.local/share}/containers/storage/vfs-images" ] || return 0
    case ",${STORAGE_OPTS-}," in *,@OPTIONS@,*) return 0 ;; esac
    # A podman that understands this file reads the system's stores by itself, and would drop all
    # other options for STORAGE_OPTS. The one seen at set-up time does not.
    if [ "$(stat -Lc '%i %s %Y' "$(command -v podman)" 2>/dev/null)" != '@SEEN@' ]; then
        case "$(CONTAINERS_STORAGE_CONF=/dev/stdin podman --help 2>&1 >/dev/null <<'END'
[storage]
driver = "overlay"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
[storage.options]
additionalimagestores = [{append=true}]
END
        )" in *additionalimagestores*) ;; *) return 0 ;; esac
    fi
    STORAGE_OPTS="${STORAGE_OPTS:+$STORAGE_OPTS,}"@OPTIONS@
    export STORAGE_OPTS
}
_podman_cvmfs_store
unset -f _podman_cvmfs_store
"""

_GENERATOR_TEXT = """\
#!/bin/sh
# Made by 'podman-cvmfs setup'; 'podman-cvmfs setup --undo' removes it.
# Does for a user's services and desktop what @PROFILE@ does for shells.
[ -r @PROFILE@ ] || exit 0
. @PROFILE@
[ -z "${STORAGE_OPTS-}" ] || printf 'STORAGE_OPTS=%s\\n' "$STORAGE_OPTS"
"""


def profile_text(store: str, mount_program: str | None, seen: str) -> str:
    """The file for login shells. ``seen``: inode, size and time of podman, see ``podman_seen``.

    Raises InputError for a path that can't be written in an environment without quoting.
    """
    for path in (store, mount_program or "x"):
        if not _PLAIN.fullmatch(path):
            raise InputError(
                f"ordinary users can't get the path {printable(path)} in their environment",
                "choose a store whose path has only letters, digits and ./+@-_",
            )
    options = f"overlay.imagestore={store}"
    if mount_program:
        options += f",overlay.mount_program={mount_program}"
    text = _PROFILE_TEXT.replace("@STORE@", shlex.quote(store))
    return text.replace("@OPTIONS@", options).replace("@SEEN@", seen)


def names_a_store() -> bool:
    """Whether the present file for login shells names a store."""
    return b"overlay.imagestore=" in (read_file(PROFILE) or b"")


def present_program() -> str | None:
    """The mount program that the present file sets for ordinary users' podman; None without one."""
    found = _PROGRAM.search((read_file(PROFILE) or b"").decode("utf-8", "replace"))
    return found.group(1) if found else None


def generator_text() -> str:
    """The file for what systemd starts."""
    return _GENERATOR_TEXT.replace("@PROFILE@", PROFILE)


def podman_seen() -> str:
    """The identity of podman's binary, as ``stat -Lc '%i %s %Y'`` prints it."""
    path = shutil.which("podman")
    if path is None:
        return ""
    found = os.stat(path)
    return f"{found.st_ino} {found.st_size} {int(found.st_mtime)}"
