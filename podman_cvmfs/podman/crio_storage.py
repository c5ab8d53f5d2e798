# SPDX-License-Identifier: Apache-2.0
"""Where CRI-O keeps images, and the additional stores that it uses: its own files and storage.conf
together."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from podman_cvmfs.podman.crio_conf import DIRECTORY, CrioConf, read_crio_conf
from podman_cvmfs.podman.storage_conf.effective import Places, graphroot_of, read_effective
from podman_cvmfs.podman.storage_conf.generation import Generation, reads_no_drop_ins


@dataclass(frozen=True)
class CrioStorage:
    """CRI-O's files, the additional ``stores`` in order, and the directory of containers and
    images."""

    conf: CrioConf
    stores: tuple[str, ...]
    graphroot: str


def read_crio_storage(directory: str = DIRECTORY, without: str = "") -> CrioStorage:
    """What CRI-O, with its files in ``directory``, uses, as if the file ``without`` weren't there.
    Raises InputError for broken files."""
    conf = read_crio_conf(directory, without)
    # A service has nothing in its environment.
    places = Places.of_process({"HOME": "/root"})
    effective = read_effective(places, crio_generation())
    stores = tuple(dict.fromkeys([*effective.stores, *conf.stores]))
    return CrioStorage(conf, stores, conf.root or graphroot_of(places, effective))


def crio_generation() -> Generation:
    """How CRI-O reads storage.conf. One that can't be asked counts as older: it reads no
    drop-ins."""
    there = shutil.which("crio") is not None
    return Generation("", drop_ins=there and not reads_no_drop_ins("crio"), appends=True)
