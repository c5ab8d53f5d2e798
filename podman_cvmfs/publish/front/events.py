# SPDX-License-Identifier: Apache-2.0
"""Notifications of registries: which images were pushed. Pure.

Formats: distribution's (``docs/about/notifications``: ``events``, each with ``action`` and
``target.repository`` and ``target.tag``), and Harbor's webhook (``type`` PUSH_ARTIFACT,
``event_data.resources[].tag``, ``event_data.repository.repo_full_name``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from podman_cvmfs.errors import InputError
from podman_cvmfs.names.reference import check_parts
from podman_cvmfs.oci.documents import parse_json

#: Longer notifications are refused, in bytes.
MAX_EVENTS = 4 << 20


def pushed(data: bytes) -> list[tuple[str, str]]:
    """Repository and tag of each image that a notification calls pushed, each once.

    Events of other kinds say nothing. Raises InputError for what is no notification, or for a
    name that no image can have.
    """
    document = parse_json(data, "the notification")
    if not isinstance(document, dict):
        raise InputError("the notification is not an object")
    if isinstance(document.get("events"), list):
        found = _of_distribution(document["events"])
    elif isinstance(document.get("event_data"), dict):
        found = _of_harbor(document)
    else:
        raise InputError("the notification has neither events nor event_data")
    names = dict.fromkeys(found)
    for repository, tag in names:
        check_parts("localhost", repository, tag, f"{repository}:{tag}")
    return list(names)


def _of_distribution(events: list[Any]) -> Iterator[tuple[str, str]]:
    for event in events:
        target = event.get("target") if isinstance(event, dict) else None
        if not isinstance(target, dict) or event.get("action") != "push":
            continue
        repository, tag = target.get("repository"), target.get("tag")
        # A push of a layer, or of a manifest by digest, has no tag.
        if isinstance(repository, str) and isinstance(tag, str) and tag:
            yield repository, tag


def _of_harbor(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    data = document["event_data"]
    about = data.get("repository")
    repository = about.get("repo_full_name") if isinstance(about, dict) else None
    resources = data.get("resources")
    if document.get("type") != "PUSH_ARTIFACT" or not isinstance(repository, str):
        return
    for resource in resources if isinstance(resources, list) else ():
        tag = resource.get("tag") if isinstance(resource, dict) else None
        if isinstance(tag, str) and tag and not tag.startswith("sha256:"):
            yield repository, tag
