# SPDX-License-Identifier: Apache-2.0
"""What a sync reports. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from podman_cvmfs.errors import PodmanCvmfsError


@dataclass
class SyncReport:
    """What a sync did. Names are podman's; ``failed`` maps what couldn't be done to why,
    ``left_out`` what was wished for but is there for another architecture only to which.
    ``silent`` maps registries that left a question unanswered to why, ``waiting`` to the names of
    images whose config or manifest is made up because of that. ``found`` maps the names that were
    requested to the names under which repositories have them.

    ``notices`` say what users should know of the repositories although nothing failed, ``warnings``
    what should be done about the store.
    ``next_due`` is the time (seconds since 1970) at which something is to be done even if nothing
    changes, None if never. ``shown`` are the directories of repositories that containers show, and
    those on the way to them.
    """

    added: Sequence[str] = ()
    removed: Sequence[str] = ()
    moved: Sequence[str] = ()
    images: int = 0
    synthesised: int = 0
    changed: bool = False
    failed: dict[str, PodmanCvmfsError] = field(default_factory=dict)
    left_out: dict[str, PodmanCvmfsError] = field(default_factory=dict)
    silent: Mapping[str, str] = field(default_factory=dict)
    waiting: dict[str, list[str]] = field(default_factory=dict)
    found: dict[str, str] = field(default_factory=dict)
    notices: Sequence[str] = ()
    warnings: Sequence[str] = ()
    next_due: int | None = None
    shown: Sequence[str] = ()
