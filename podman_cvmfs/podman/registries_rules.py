# SPDX-License-Identifier: Apache-2.0
"""How the podman on this machine reads registries.conf.

The library containers/image decides that, and its version isn't tied to podman's: distributions
build podman 5 with old and new ones. So podman 5 is asked. ``podman __complete login`` lists the
registries to search (podman ``cmd/podman/common/completion.go``); it opens no storage.
"""

from __future__ import annotations

import functools
import os
import tempfile
from dataclasses import dataclass

from podman_cvmfs.errors import InputError
from podman_cvmfs.podman.features import podman_major
from podman_cvmfs.podman.storage_conf.ask import ask, environment

_MARK = "asked.podman-cvmfs.invalid"


@dataclass(frozen=True)
class RegistriesRules:
    """``everywhere``: the files are found by the rules of containers/image 5.40 and later, also in
    /usr/share, and version 1 of the format is an error. ``skips_bom``: a byte order mark before the
    text is no error.
    """

    everywhere: bool
    skips_bom: bool = True


@functools.cache
def registries_rules() -> RegistriesRules:
    """The rules of the podman in PATH. Without podman: the rules of containers/image up to 5.39,
    which other engines still have."""
    major = podman_major()
    if major is None:
        return RegistriesRules(everywhere=False)
    if major < 5:
        return RegistriesRules(everywhere=False, skips_bom=False)
    return RegistriesRules(everywhere=major > 5 or _reads_override())


def _reads_override() -> bool:
    """Whether podman reads the file that CONTAINERS_REGISTRIES_CONF_OVERRIDE names."""
    with tempfile.TemporaryDirectory(prefix="podman-cvmfs-") as scratch:
        named = {}
        # The first one is there so that no other file of this machine is read, and fails.
        for variable, text in (
            ("CONTAINERS_REGISTRIES_CONF", ""),
            ("CONTAINERS_REGISTRIES_CONF_OVERRIDE", f'unqualified-search-registries = ["{_MARK}"]'),
        ):
            named[variable] = os.path.join(scratch, variable)
            with open(named[variable], "w", encoding="utf-8") as file:
                file.write(text)
        try:
            done = ask("__complete", {**environment(), **named}, "login", "")
        except InputError:
            return False
    return _MARK in done.stdout
