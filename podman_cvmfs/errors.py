# SPDX-License-Identifier: Apache-2.0
"""Errors whose texts are written for users.

The tree, with the exit code each ends the command with::

    PodmanCvmfsError        1
    ├── InputError          3   a name, digest or file given by the user is wrong
    ├── RepositoryError     4   the unpacked repository is absent, unreadable or broken
    │   └── OtherPlatformError    it has the image for another architecture only; ends with 3
    ├── StoreError          5   the additional image store can't be read or written
    ├── RegistryError       6   a registry doesn't answer or answers wrongly
    │   ├── RegistryUnreachable   it doesn't answer at all
    │   └── RegistryBusy          it doesn't answer this just now
    └── PartialError        7   some images were done, others failed

Exit code 2 is wrong usage of the command line (click's own), 130 an interrupt.
"""

from __future__ import annotations


class PodmanCvmfsError(Exception):
    """An error for users: ``message`` says what failed on which thing, ``hint`` what to do."""

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def line(self) -> str:
        """Message and hint in one line."""
        return f"{self.message} ({self.hint})" if self.hint else self.message


class InputError(PodmanCvmfsError):
    """A name, digest, document or file from the user is malformed."""

    exit_code = 3


class RepositoryError(PodmanCvmfsError):
    """The unpacked repository is absent, unreadable, or holds something broken."""

    exit_code = 4


class OtherPlatformError(RepositoryError):
    """The repository has the image, but not for the wanted architecture."""

    exit_code = 3  # what was asked for is wrong, not the repository


class StoreError(PodmanCvmfsError):
    """The additional image store can't be read or written."""

    exit_code = 5


class RegistryError(PodmanCvmfsError):
    """A registry doesn't answer, refuses, or answers with wrong data."""

    exit_code = 6


class RegistryUnreachable(RegistryError):  # noqa: N818 - it says what is so
    """A registry doesn't answer at all. Further requests would only waste time."""


class RegistryBusy(RegistryError):  # noqa: N818
    """A registry limits the rate of requests, has a fault, or refuses one document. It may answer
    later."""


class NotInRegistry(RegistryError):  # noqa: N818
    """A registry, or another server, answers that it doesn't have what it was asked for."""


class PartialError(PodmanCvmfsError):
    """Some of the images were done, others failed; each failure has been reported."""

    exit_code = 7


def printable(text: str) -> str:
    """Return ``text`` with control characters and lone surrogates escaped, for messages.

    Names come from repositories and registries that are not trusted: they must not reach a
    terminal raw.
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
