# SPDX-License-Identifier: Apache-2.0
"""Links without registries."""

from __future__ import annotations

import pytest

from podman_cvmfs.errors import InputError
from podman_cvmfs.names.spec import ImageSpec
from podman_cvmfs.oci.documents import OCI_LAYER, OCI_MANIFEST, Descriptor, Digest, Manifest
from podman_cvmfs.repository.osg_names import OsgNames, merged_root
from podman_cvmfs.sync.wish_list import read_wish_list
from tests.support.shared_data import OSG_LIST, shared_data

LIST = ["debian:12", "hub.example.org/htc/debian:*", "a/b", "one.example.org/x/y/z:1"]
LIST += ["one.example.org/joe.doe/app:*"]
LIST += ["one.example.org/c/d:1", "two.example.org/c/d:*", "c/d:2"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("library/debian:12", "docker.io/library/debian:12"),
        ("htc/debian:12", "hub.example.org/htc/debian:12"),
        ("x/y/z:1", "one.example.org/x/y/z:1"),
        ("x/y/z:2", "docker.io/x/y/z:2"),
        ("not/listed:1", "docker.io/not/listed:1"),
        # The last in the list that fits: it was linked last.
        ("c/d:1", "two.example.org/c/d:1"),
        ("c/d:2", "docker.io/c/d:2"),
        ("c/d:3", "two.example.org/c/d:3"),
        ("joe.doe/app:1", "one.example.org/joe.doe/app:1"),
        ("joe.doe/other:1", "joe.doe/other:1"),
        ("quay.io/a/b:1", "quay.io/a/b:1"),
        ("localhost:5000/b:1", "localhost:5000/b:1"),
    ],
)
def test_names(path: str, expected: str) -> None:
    assert str(OsgNames(map(ImageSpec.parse, LIST)).name_of(path)) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("library/debian:12", True),
        ("not/listed:1", True),
        ("htc/debian:12", True),
        ("joe.doe/app:1", True),
        ("x/y/z:1", True),
        ("localhost:5000/b:1", True),
        ("localhost/a/b:1", True),
        ("hub.example.org/a/b:1", True),
        ("docker.io/a/b:1", True),
        ("docker.io/debian:1", True),
        # Names of users, and more parts than Docker Hub has.
        ("joe.doe/other:1", False),
        ("joe.doe/other/app:1", False),
        ("tom.bak/app:1", False),
        ("x/y/z:2", False),
        ("docker.io/a/b/c:1", False),
    ],
)
def test_registries_that_can_be_asked(path: str, expected: bool) -> None:
    names = OsgNames(map(ImageSpec.parse, [*LIST, "tom.bak/app:1", "l/m/n:1"]))
    assert names.tells_registry(path) is expected


def test_three_parts_at_docker_hub_in_the_list() -> None:
    """A list without a registry in an entry: Docker Hub can't have it, so it isn't asked."""
    assert not OsgNames([ImageSpec.parse("a/b/c:1")]).tells_registry("a/b/c:1")


@pytest.mark.parametrize("path", ["", "a", "a:1", "a/b", "a/b:", "a/../b:1", "a/b:\x1b", "A/b:1:2"])
def test_what_is_no_link(path: str) -> None:
    with pytest.raises(InputError) as caught:
        OsgNames().name_of(path)
    assert caught.value.message.isprintable()


def test_merged_root() -> None:
    layers = tuple(Descriptor(OCI_LAYER, Digest(each * 64), 1) for each in "0a")
    manifest = Manifest(OCI_MANIFEST, Descriptor("", Digest("f" * 64), 1), layers)
    # printf '0%.0s' {1..64} and 'a%.0s' {1..64} | sha256sum
    assert (
        merged_root(manifest)
        == ".images/6b/0440c1ce48fe6bbbdc6b7b1499bf9aa8b74171dcdb3eeff952e1e7cf527813"
    )


def test_the_real_list() -> None:
    specs = read_wish_list(str(shared_data(OSG_LIST)), "").specs
    names = OsgNames(specs)
    exact = [spec for spec in specs if spec.name is not None]
    assert len(exact) > 400
    for spec in exact:
        assert names.name_of(f"{spec.repository}:{spec.tag}") == spec.name
