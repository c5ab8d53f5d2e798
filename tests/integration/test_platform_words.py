# SPDX-License-Identifier: Apache-2.0
"""The words for platforms in configs: we take an image where podman says that it fits."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from podman_cvmfs.oci.documents import parse_config
from podman_cvmfs.oci.platform import Platform
from tests.support.layouts import LAYERS, Layout
from tests.support.layouts import config as config_of
from tests.support.podman import Host, Podman, running

#: Operating system, architecture and variant in a config. podman 4 doesn't look at variants, so
#: here is none that an older machine lacks.
_STATED = (
    *(("linux", "amd64", ""), ("linux", "x86_64", ""), ("linux", "X86-64", ""), ("", "amd64", "")),
    *(("Linux", "amd64", ""), ("windows", "amd64", ""), ("linux", "amd64", "v1")),
    *(("linux", "arm64", ""), ("linux", "aarch64", ""), ("linux", "arm64", "v8")),
    *(("linux", "arm64", "8"), ("linux", "arm", ""), ("linux", "arm", "v7"), ("linux", "arm", "7")),
    *(("linux", "armhf", ""), ("linux", "armel", "")),
    *(("linux", "i386", ""), ("linux", "386", ""), ("linux", "s390x", "")),
)
_WANTED = ("amd64", "arm64", "arm64/v8", "arm/v7", "386")


#: No image for these starts anywhere.
_UNREADABLE = (("linux", "my arch", ""), ("linux", "é", ""), ("my os", "amd64", ""))


@pytest.fixture(scope="module")
def podman(
    tmp_path_factory: pytest.TempPathFactory, podman_host: Host
) -> Iterator[tuple[Podman, dict[str, bytes]]]:
    """podman with an image for each of these platforms: name -> config."""
    root = tmp_path_factory.mktemp("platforms")
    found = {}
    with running(root / "podman", stores=[], on=podman_host) as podman:
        for number, (system, architecture, variant) in enumerate((*_STATED, *_UNREADABLE)):
            document = json.loads(config_of(LAYERS[:1], Cmd=["true"]))
            document.update(os=system, architecture=architecture, variant=variant)
            config = json.dumps(document).encode()
            layout = Layout(root / str(number))
            layout.add(layout.image(config, LAYERS[:1]))
            # A pull of an unreadable one fails at its end.
            podman.run("pull", "--quiet", f"oci:{layout.path}", check=False)
            name = f"example.org/image:{number}"
            podman.run("tag", parse_config(config).digest.hex, name)
            found[name] = config
        yield podman, found


def _case(config: bytes) -> str:
    document = json.loads(config)
    return "/".join(document[key] for key in ("os", "architecture", "variant"))


@pytest.mark.parametrize("wanted", _WANTED)
def test_podman_and_we_understand_the_same(
    podman: tuple[Podman, dict[str, bytes]], wanted: str
) -> None:
    ours, theirs = {}, {}
    host = Platform.parse(wanted)
    for name, config in list(podman[1].items())[: len(_STATED)]:
        asked = ("create", "--pull=never", "--platform", f"linux/{wanted}", name)
        done = podman[0].run(*asked, check=False)
        # What isn't for the platform is unknown, or found with a warning.
        assert done.returncode == 0 or "image not known" in done.stderr, done.stderr
        theirs[_case(config)] = done.returncode == 0 and "does not match" not in done.stderr
        ours[_case(config)] = host.rank(parse_config(config).platform) == 0
    assert ours == theirs
    assert set(ours.values()) == {False, True}


def test_what_podman_cannot_read_does_not_run(podman: tuple[Podman, dict[str, bytes]]) -> None:
    for name, config in podman[1].items():
        done = podman[0].run("create", "--pull=never", name, check=False)
        assert (done.returncode == 0) == parse_config(config).platform.is_readable, done.stderr
