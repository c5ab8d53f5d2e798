# SPDX-License-Identifier: Apache-2.0
"""The shared library, bound with ctypes.

Only for short-lived processes of its own (``child``), because loading it brings a Go runtime in:
it takes over signal handlers; it doesn't see later changes to ``os.environ``; a forked child hangs
at Go's next garbage collection; options are read once per process; and for mounts with more data
than a page the library starts ``/proc/self/exe`` again, which then is Python.

Memory: an answer is the caller's, who frees it through the library. So its type is ``c_void_p``:
with ``c_char_p`` ctypes would hand out a copy and lose the address.
"""

from __future__ import annotations

import ctypes

from podman_cvmfs.errors import printable
from podman_cvmfs.storage_native.artefact import ABI
from podman_cvmfs.storage_native.errors import NativeError, Unavailable, WrongAbi


class SharedLibrary:
    """The library in the file ``path``; may be used from several threads."""

    def __init__(self, path: str) -> None:
        """Raises Unavailable for a file that can't be loaded or isn't ours, WrongAbi."""
        try:
            library = ctypes.CDLL(path)
            self._abi = library.podman_cvmfs_abi
            self._call = library.podman_cvmfs_call
            self._free = library.podman_cvmfs_free
        except (OSError, AttributeError, ValueError) as err:
            raise Unavailable(f"can't load {printable(path)}: {printable(str(err))}") from err
        self._abi.argtypes = ()
        self._abi.restype = ctypes.c_int
        self._call.argtypes = (ctypes.c_char_p, ctypes.c_size_t)
        self._call.restype = ctypes.c_void_p
        self._free.argtypes = (ctypes.c_void_p,)
        self._free.restype = None
        check_abi(path, self._abi())

    def call(self, request: bytes) -> bytes:
        """Hand over one request and return the answer, both JSON (see ``envelope``)."""
        address = self._call(request, len(request))
        if not address:
            raise NativeError("the containers/storage library is out of memory")
        try:
            return ctypes.string_at(address)
        finally:
            self._free(address)


def check_abi(path: str, abi: int) -> None:
    """Raise WrongAbi where the artefact ``path`` speaks another ABI than this package."""
    if abi != ABI:
        raise WrongAbi(
            f"{printable(path)} has ABI {abi}, this podman-cvmfs needs ABI {ABI}",
            "install the same version of podman-cvmfs and podman-cvmfs-native, or build it "
            "again: python3 -m podman_cvmfs.storage_native.build",
        )
