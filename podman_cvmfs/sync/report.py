# SPDX-License-Identifier: Apache-2.0
"""The report of a sync. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from podman_cvmfs.errors import PodmanCvmfsError

#: Name of something that wasn't done -> the reason.
Errors = Mapping[str, PodmanCvmfsError]


@dataclass(frozen=True)
class SyncReport:
    """The results of a sync. Names are podman's."""

    #: Names that the store didn't have before.
    added: Sequence[str] = ()
    #: Names that the store no longer has.
    removed: Sequence[str] = ()
    #: Names that lead to another image than before.
    moved: Sequence[str] = ()
    #: How many images the store now lists.
    images: int = 0
    #: How many of them have a made-up config.
    synthesised: int = 0
    #: How many of them lack their genuine manifest because nobody answered who may have it.
    unanswered: int = 0
    #: Whether the store has changed.
    changed: bool = False
    #: Failures by name, repository, or path in a repository.
    failed: Errors = field(default_factory=dict)
    #: Wanted names that exist for other architectures only, or that podman's policy refuses.
    left_out: Errors = field(default_factory=dict)
    #: Registries that left a question unanswered, with the reason.
    silent: Mapping[str, str] = field(default_factory=dict)
    #: Registry -> names of images whose config or manifest is made up because of its silence.
    waiting: Mapping[str, Sequence[str]] = field(default_factory=dict)
    #: A name that was requested -> the name under which a repository has it.
    found: Mapping[str, str] = field(default_factory=dict)
    #: Notices about the repositories that are not failures.
    notices: Sequence[str] = ()
    #: Advice about the store.
    warnings: Sequence[str] = ()
    #: When (seconds since 1970) the next sync has something to do even if nothing changes; None for
    #: never.
    next_due: int | None = None
    #: The directories of repositories that containers show, and those on the way to them.
    shown: Sequence[str] = ()

    def as_data(self, store: str) -> dict[str, object]:
        """The report on the directory ``store`` as JSON has it."""
        return {
            "store": store,
            "images": self.images,
            "synthesised": self.synthesised,
            "changed": self.changed,
            "added": list(self.added),
            "removed": list(self.removed),
            "moved": list(self.moved),
            "notices": list(self.notices),
            "warnings": list(self.warnings),
            "silent": dict(self.silent),
            "waiting": {name: list(each) for name, each in self.waiting.items()},
            "left_out": {name: err.message for name, err in self.left_out.items()},
            "failed": {name: err.line for name, err in self.failed.items()},
        }
