# SPDX-License-Identifier: Apache-2.0
"""The settings of CernVM-FS's client for one repository."""

from __future__ import annotations

import glob
import re
import shlex

from podman_cvmfs.util.foreign_file import read_bounded

_DIRECTORY = "/etc/cvmfs"
#: Larger files are left out, in bytes.
_MAX_FILE = 1 << 20
_ASSIGNMENT = re.compile(r"\s*(?:export\s+|readonly\s+)*([A-Za-z_]\w*)=(.*)")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


def client_settings(repository: str, directory: str = _DIRECTORY) -> dict[str, str]:
    """What the files below ``directory`` set for the ``repository`` (its name, without /cvmfs).

    The order of the files is the client's (cvmfs ``options.cc``, ``ParseDefault``); what a
    configuration repository in /cvmfs adds isn't read. The client has a shell read the files. Here
    only plain assignments count, whatever stands around them; variables in them are known if a file
    has set them. Files that can't be read count as empty, as with the client.
    """
    domain = repository.partition(".")[2]
    files = [
        f"{directory}/default.conf",
        *sorted(glob.glob(f"{glob.escape(directory)}/default.d/*.conf")),
        f"{directory}/default.local",
        f"{directory}/domain.d/{domain}.conf",
        f"{directory}/domain.d/{domain}.local",
        f"{directory}/config.d/{repository}.conf",
        f"{directory}/config.d/{repository}.local",
    ]
    found: dict[str, str] = {}
    for path in files:
        try:
            text = read_bounded(path, _MAX_FILE).decode("utf-8", "replace")
        except OSError:
            continue
        for line in text.splitlines():
            assignment = _ASSIGNMENT.match(line)
            if assignment:
                found[assignment[1]] = _value(assignment[2], found)
    return found


def _value(text: str, known: dict[str, str]) -> str:
    """The value of an assignment as a shell takes it, as far as that needs no shell."""
    try:
        words = shlex.split(text, comments=True)
    except ValueError:
        words = []
    word = words[0] if words else ""
    return _VARIABLE.sub(lambda name: known.get(name[1] or name[2], ""), word)


def is_on(value: str) -> bool:
    """Whether the client takes ``value`` for yes (cvmfs ``options.cc``, ``IsOn``)."""
    return value.upper() in ("YES", "ON", "1")
