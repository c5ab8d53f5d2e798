# SPDX-License-Identifier: Apache-2.0
"""Entries of wish lists."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podman_cvmfs.errors import InputError
from podman_cvmfs.names.reference import DOCKER_HUB_ALIASES, ImageName, parse_name
from podman_cvmfs.names.spec import ImageSpec
from podman_cvmfs.oci.documents import Digest
from tests.support.shared_data import DUCC_RECIPE, OSG_LIST, shared_data

HEX = "0123456789abcdef" * 4
OTHER = "f" * 64


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("https://quay.io/a/b:1", "https://quay.io/a/b:1"),
        ("http://localhost:5000/b:1", "http://localhost:5000/b:1"),
        ("HTTPS://quay.io/a/b", "https://quay.io/a/b:latest"),
        ("https://quay.io/a/b/", "https://quay.io/a/b:latest"),
        ("quay.io/a/b:v*", "https://quay.io/a/b:v*"),
        ("https://inhouse/a:1", "https://inhouse/a:1"),
        ("inhouse/a:1", "https://docker.io/inhouse/a:1"),
        ("debian", "https://docker.io/library/debian:latest"),
        ("https://registry.hub.docker.com/debian:1", "https://docker.io/library/debian:1"),
        (f"quay.io/a/b@sha256:{HEX}", f"https://quay.io/a/b@sha256:{HEX}"),
        (f"https://quay.io/a/b:1@sha256:{HEX}", f"https://quay.io/a/b:1@sha256:{HEX}"),
        ("gitlab.example.org:5005/a/b_c:*", "https://gitlab.example.org:5005/a/b_c:*"),
        ("cmssw/cms:rhel[78]-m*", "https://docker.io/cmssw/cms:rhel[78]-m*"),
    ],
)
def test_specs(text: str, meant: str) -> None:
    assert str(ImageSpec.parse(text)) == meant
    assert ImageSpec.parse(meant) == ImageSpec.parse(text)


@pytest.mark.parametrize(
    "text",
    ["", "https://", "https://quay.io", "https://quay.io/", "ftp://quay.io/a", "file:///a/b"]
    + ["quay.io/*/b:1", "*.example.org/b:1", "quay.io/a/b:", "quay.io/a:b:c", "quay.io/a@md5:5"]
    + [f"quay.io/a:*@sha256:{HEX}", "quay.io/a:* ", "quay.io/a:*/../x", " quay.io/a", "a b"]
    + ["https://me:pw@quay.io/a:1", "quay.io/a:1 # comment", "quay.io/a?b:1", "x" * 5000]
    + ["quay.io/a:*" + "x" * 128, "https:///a:1", "quay.io/a\n", "quay.io/ä:1"],
)
def test_what_is_no_spec_is_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        ImageSpec.parse(text)
    assert caught.value.message.isprintable()


def test_patterns_are_a_shells() -> None:
    spec = ImageSpec.parse("https://quay.io/a/b:21.2.1*")
    assert spec.is_pattern and spec.name is None
    for tag in ("21.2.10", "21.2.100-20191127", "21.2.15-20180118", "21.2.1"):
        assert spec.matches(parse_name(f"quay.io/a/b:{tag}"))
    for tag in ("21.3.10", "21x2.10", "121.2.1", "21.2", "latest"):
        assert not spec.matches(parse_name(f"quay.io/a/b:{tag}"))
    assert not spec.matches(parse_name("quay.io/a/c:21.2.10"))
    assert not spec.matches(parse_name("ghcr.io/a/b:21.2.10"))
    assert not spec.matches(parse_name(f"quay.io/a/b@sha256:{HEX}"))


def test_tags_differ_in_case() -> None:
    assert not ImageSpec.parse("quay.io/a:V*").matches(parse_name("quay.io/a:v1"))
    assert not ImageSpec.parse("quay.io/a:V1").matches(parse_name("quay.io/a:v1"))


@pytest.mark.parametrize(
    ("spec", "name", "expected"),
    [
        ("quay.io/a:1", "quay.io/a:1", True),
        ("quay.io/a", "quay.io/a:latest", True),
        ("quay.io/a:1", f"quay.io/a:1@sha256:{HEX}", True),
        (f"quay.io/a:1@sha256:{HEX}", "quay.io/a:1", True),
        (f"quay.io/a:1@sha256:{HEX}", f"quay.io/a:1@sha256:{HEX}", True),
        (f"quay.io/a:1@sha256:{HEX}", f"quay.io/a:1@sha256:{OTHER}", False),
        (f"quay.io/a:1@sha256:{HEX}", f"quay.io/a:2@sha256:{HEX}", False),
        (f"quay.io/a:1@sha256:{HEX}", f"quay.io/a@sha256:{HEX}", True),
        (f"quay.io/a@sha256:{HEX}", f"quay.io/a@sha256:{HEX}", True),
        (f"quay.io/a@sha256:{HEX}", f"quay.io/a:1@sha256:{HEX}", True),
        (f"quay.io/a@sha256:{HEX}", f"quay.io/a@sha256:{OTHER}", False),
        (f"quay.io/a@sha256:{HEX}", "quay.io/a:1", False),
        ("quay.io/a:1", f"quay.io/a@sha256:{HEX}", False),
    ],
)
def test_tags_and_digests(spec: str, name: str, expected: bool) -> None:
    assert ImageSpec.parse(spec).matches(parse_name(name)) is expected


def test_docker_hubs_names_are_one() -> None:
    hosts = [*DOCKER_HUB_ALIASES, None]
    specs = [f"https://{host}/library/debian:12" if host else "debian:12" for host in hosts]
    assert len({ImageSpec.parse(spec) for spec in specs}) == 1
    for host in DOCKER_HUB_ALIASES:
        for repository in ("library/debian", "debian"):
            name = ImageName(host, repository, "12")
            assert all(ImageSpec.parse(spec).matches(name) for spec in specs)
    assert not ImageSpec.parse("debian:12").matches(ImageName("quay.io", "library/debian", "12"))


# ---------------------------------------------------------------------- the real lists


def as_ducc(text: str) -> tuple[str, str, str, str]:
    """Registry, repository, tag and digest as DUCC's ParseImage finds them, in few words."""
    if "://" not in text:
        text = f"https://{text}"
    url = urlsplit(text)
    path, _, digest = url.path.partition("@")
    repository, _, tag = path.partition(":")
    return url.netloc, repository.strip("/"), tag, digest


def as_osg(text: str) -> tuple[str, str, str]:
    """Registry, repository and tag as OSG's cvmfs-singularity-sync takes them."""
    words = text.split("/")
    registry = words.pop(0) if len(words) > 2 else "registry.hub.docker.com"
    namespace = words.pop(0) if len(words) > 1 else "library"
    repository, _, tag = "/".join(words).partition(":")
    return registry, f"{namespace}/{repository}", tag or "latest"


def same_registry(one: str, other: str) -> bool:
    return one == other or {one, other} <= DOCKER_HUB_ALIASES


def test_ducc_recipe() -> None:
    lines = re.findall(r"^ +- '(.*)'$", shared_data(DUCC_RECIPE).read_text(), re.MULTILINE)
    assert len(lines) == 47
    for line in lines:
        spec = ImageSpec.parse(line)
        registry, repository, tag, digest = as_ducc(line)
        assert same_registry(spec.registry, registry), line
        assert (spec.repository, spec.tag) == (repository, tag), line
        assert str(spec.digest or "") == digest
        assert spec.is_pattern == ("*" in tag)
        if not spec.is_pattern:
            assert spec.matches(ImageName(registry, repository, tag))


def test_osg_list() -> None:
    lines = [line.strip() for line in shared_data(OSG_LIST).read_text().splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    assert len(lines) > 500
    for line in lines:
        spec = ImageSpec.parse(line)
        registry, repository, tag = as_osg(line)
        assert same_registry(spec.registry, registry), line
        assert (spec.repository, spec.tag, spec.digest) == (repository, tag, None), line
        assert spec.is_pattern == ("*" in tag)


# ---------------------------------------------------------------------- properties

component = st.from_regex(r"[a-z0-9]+(?:[._-][a-z0-9]+)*", fullmatch=True).filter(
    lambda text: len(text) < 40
)
registries = st.sampled_from(
    ["quay.io", "localhost", "gitlab.example.org:5005", *sorted(DOCKER_HUB_ALIASES)]
)
repositories = st.lists(component, min_size=1, max_size=4).map("/".join)
tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,30}", fullmatch=True)
digests = st.none() | st.binary(max_size=8).map(Digest.of)


@given(registries, repositories, tags, digests)
def test_every_name_is_a_spec_that_matches_it(
    registry: str, repository: str, tag: str, digest: Digest | None
) -> None:
    name = ImageName(registry, repository, tag, digest)
    spec = ImageSpec.parse(str(name))
    assert spec.matches(name)
    assert spec.matches(name.canonical)
    assert ImageSpec.parse(str(spec)) == spec
    assert spec.name == parse_name(str(name))


@given(registries, repositories, tags, tags, st.data())
def test_a_pattern_matches_what_it_was_cut_from(
    registry: str, repository: str, tag: str, other: str, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(tag)))
    end = data.draw(st.integers(start, len(tag)))
    pattern = f"{tag[:start]}*{tag[end:]}"
    spec = ImageSpec.parse(f"{registry}/{repository}:{pattern}")
    assert spec.is_pattern
    assert spec.matches(ImageName(registry, repository, tag))
    expected = other.startswith(tag[:start]) and other[start:].endswith(tag[end:])
    assert spec.matches(ImageName(registry, repository, other)) is expected
    assert fnmatchcase(other, pattern) is expected


@given(st.text(max_size=60) | st.from_regex(r"(https?://)?[a-z./:@*\[\]?-]{0,40}", fullmatch=True))
def test_no_text_brings_the_parser_down(text: str) -> None:
    try:
        spec = ImageSpec.parse(text)
    except InputError as err:
        assert err.message.isprintable()
    else:
        assert ImageSpec.parse(str(spec)) == spec


@pytest.mark.parametrize("text", ["http://[::1]:5000/x:1", "https://[2001:db8::5]:5000/g/x:1"])
def test_an_address_in_brackets_is_no_pattern(text: str) -> None:
    assert str(ImageSpec.parse(text)) == text
