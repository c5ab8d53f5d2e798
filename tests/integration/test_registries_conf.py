# SPDX-License-Identifier: Apache-2.0
"""registries.conf as skopeo, built on containers/image, understands it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from podman_cvmfs.errors import RegistryError
from podman_cvmfs.names.reference import parse_name
from podman_cvmfs.registry.registries_conf import merged
from podman_cvmfs.util.toml import parse_toml

#: No name in it exists, so that all places are tried.
CONF = """\
[[registry]]
prefix = "example.invalid/foo"
location = "internal.invalid/bar"
[[registry.mirror]]
location = "mirror-0.invalid/mirror-for-foo"
[[registry.mirror]]
location = "mirror-1.invalid:5000/mirrors/foo"
[[registry.mirror]]
location = "mirror-2.invalid/digests"
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "mirror-3.invalid/tags"
pull-from-mirror = "tag-only"

[[registry]]
prefix = "*.sub.example.invalid"
[[registry.mirror]]
location = "cache.invalid/sub"

[[registry]]
prefix = "*.example.invalid"
location = "all.invalid"

[[registry]]
prefix = "docker.io/library"
location = "hub.invalid/official"

[[registry]]
prefix = "one.invalid/image:1"
location = "other.invalid/image:one"

[[registry]]
location = "bad.invalid"
blocked = true

[[registry]]
prefix = "bad.invalid/good"
location = "good.invalid"
"""

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    "name",
    [
        "example.invalid/foo/image:1",
        f"example.invalid/foo/image@sha256:{HEX}",
        "example.invalid/foo:1",
        "example.invalid/food/image:1",
        "example.invalid:5000/foo/image:1",
        "a.b.sub.example.invalid/x:1",
        "a.example.invalid:5000/x/y:1",
        "sub.example.invalid/x:1",
        "docker.io/library/debian:12",
        "debian:12",
        "one.invalid/image:1",
        "bad.invalid/a:1",
        "bad.invalid:5000/a:1",
        "bad.invalid/good/a:1",
        "notbad.invalid/a:1",
    ],
)
def test_the_same_places_in_the_same_order(tmp_path: Path, name: str) -> None:
    conf = tmp_path / "registries.conf"
    conf.write_text(CONF)
    done = subprocess.run(
        ["skopeo", "--registries-conf", conf, "--debug", "inspect", f"docker://{name}"],
        capture_output=True,
        text=True,
        timeout=120,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
    )
    try:
        endpoints = merged(parse_toml(CONF.encode(), "x")).endpoints(parse_name(name))
    except RegistryError as err:
        assert "is blocked" in err.message
        assert re.search("is blocked in", done.stderr), done.stderr
        return
    asked = re.findall(r'Trying to access \\"([^"\\]+)\\"', done.stderr)
    assert asked == [str(endpoint.name) for endpoint in endpoints], done.stderr
