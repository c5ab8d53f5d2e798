# SPDX-License-Identifier: Apache-2.0
"""A policy, the text that a store remembers of it, and what lies between two."""

from __future__ import annotations

from itertools import product

import pytest

from podman_cvmfs.settings.policy import Change, Overlay, Policy, Reuse, View

MOUNTS: list[tuple[str, ...]] = [(), ("/a b", "/c,d=shared")]
TRUSTED: list[tuple[str, ...] | None] = [None, (), ("/b", "/a b,c")]
POLICIES = [
    Policy(*choices)
    for choices in product(View, Reuse, Overlay, (False, True), MOUNTS, TRUSTED, ("4", "5", "60"))
]


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_a_policy_is_what_its_text_says(policy: Policy) -> None:
    assert Policy.parse(str(policy)) == policy
    assert str(policy) == f"{policy.layout} {policy.choices}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "5 auto base",
        "5 auto base kernel later",
        "5 auto base kernel  shared",
        "5 auto base kernel shared shared",
        "5 auto base kernel mounts=/b,/a",
        "5 auto base kernel mounts=/a shared",
        "5 best base kernel",
        "5 auto some kernel",
        "5 auto base user",
    ],
)
def test_a_text_that_no_policy_gives_is_none(text: str) -> None:
    assert Policy.parse(text) is None


def test_an_earlier_version_wrote_other_layouts() -> None:
    former = Policy(layout="4")
    assert not former.is_written and not former.has_pieces
    for same_form in (Policy(), Policy(layout="5")):
        assert same_form.is_written and same_form.has_pieces
    assert not Policy(layout="60").is_written
    assert Change.between(str(Policy(layout="5")), str(Policy())) is Change.LAID_OUT


@pytest.mark.parametrize(
    ("old", "new", "change"),
    [
        ("5 auto base kernel", "5 auto base kernel", Change.NONE),
        ("5 auto base kernel", "5 flat none kernel", Change.OFFERED),
        ("5 auto base kernel", "5 auto base kernel reuse-from=/a", Change.OFFERED),
        ("5 auto base kernel", "5 auto base fuse-overlayfs", Change.LAID_OUT),
        ("5 auto base kernel", "5 auto base kernel shared", Change.LAID_OUT),
        ("5 auto base kernel", "5 auto base kernel mounts=/a", Change.LAID_OUT),
        ("4 auto base kernel", "5 auto base kernel", Change.LAID_OUT),
        ("", "5 auto base kernel", Change.LAID_OUT),
        ("5 auto base kernel later", "5 flat base kernel", Change.LAID_OUT),
    ],
)
def test_what_lies_between_two_policies(old: str, new: str, change: Change) -> None:
    assert Change.between(old, new) is change
