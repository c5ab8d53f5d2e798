# SPDX-License-Identifier: Apache-2.0
"""Notifications of registries."""

from __future__ import annotations

import json

import pytest

from podman_cvmfs.errors import InputError
from podman_cvmfs.publish.front.events import pushed


def distribution(**target: object) -> bytes:
    return json.dumps({"events": [{"action": "push", "target": target}]}).encode()


def test_distribution_s_events() -> None:
    assert pushed(distribution(repository="a/b", tag="1")) == [("a/b", "1")]
    # A layer, and a manifest by digest.
    assert pushed(distribution(repository="a/b", digest="sha256:" + "0" * 64)) == []
    both = {"repository": "a/b", "tag": "1"}
    events = [{"action": action, "target": both} for action in ("push", "pull", "delete", "push")]
    assert pushed(json.dumps({"events": [*events, None, {}]}).encode()) == [("a/b", "1")]


def harbor(kind: str, *tags: object, name: object = "lab/app") -> bytes:
    data = {"resources": [{"tag": tag} for tag in tags], "repository": {"repo_full_name": name}}
    return json.dumps({"type": kind, "event_data": data}).encode()


def test_harbor_s_webhook() -> None:
    assert pushed(harbor("PUSH_ARTIFACT", "1", "2")) == [("lab/app", "1"), ("lab/app", "2")]
    assert pushed(harbor("DELETE_ARTIFACT", "1")) == []
    assert pushed(harbor("PUSH_ARTIFACT", "sha256:" + "0" * 64, None, "")) == []
    assert pushed(harbor("PUSH_ARTIFACT", "1", name=3)) == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"events": 3}',
        distribution(repository="../x", tag="1"),
        distribution(repository="a", tag="a b"),
        distribution(repository="UPPER", tag="1"),
        harbor("PUSH_ARTIFACT", "x/y"),
    ],
)
def test_what_is_refused(data: bytes) -> None:
    with pytest.raises(InputError):
        pushed(data)
