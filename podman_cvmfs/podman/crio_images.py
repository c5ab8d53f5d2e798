# SPDX-License-Identifier: Apache-2.0
"""Which images CRI-O pins, by their names. Pure.

The kubelet's garbage collection leaves pinned images alone. CRI-O can't remove an image of an
additional store, and yet says that it has. So the kubelet counts the image's size as freed, again
and again, while the disk stays full (CRI-O 1.37 ``internal/storage/image.go``,
CompileRegexpsForPinnedImages; crio.conf(5), ``pinned_images``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

#: CRI-O's default since 2022, in each of its versions with another tag.
_PAUSE = "registry.k8s.io/pause:"


def pins_for(names: Iterable[str]) -> tuple[str, ...]:
    """The patterns for ``pinned_images`` that pin the images ``names``: one for each registry and
    first part of the path, such as ``docker.io/library/*``."""
    return tuple(sorted({_pin_for(name) for name in names}))


def _pin_for(name: str) -> str:
    registry, _, path = name.partition("@")[0].partition("/")
    first, slash, _ = path.partition("/")
    return f"{registry}/{first}/*" if slash else f"{registry}/{path.partition(':')[0]}:*"


def unpinned(names: Iterable[str], patterns: Sequence[str]) -> tuple[str, ...]:
    """Those of ``names`` that no pattern of ``pinned_images`` matches."""
    expressions = [_expression(pattern) for pattern in patterns]
    return tuple(name for name in names if not any(each.search(name) for each in expressions))


def is_pause(name: str, pause_image: str) -> bool:
    """Whether the image ``name`` may be the one of pods themselves; ``pause_image`` is the one in
    CRI-O's files, "" for CRI-O's default."""
    return name == pause_image if pause_image else name.startswith(_PAUSE)


def _expression(pattern: str) -> re.Pattern[str]:
    if pattern.startswith("*") and pattern.endswith("*"):
        text = re.escape(pattern[1:-1])
    elif pattern.endswith("*"):
        text = re.escape(pattern[:-1])
    else:
        text = f"^{re.escape(pattern)}$"
    return re.compile(text, re.IGNORECASE)
