# SPDX-License-Identifier: Apache-2.0
"""The real containers/storage library as judge of the stores we write, through ctypes.

The library is in Go. ``go/`` wraps it into a shared library and a program, ``build`` compiles
them from the sources that the distribution's podman is made of, ``artefact`` finds them,
``binding`` loads the one, ``child`` starts either in a short-lived process, ``calls`` has every
call with its types, ``session`` and ``report`` use them. Nothing of podman_cvmfs but ``errors`` and
``oci`` is needed, and nothing outside the standard library.
"""

from podman_cvmfs.storage_native.artefact import Artefact, Kind, find, locate
from podman_cvmfs.storage_native.errors import (
    CallError,
    ChildError,
    NativeError,
    PanicError,
    Unavailable,
    WrongAbi,
)
from podman_cvmfs.storage_native.records import (
    BigData,
    CheckResult,
    Config,
    Image,
    Layer,
    Version,
)
from podman_cvmfs.storage_native.report import StoreReport, judge
from podman_cvmfs.storage_native.session import OpenStore, effective_config

__all__ = [
    "Artefact",
    "BigData",
    "CallError",
    "CheckResult",
    "ChildError",
    "Config",
    "Image",
    "Kind",
    "Layer",
    "NativeError",
    "OpenStore",
    "PanicError",
    "StoreReport",
    "Unavailable",
    "Version",
    "WrongAbi",
    "effective_config",
    "find",
    "judge",
    "locate",
]
