# SPDX-License-Identifier: Apache-2.0
"""What can go wrong between us and the real containers/storage library.

The tree::

    NativeError
    ├── Unavailable       there is no library or program to ask
    │   └── WrongAbi        there is one, of another version of podman-cvmfs
    ├── CallError         the library was asked and said no
    │   └── PanicError      it panicked
    └── ChildError        the process with the library died or wrote what can't be understood
"""

from __future__ import annotations

from podman_cvmfs.errors import PodmanCvmfsError


class NativeError(PodmanCvmfsError):
    """The real containers/storage library can't be asked, or said no."""


class Unavailable(NativeError):  # noqa: N818 - it says what is so
    """No library or program built from containers/storage is here, or none may be used."""


class WrongAbi(Unavailable):
    """What is here was built for another version of podman-cvmfs."""


class CallError(NativeError):
    """The library answered with an error.

    ``kind`` is "unknown" (no such image or layer), "missing" (a file isn't there), "permission",
    "unsupported" (by this version of the library), "request" (it was asked wrongly) or "storage"
    (anything else).
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class PanicError(CallError):
    """The library panicked: a mistake in it, or a store that it isn't prepared for."""


class ChildError(NativeError):
    """The process that has the library died, took too long, or wrote nonsense."""
