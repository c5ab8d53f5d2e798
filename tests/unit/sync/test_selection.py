# SPDX-License-Identifier: Apache-2.0
"""Which images are wanted."""

from __future__ import annotations

from podman_cvmfs.names.reference import ImageName, parse_name
from podman_cvmfs.names.spec import ImageSpec
from podman_cvmfs.sync.selection import Selection


def specs(*texts: str) -> list[ImageSpec]:
    return [ImageSpec.parse(text) for text in texts]


def test_no_wishes_want_everything() -> None:
    selection = Selection()
    assert selection.wants(parse_name("quay.io/a:1"))
    assert selection.unmatched() == ()


def test_an_empty_list_wants_nothing() -> None:
    selection = Selection([])
    assert not selection.wants(parse_name("quay.io/a:1"))


def test_wishes() -> None:
    selection = Selection(specs("quay.io/a:1", "quay.io/a:2*", "debian", "quay.io/gone:*"))
    assert selection.wants(parse_name("quay.io/a:1"))
    assert selection.wants(parse_name("quay.io/a:23"))
    assert not selection.wants(parse_name("quay.io/a:3"))
    assert selection.wants(ImageName("registry.hub.docker.com", "debian", "latest"))
    assert [str(spec) for spec in selection.unmatched()] == ["https://quay.io/gone:*"]


def test_overlapping_wishes_are_all_met() -> None:
    selection = Selection([*specs("quay.io/a:1", "quay.io/a:*"), *specs("quay.io/a:1")])
    assert selection.wants(parse_name("quay.io/a:1"))
    assert selection.unmatched() == ()


def test_include_and_exclude() -> None:
    selection = Selection(None, ["quay.io/*", "docker.io/library/*:1?"], ["*:latest", "*/secret/*"])
    assert selection.wants(parse_name("quay.io/a/b:1"))
    assert selection.wants(ImageName("registry.hub.docker.com", "library/debian", "12"))
    assert not selection.wants(parse_name("debian:9"))
    assert not selection.wants(parse_name("quay.io/a"))
    assert not selection.wants(parse_name("quay.io/secret/a:1"))
    assert not selection.wants(parse_name("ghcr.io/a:1"))


def test_globs_know_both_names_of_docker_hub() -> None:
    name = ImageName("registry.hub.docker.com", "library/debian", "12")
    for glob in ("docker.io/*", "registry.hub.docker.com/*"):
        assert Selection(None, [glob]).wants(name)
        assert not Selection(None, (), [glob]).wants(name)


def test_an_excluded_wish_is_not_missing() -> None:
    selection = Selection(specs("quay.io/a:1"), (), ["quay.io/*"])
    assert not selection.wants(parse_name("quay.io/a:1"))
    assert selection.unmatched() == ()
