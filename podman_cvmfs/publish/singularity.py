# SPDX-License-Identifier: Apache-2.0
"""The files that let Singularity (Apptainer) run a flat root, where DUCC puts them.

The image's environment and its command are written in exactly DUCC's form (cvmfs
``ducc/singularity/startup_files.go``), since other tools read them from there.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence
from typing import Any

from podman_cvmfs.oci.documents import ImageConfig, parse_json
from podman_cvmfs.oci.schema import member
from podman_cvmfs.publish.unpack import attributes
from podman_cvmfs.publish.unpack.attributes import Attributes
from podman_cvmfs.publish.unpack.safe_tree import (
    BUILD_MODE,
    CREATE_FILE,
    lstat,
    remove,
    write_all,
)
from podman_cvmfs.util.below import directory, open_directory

_SOURCE_ENVIRONMENT = """#!/bin/sh
for part in /.singularity.d/env/*.sh; do
    [ -f "$part" ] && . "$part"
done
"""
_EXEC = _SOURCE_ENVIRONMENT + 'exec "$@"\n'
_RUN = (
    _SOURCE_ENVIRONMENT
    + """if [ -n "${SINGULARITY_APPNAME:-}" ]; then
    exec "/scif/apps/$SINGULARITY_APPNAME/scif/runscript" "$@"
fi
exec /.singularity.d/runscript "$@"
"""
)
_SHELL = (
    _SOURCE_ENVIRONMENT
    + """for SHELL in "${SINGULARITY_SHELL:-}" /bin/bash /bin/sh; do
    if [ -n "$SHELL" ] && [ -x "$SHELL" ]; then
        export SHELL
        [ "$SHELL" = /bin/bash ] && set -- --norc "$@"
        exec "$SHELL" "$@"
    fi
done
echo "this image has no shell" >&2
exit 1
"""
)
# Process 1 of an instance stops itself and waits to be woken by this script.
_START = (
    "#!/bin/sh\nkill -CONT 1\n"
    + _SOURCE_ENVIRONMENT.partition("\n")[2]
    + ("exec /.singularity.d/startscript\n")
)
_TEST = (
    _SOURCE_ENVIRONMENT
    + """if [ -x /.singularity.d/test ]; then
    exec /.singularity.d/test "$@"
fi
exit 0
"""
)
_APPS = """#!/bin/sh
if [ -n "${SINGULARITY_APPNAME:-}" ]; then
    SCIF_APPS=/scif/apps
    SCIF_APPROOT="$SCIF_APPS/$SINGULARITY_APPNAME"
    PATH="$SCIF_APPROOT/bin:$SCIF_APPROOT:$PATH"
    LD_LIBRARY_PATH="$SCIF_APPROOT/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    export SINGULARITY_APPNAME SCIF_APPS SCIF_APPROOT PATH LD_LIBRARY_PATH
    for part in "$SCIF_APPROOT"/scif/env/*.sh; do
        [ -f "$part" ] && . "$part"
    done
fi
"""
_LIBRARIES = """#!/bin/sh
LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}/.singularity.d/libs"
PS1="Singularity> "
export LD_LIBRARY_PATH PS1
"""
_RUNTIME = """#!/bin/sh
PATH="${SING_USER_DEFINED_PREPEND_PATH:+$SING_USER_DEFINED_PREPEND_PATH:}$PATH"
PATH="$PATH${SING_USER_DEFINED_APPEND_PATH:+:$SING_USER_DEFINED_APPEND_PATH}"
PATH="${SING_USER_DEFINED_PATH:-$PATH}"
unset SING_USER_DEFINED_PREPEND_PATH SING_USER_DEFINED_APPEND_PATH SING_USER_DEFINED_PATH
export PATH
"""
#: Arguments replace the command; an entry point always comes first.
_RUNSCRIPT = """#!/bin/sh
OCI_ENTRYPOINT='{entrypoint}'
OCI_CMD='{command}'
if [ $# -gt 0 ]; then
    eval "set -- $OCI_ENTRYPOINT \\"\\$@\\""
else
    eval "set -- $OCI_ENTRYPOINT $OCI_CMD"
fi
exec "$@"
"""

_SCRIPTS = {
    "actions/exec": _EXEC,
    "actions/run": _RUN,
    "actions/shell": _SHELL,
    "actions/start": _START,
    "actions/test": _TEST,
    "env/01-base.sh": "#!/bin/sh\n",
    "env/90-environment.sh": "#!/bin/sh\n",
    "env/95-apps.sh": _APPS,
    "env/99-base.sh": _LIBRARIES,
    "env/99-runtimevars.sh": _RUNTIME,
    "startscript": "#!/bin/sh\n",
}
_OWN_DIRECTORIES = (
    ".singularity.d",
    ".singularity.d/actions",
    ".singularity.d/env",
    ".singularity.d/libs",
)
_LINKS = {
    ".exec": ".singularity.d/actions/exec",
    ".run": ".singularity.d/actions/run",
    ".shell": ".singularity.d/actions/shell",
    ".test": ".singularity.d/actions/test",
    "environment": ".singularity.d/env/90-environment.sh",
    "singularity": ".singularity.d/runscript",
}
#: What Singularity mounts things on, with the modes they get where the image lacks them.
_MOUNT_POINTS = {
    "dev": 0o755,
    "etc": 0o755,
    "home": 0o755,
    "proc": 0o755,
    "root": 0o755,
    "sys": 0o755,
    "tmp": 0o1777,
    "var/tmp": 0o1777,
}
_EMPTY_FILES = ("etc/hosts", "etc/resolv.conf")

_SCRIPT = Attributes(0o755)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z", re.ASCII)
_GO_ESCAPES = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    '"': '\\"',
    "\\": "\\\\",
}


def add_files(root: int, config: ImageConfig) -> None:
    """Add Singularity's files to the merged root open as ``root``.

    No link of the image is followed. What the image has of these names stays, except in
    ``.singularity.d``, which is ours.
    """
    settings = member(parse_json(config.raw, "image configuration"), "config") or {}
    #: Directories that the image lacked, parents first, with the modes to give them.
    made: dict[str, int] = {}
    for path, mode in _MOUNT_POINTS.items():
        _make_directory(root, path, mode, made)
    for path in _EMPTY_FILES:
        above, _, name = path.rpartition("/")
        fd = _existing(root, above)
        if fd is not None:
            try:
                if lstat(name.encode(), fd) is None:
                    _write(fd, name, "", Attributes(0o644))
            finally:
                os.close(fd)
    for own in _OWN_DIRECTORIES:
        _own_directory(root, own)
    scripts = {
        **_SCRIPTS,
        "env/10-docker2singularity.sh": environment(_texts(settings, "Env")),
        "runscript": runscript(_texts(settings, "Entrypoint"), _texts(settings, "Cmd")),
    }
    for path, text in scripts.items():
        above, _, name = f".singularity.d/{path}".rpartition("/")
        with directory(above.encode(), root) as fd:
            remove(name.encode(), fd)
            _write(fd, name, text, _SCRIPT)
    made.update(dict.fromkeys(_OWN_DIRECTORIES, 0o755))
    # Last, so that their times don't change any more.
    for path, mode in made.items():
        with directory(path.encode(), root) as fd:
            attributes.apply(Attributes(mode), fd)
    for name, target in _LINKS.items():
        if lstat(name.encode(), root) is None:
            os.symlink(target, name, dir_fd=root)
            attributes.apply_special(Attributes(0o777), name.encode(), root)


def environment(variables: Sequence[str]) -> str:
    """The script that sets the image's environment; variables that are already set win, except
    PATH.

    Names that no shell accepts are left out: one of them would end the whole script.
    """
    lines = ["#!/bin/sh\n"]
    for variable in variables:
        name, equals, value = variable.partition("=")
        if not _VARIABLE.match(name):
            continue
        quoted = go_quote(_shell_escape(value))
        if not equals:
            lines.append(f'export {name}="${{{name}:-}}"\n')
        elif name == "PATH":
            lines.append(f"export {name}={quoted}\n")
        else:
            lines.append(f'export {name}="${{{name}:-{quoted}}}"\n')
    return "".join(lines)


def runscript(entrypoint: Sequence[str], command: Sequence[str]) -> str:
    """The script that runs the image's command."""
    return _RUNSCRIPT.format(entrypoint=_words(entrypoint), command=_words(command))


def _words(words: Sequence[str]) -> str:
    text = " ".join(f'"{_shell_escape(word)}"' for word in words)
    # DUCC leaves single quotes alone, which breaks the script: the one place where we differ.
    return text.replace("'", "'\\''")


def _shell_escape(text: str) -> str:
    """Escape the characters that a shell interprets between double quotes."""
    return re.sub(r'([\\"`$])', r"\\\1", text)


def go_quote(text: str) -> str:
    """Quote ``text`` as Go's ``%q`` does (strconv.Quote)."""
    return '"' + "".join(_go_escape(character) for character in text) + '"'


def _go_escape(character: str) -> str:
    code = ord(character)
    if character in _GO_ESCAPES:
        return _GO_ESCAPES[character]
    if character.isprintable():
        return character
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _texts(settings: Mapping[str, Any], name: str) -> list[str]:
    """A list in the settings; like Go this reads null as an empty text."""
    return [text or "" for text in member(settings, name) or ()]


def _write(fd: int, name: str, text: str, wanted: Attributes) -> None:
    file = os.open(name, CREATE_FILE, 0o600, dir_fd=fd)
    try:
        write_all(file, text.encode("utf-8", "replace"))
        attributes.apply(wanted, file)
    finally:
        os.close(file)


def _existing(root: int, path: str) -> int | None:
    """Open the directory ``path``; None if it, or a part of its path, isn't a directory."""
    try:
        return open_directory(path.encode(), root)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _make_directory(root: int, path: str, mode: int, made: dict[str, int]) -> None:
    """Make the directory ``path`` and those above it, unless something else is in the way."""
    above, _, name = path.rpartition("/")
    if above:
        _make_directory(root, above, 0o755, made)
    fd = _existing(root, above)
    if fd is None:
        return
    try:
        if lstat(name.encode(), fd) is None:
            os.mkdir(name, BUILD_MODE, dir_fd=fd)
            made[path] = mode
    finally:
        os.close(fd)


def _own_directory(root: int, path: str) -> None:
    """Make sure that ``path`` is a directory and no link to one; its parent is one."""
    above, _, name = path.encode().rpartition(b"/")
    with directory(above, root) as fd:
        status = lstat(name, fd)
        if status is None or not stat.S_ISDIR(status.st_mode):
            remove(name, fd)
            os.mkdir(name, BUILD_MODE, dir_fd=fd)
