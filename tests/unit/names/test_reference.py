# SPDX-License-Identifier: Apache-2.0
"""Names of images."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podman_cvmfs.errors import InputError
from podman_cvmfs.names.reference import ImageName, parse_name, parse_repository_path, podman_names
from podman_cvmfs.oci.documents import Digest

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("debian", "docker.io/library/debian:latest"),
        ("debian:12", "docker.io/library/debian:12"),
        ("cern/alma9", "docker.io/cern/alma9:latest"),
        ("index.docker.io/library/debian:12", "docker.io/library/debian:12"),
        ("registry.hub.docker.com/debian:12", "docker.io/library/debian:12"),
        ("registry-1.docker.io/a/b", "docker.io/a/b:latest"),
        ("localhost/x", "localhost/x:latest"),
        ("localhost:5000/x", "localhost:5000/x:latest"),
        ("[::1]:5000/x:1", "[::1]:5000/x:1"),
        (
            "gitlab-p4n.aip.de:5005/compute/a_b/c__d-e:1.0",
            "gitlab-p4n.aip.de:5005/compute/a_b/c__d-e:1.0",
        ),
        (f"quay.io/a/b@sha256:{HEX}", f"quay.io/a/b@sha256:{HEX}"),
        (f"quay.io/a/b:1@sha256:{HEX}", f"quay.io/a/b:1@sha256:{HEX}"),
    ],
)
def test_names_mean_what_they_mean_to_podman(typed: str, meant: str) -> None:
    assert str(parse_name(typed)) == meant
    assert str(parse_name(meant)) == meant


@pytest.mark.parametrize(
    "text",
    ["", "/", "a//b", "A", "a:", "a:b:c", "a@", f"a@sha256:{HEX[1:]}", "a b", "../x", "a/../b"]
    + ["-a/b", "x/" + "y" * 300, "a:" + "t" * 129, "a\n", "é", "docker.io/", "a.b/C", "a:ü"],
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_name(text)
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("registry.hub.docker.com/library/x:y", "registry.hub.docker.com/library/x:y"),
        (f"quay.io/a/b:sha256:{HEX}", f"quay.io/a/b@sha256:{HEX}"),
        ("127.0.0.1:5077/proj/app:1.0", "127.0.0.1:5077/proj/app:1.0"),
    ],
)
def test_repository_paths_round_trip(path: str, name: str) -> None:
    parsed = parse_repository_path(path)
    assert str(parsed) == name
    assert parsed.repository_path == path


@pytest.mark.parametrize(
    "path", ["x", "x/y", "x:1", "r/a:b:c", "r/a:sha256:zz", "r/../a:1", ".x/y:1"]
)
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(InputError):
        parse_repository_path(path)


def test_docker_hub_has_its_own_name_first() -> None:
    assert podman_names(parse_repository_path("registry.hub.docker.com/library/x:y")) == (
        "docker.io/library/x:y",
        "registry.hub.docker.com/library/x:y",
    )
    assert podman_names(parse_repository_path("index.docker.io/x:y")) == (
        "docker.io/library/x:y",
        "index.docker.io/x:y",
    )
    assert podman_names(parse_repository_path("quay.io/x:y")) == ("quay.io/x:y",)


component = st.from_regex(r"[a-z0-9]+(?:[._-][a-z0-9]+)*", fullmatch=True).filter(
    lambda text: len(text) < 40
)
names = st.builds(
    ImageName,
    st.sampled_from(["docker.io", "quay.io", "localhost", "gitlab.example.org:5005"]),
    st.lists(component, min_size=2, max_size=4).map("/".join),
    st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,30}", fullmatch=True),
)


@given(names)
def test_every_name_round_trips(name: ImageName) -> None:
    assert parse_name(str(name)) == name
    assert parse_repository_path(name.repository_path) == name


@given(names, st.binary(max_size=8).map(Digest.of))
def test_every_digest_only_name_round_trips(name: ImageName, digest: Digest) -> None:
    bare = ImageName(name.registry, name.repository, None, digest)
    assert parse_name(str(bare)) == bare
    assert parse_repository_path(bare.repository_path) == bare


@given(st.text(max_size=60))
def test_no_text_brings_the_parsers_down(text: str) -> None:
    for parse in (parse_name, parse_repository_path):
        try:
            name = parse(text)
        except InputError as err:
            assert err.message.isprintable()
        else:
            assert str(name).isprintable() and ".." not in name.repository_path.split("/")


@pytest.mark.parametrize("part", ["{}/a/b:1", "r.io/a/{}:1", "r.io/a/b:{}", "r.io/a/b:sha256:{}"])
def test_messages_end(part: str) -> None:
    """A directory's name may be four times as long once it is escaped."""
    with pytest.raises(InputError) as caught:
        parse_repository_path(part.format("\udcff" * 250))
    assert len(caught.value.message) < 1500
