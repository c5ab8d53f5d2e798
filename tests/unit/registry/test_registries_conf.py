# SPDX-License-Identifier: Apache-2.0
"""registries.conf: where images are fetched from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podman_cvmfs.errors import InputError, RegistryError
from podman_cvmfs.names.reference import parse_name
from podman_cvmfs.registry import registries_files
from podman_cvmfs.registry.registries_conf import (
    Endpoint,
    RegistriesConf,
    load_registries_conf,
    merged,
)
from podman_cvmfs.registry.registries_file import RegistryTable
from podman_cvmfs.util.toml import parse_toml

HEX = "0123456789abcdef" * 4


DIGEST_ONLY = '[[registry]]\nlocation="a"\nmirror-by-digest-only=true\n'


def conf(text: str) -> RegistriesConf:
    return merged(parse_toml(text.encode(), "r.conf"))


def asked(found: RegistriesConf, name: str, by_digest: bool = False) -> list[str]:
    """Endpoints in short: the name, ``!`` for an insecure one."""
    return [
        f"{endpoint.name}{'!' * endpoint.insecure}"
        for endpoint in found.endpoints(parse_name(name), by_digest)
    ]


EXAMPLE = """\
unqualified-search-registries = ["example.com", "localhost:5000/"]

[[registry]]
prefix = "example.com/foo"
location = "internal.example.net/bar"

[[registry.mirror]]
location = "mirror-0.local/mirror-for-foo"

[[registry.mirror]]
location = "mirror-1.local:5000/mirrors/foo/"
insecure = true

[[registry]]
location = "registry.com"
insecure = true
[[registry.mirror]]
location = "mirror.registry.com"

[[registry]]
prefix = "*.sub.example.org"
[[registry.mirror]]
location = "cache.local/sub"

[[registry]]
prefix = "*.example.org"
location = "all.example.net"

[[registry]]
prefix = "docker.io/library"
location = "hub.local/official"

[[registry]]
location = "bad.example.com"
blocked = true

[[registry]]
prefix = "quay.io/one/image:1"
location = "quay.io/other/image:one"

[aliases]
"debian" = "docker.io/library/debian"
"gone" = ""
"""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "example.com/foo/image:1",
            [
                "mirror-0.local/mirror-for-foo/image:1",
                "mirror-1.local:5000/mirrors/foo/image:1!",
                "internal.example.net/bar/image:1",
            ],
        ),
        (
            f"example.com/foo@sha256:{HEX}",
            [
                f"mirror-0.local/mirror-for-foo@sha256:{HEX}",
                f"mirror-1.local:5000/mirrors/foo@sha256:{HEX}!",
                f"internal.example.net/bar@sha256:{HEX}",
            ],
        ),
        ("example.com/food/image:1", ["example.com/food/image:1"]),
        ("example.com/other:1", ["example.com/other:1"]),
        ("registry.com/a", ["mirror.registry.com/a:latest", "registry.com/a:latest!"]),
        ("a.b.sub.example.org/x:1", ["cache.local/sub/x:1", "a.b.sub.example.org/x:1"]),
        ("a.example.org/x:1", ["all.example.net/x:1"]),
        ("example.org/x:1", ["example.org/x:1"]),
        ("quay.io/a.example.org/x:1", ["quay.io/a.example.org/x:1"]),
        ("debian:12", ["hub.local/official/debian:12"]),
        ("index.docker.io/library/debian:12", ["hub.local/official/debian:12"]),
        ("docker.io/someone/debian:12", ["docker.io/someone/debian:12"]),
        ("quay.io/one/image:1", ["quay.io/one/image:1"]),
    ],
)
def test_endpoints(name: str, expected: list[str]) -> None:
    assert asked(conf(EXAMPLE), name) == expected


def test_search_registries_and_aliases() -> None:
    found = conf(EXAMPLE)
    assert found.search_registries == ("example.com", "localhost:5000")
    assert found.aliases == {"debian": "docker.io/library/debian"}
    assert found.credential_helpers == ("containers-auth.json",)


def test_blocked() -> None:
    for name in ("bad.example.com/a:1", "bad.example.com/a/b:1", "bad.example.com:5000/a:1"):
        with pytest.raises(RegistryError, match=r"bad\.example\.com is blocked"):
            conf(EXAMPLE).endpoints(parse_name(name))
    assert asked(conf(EXAMPLE), "notbad.example.com/a:1") == ["notbad.example.com/a:1"]


def test_blocking_a_part_leaves_the_rest() -> None:
    found = conf(
        '[[registry]]\nlocation="a.io"\n[[registry]]\nprefix="a.io/bad"\nlocation="b.io/bad"\n'
        "blocked=true\n"
    )
    assert asked(found, "a.io/good:1") == ["a.io/good:1"]
    with pytest.raises(RegistryError, match="blocked"):
        found.endpoints(parse_name("a.io/bad/x:1"))


def test_mirrors_for_tags_and_for_digests() -> None:
    text = """\
[[registry]]
location = "a.io"
[[registry.mirror]]
location = "any"
[[registry.mirror]]
location = "tags"
pull-from-mirror = "tag-only"
[[registry.mirror]]
location = "digests"
pull-from-mirror = "digest-only"
"""

    def hosts(text: str, name: str, by_digest: bool = False) -> list[str]:
        endpoints = conf(text).endpoints(parse_name(name), by_digest)
        return [endpoint.name.registry for endpoint in endpoints]

    assert hosts(text, "a.io/x:1") == ["any", "tags", "a.io"]
    # What a mirror for tags has begun to give it gives to the end.
    assert hosts(text, "a.io/x:1", by_digest=True) == ["any", "tags", "digests", "a.io"]
    for by_digest in (False, True):
        for name in (f"a.io/x@sha256:{HEX}", f"a.io/x:1@sha256:{HEX}"):
            assert hosts(text, name, by_digest) == ["any", "digests", "a.io"]
    both = '[[registry]]\nlocation="a.io"\nmirror-by-digest-only=true\nmirror=[{location="m"}]'
    assert hosts(both, "a.io/x:1") == ["a.io"]
    assert hosts(both, "a.io/x:1", by_digest=True) == ["m", "a.io"]


def test_what_cannot_be_rewritten() -> None:
    for location in ("b.io/Upper", "b.io/x:1"):
        found = conf(f'[[registry]]\nprefix="a.io"\nlocation="{location}"\n')
        with pytest.raises(RegistryError, match=r"registries\.conf"):
            found.endpoints(parse_name("a.io/x:1"))


def test_version_1() -> None:
    found = conf(
        "[registries.search]\nregistries = ['r1.com', 'r2.com']\n"
        "[registries.insecure]\nregistries = ['r3.com']\n"
        "[registries.block]\nregistries = ['bad.com']\n"
    )
    assert found.search_registries == ("r1.com", "r2.com")
    assert asked(found, "r3.com/a:1") == ["r3.com/a:1!"]
    with pytest.raises(RegistryError, match="blocked"):
        found.endpoints(parse_name("bad.com/a:1"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[registry]]\n", "r.conf:1: registry has neither prefix nor location"),
        ('[[registry]]\nprefix = "a"\n', "r.conf:1: registry 'a' has no location"),
        ('[[registry]]\nlocation = "https://a"', "r.conf:2: registry.location must have no scheme"),
        ('[[registry]]\nprefix = "*.a/b"\n', "r.conf:2: registry.prefix '*.a/b' is not like"),
        ('[[registry]]\nprefix = "a.*.b"\nlocation="x"', "r.conf:2: registry.prefix"),
        ("[[registry]]\nlocation = 5", "r.conf:2: registry.location must be a text"),
        ('[[registry]]\nlocation = "a"\nblocked = 1', "r.conf:3: registry.blocked must be true"),
        ('[[registry]]\nlocation="a"\nmirror=[{}]', "r.conf:3: registry.mirror has no location"),
        ('[[registry]]\nlocation="a"\nmirror={}', "r.conf:3: registry.mirror must be an array"),
        ('[registry]\nlocation="a"', "r.conf:1: registry must be an array of tables"),
        ("registry = 5", "r.conf:1: registry must be an array of tables"),
        (
            '[[registry]]\nlocation="a"\npull-from-mirror="all"',
            "r.conf:3: registry.pull-from-mirror may be set for mirrors only",
        ),
        (
            '[[registry]]\nlocation="a"\n[[registry.mirror]]\nlocation="b"\npull-from-mirror="no"',
            "r.conf:5: registry.mirror.pull-from-mirror must be one of all, digest-only, tag-only",
        ),
        (
            f"{DIGEST_ONLY}mirror=[{{location='b', pull-from-mirror='all'}}]",
            "r.conf:4: registry.mirror mirror-by-digest-only excludes pull-from-mirror",
        ),
        (
            '[[registry]]\nlocation="a"\n[[registry]]\nprefix="b"\nlocation="a"\nblocked=true',
            "r.conf: registry a is defined twice",
        ),
        ("unqualified-search-registries = 'a'", "r.conf:1: unqualified-search-registries must be"),
        (
            "unqualified-search-registries = ['a/b']",
            "r.conf:1: unqualified-search-registries doesn't name a registry",
        ),
        ("[aliases]\na = 5", "r.conf:1: aliases must be a table of texts"),
        ("[registries.search]\nregistries=['a']\n[aliases]\n", "r.conf: mixes versions 1 and 2"),
        ("[registries.search]\nregistries='a'\n", "r.conf:2: registries.search.registries must"),
    ],
)
def test_errors_name_file_and_line(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        conf(text)
    assert caught.value.message.startswith(message)


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_prefix_brings_it_down(prefix: str, location: str) -> None:
    table = RegistryTable(prefix or "x", location)
    found = RegistriesConf((table,))
    try:
        endpoints = found.endpoints(parse_name("a.io/b/c:1"))
    except RegistryError as err:
        assert err.message.isprintable()
    else:
        assert endpoints and all(str(endpoint.name).isprintable() for endpoint in endpoints)


def test_no_configuration() -> None:
    name = parse_name("quay.io/a:1")
    assert RegistriesConf().endpoints(name) == (Endpoint(name),)


# ---------------------------------------------------------------------- which files


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file system of our own with ``etc`` and ``home``."""
    for variable in registries_files.VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(registries_files, "ADMIN", str(tmp_path / "etc"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    return tmp_path


def search(path: Path, host: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'unqualified-search-registries = ["{host}"]\n')


def test_files_and_their_order(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_registries_conf() == RegistriesConf()
    search(places / "etc/registries.conf", "main")
    assert load_registries_conf().search_registries == ("main",)
    search(places / "etc/registries.conf.d/10-b.conf", "drop-in-10")
    search(places / "etc/registries.conf.d/9-a.conf", "drop-in-9")
    search(places / "etc/registries.conf.d/z.txt", "not-this")
    (places / "etc/registries.conf.d/zz.conf").mkdir()
    assert load_registries_conf().search_registries == ("drop-in-9",)
    own = places / "home/.config/containers/registries.conf"
    search(Path(f"{own}.d/a.conf"), "own-drop-in")
    assert load_registries_conf().search_registries == ("own-drop-in",)
    Path(f"{own}.d/a.conf").unlink()
    search(own, "own")
    assert load_registries_conf().search_registries == ("own",)
    Path(f"{own}.d").rmdir()
    named = places / "named.conf"
    search(named, "named")
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(named))
    assert load_registries_conf().search_registries == ("drop-in-9",)
    for path in (places / "etc/registries.conf.d").glob("*.conf"):
        if path.is_file():
            path.unlink()
    assert load_registries_conf().search_registries == ("named",)
    named.unlink()
    with pytest.raises(InputError, match=r"no such registries\.conf"):
        load_registries_conf()


def test_merging(places: Path) -> None:
    etc = places / "etc"
    (etc / "registries.conf.d").mkdir(parents=True)
    (etc / "registries.conf").write_text(
        'unqualified-search-registries=["a"]\ncredential-helpers=["pass"]\n'
        '[[registry]]\nlocation="x"\n[[registry]]\nlocation="y"\nblocked=true\n'
        '[aliases]\none="q.io/one"\ntwo="q.io/two"\nthree="q.io/three"\n'
    )
    (etc / "registries.conf.d/a.conf").write_text(
        '[[registry]]\nprefix="y"\nlocation="z"\n[aliases]\none=""\ntwo="r.io/two"\n'
    )
    chosen = places / "cache/containers/short-name-aliases.conf"
    chosen.parent.mkdir(parents=True)
    chosen.write_text('[aliases]\nthree="chosen.io/three"\n')
    found = load_registries_conf()
    assert found.search_registries == ("a",)
    assert found.credential_helpers == ("pass",)
    assert found.aliases == {"two": "r.io/two", "three": "chosen.io/three"}
    assert {table.prefix: (table.location, table.blocked) for table in found.tables} == {
        "x": ("x", False),
        "y": ("z", False),
    }


def test_drop_ins_must_be_of_version_2(places: Path) -> None:
    (places / "etc/registries.conf.d").mkdir(parents=True)
    (places / "etc/registries.conf.d/a.conf").write_text("[registries.search]\nregistries=[]\n")
    with pytest.raises(InputError, match="must be of version 2"):
        load_registries_conf()


def test_the_first_of_equal_prefixes_counts() -> None:
    found = conf('[[registry]]\nlocation="a"\n[[registry]]\nprefix="a"\nlocation="b"\n')
    assert [table.location for table in found.tables] == ["a"]
