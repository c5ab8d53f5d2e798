# SPDX-License-Identifier: Apache-2.0
"""Mirrors: who is asked first, who is asked next, and with what."""

from __future__ import annotations

import pytest

from podman_cvmfs.errors import RegistryBusy, RegistryError, RegistryUnreachable
from podman_cvmfs.names.reference import ImageName, parse_name
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.registry.access import RegistryAccess, RegistrySource
from podman_cvmfs.registry.client import RegistryClient
from podman_cvmfs.registry.credentials import Credentials
from podman_cvmfs.registry.registries_conf import RegistriesConf
from podman_cvmfs.registry.registries_file import Mirror, RegistryTable
from tests.support.http import Server, give
from tests.support.logins import BASIC, MANIFEST, SECRET, Known, mirrored, new_client, only_with

pytestmark = pytest.mark.usefixtures("pauses", "nothing_secret_is_said")


def test_the_mirror_is_asked_first(server: Server, other: Server, name: ImageName) -> None:
    other.answers["/v2/mirrors/group/app/manifests/1"] = give(MANIFEST)
    conf = mirrored(name, f"{other.address}/mirrors")
    with new_client(Credentials("me", SECRET), conf) as client:
        assert client.manifest(name)[0] == MANIFEST
    assert server.requests == []


@pytest.mark.parametrize("fault", [404, 403, 500, "wrong data"])
def test_what_the_mirror_lacks_the_registry_gives(
    server: Server, other: Server, name: ImageName, dead: str, fault: int | str
) -> None:
    digest = Digest.of(b"blob")
    server.answers["/v2/"] = give(b"blob")
    other.answers["/v2/"] = give(b"bl0b", 200 if isinstance(fault, str) else fault)
    with new_client(None, mirrored(name, dead, other.address), retries=0) as client:
        assert client.blob(name, digest) == b"blob"
        if fault != "wrong data":
            assert b"".join(client.blob_stream(name, digest)) == b"blob"
    assert other.paths[0] == server.paths[0] == f"/v2/group/app/blobs/{digest}"


def test_credentials_are_the_mirrors_own(server: Server, other: Server, name: ImageName) -> None:
    other.answers["/v2/"] = only_with(BASIC, give(MANIFEST), "Basic realm=x")
    known = Known(Credentials("me", SECRET))
    conf = mirrored(name, f"{other.address}/mirrors")
    with RegistryClient(timeout=5, conf=conf, credentials=known) as client:
        client.manifest(name)
    assert known.asked == [f"{other.address}/mirrors/group/app"]


@pytest.mark.parametrize("pull", ["tag-only", "digest-only"])
def test_a_mirror_for_tags_or_digests_has_the_parts(
    server: Server, other: Server, name: ImageName, pull: str
) -> None:
    digest, child = Digest.of(b"blob"), Digest.of(MANIFEST)
    other.answers["/v2/group/app/blobs/"] = give(b"blob")
    other.answers["/v2/"] = give(MANIFEST)
    mirror = Mirror(other.address, pull=pull)
    conf = RegistriesConf((RegistryTable(name.registry, name.registry, mirrors=(mirror,)),))
    with new_client(None, conf) as client:
        assert client.blob(name, digest) == b"blob"
        assert b"".join(client.blob_stream(name, digest)) == b"blob"
        assert client.manifest(name, str(child))[0] == MANIFEST
    assert server.requests == []


def test_out_of_reach_only_if_all_are(server: Server, other: Server, dead: str) -> None:
    name = parse_name(f"{dead}/app:1")
    with new_client(None, mirrored(name, other.address)) as client:
        # The mirror answers, if only that it hasn't got this one.
        with pytest.raises(RegistryError, match=f"can't reach {dead}") as caught:
            client.manifest(name)
        assert not isinstance(caught.value, RegistryUnreachable)
        other.answers["/v2/second/"] = give(MANIFEST)
        assert client.manifest(parse_name(f"{dead}/second:1"))[0] == MANIFEST
    with new_client(None, mirrored(name, dead)) as client, pytest.raises(RegistryUnreachable):
        client.manifest(name)


@pytest.mark.parametrize("status", [404, 401, 403])
@pytest.mark.parametrize("mirror", ["dead", "busy"])
def test_a_mirror_that_does_not_answer_may_have_it(
    server: Server, other: Server, name: ImageName, dead: str, mirror: str, status: int
) -> None:
    """Whatever the registry itself says, the question is open."""
    server.answers["/v2/"] = give(b"", status)
    other.answers["/v2/"] = give(b"", 429, Retry_After="3600")
    digest = Digest.of(b"blob")
    with new_client(None, mirrored(name, dead if mirror == "dead" else other.address)) as client:
        registries = RegistryAccess(lambda: client)
        found, why = registries.ask(name, lambda registry: registry.blob(name, digest))
        assert found is None and server.address in why
        assert registries.silent == {name.registry: why}
        with pytest.raises(RegistryBusy):
            list(client.blob_stream(name, digest))


def test_a_dead_part_of_a_registry_is_not_the_registry(
    server: Server, other: Server, dead: str
) -> None:
    """Nor is a registry dead whose name leads to hosts that aren't; but all that lead there are."""
    server.answers["/v2/"] = give(MANIFEST)
    conf = RegistriesConf(
        (
            RegistryTable("r.io", server.address),
            RegistryTable("r.io/dead", f"{dead}/dead"),
            RegistryTable("r.io/mirrored", dead, mirrors=(Mirror(f"{server.address}/m"),)),
            RegistryTable("s.io", dead),
            RegistryTable("r.io/blocked", dead, blocked=True),
        )
    )
    asked = []
    with new_client(None, conf) as client:
        registries = RegistryAccess(lambda: client)

        def ask(text: str) -> str:
            def question(registry: RegistrySource) -> bytes:
                asked.append(text)
                return registry.manifest(parse_name(text))[0]

            found, why = registries.ask(parse_name(text), question)
            assert found in (None, MANIFEST) and bool(why) == (found is None)
            return why

        assert "blocked" in ask("r.io/blocked/app:1") and registries.silent == {}
        assert "connection refused" in ask("r.io/dead/app:1")
        assert list(registries.silent) == ["r.io"]
        assert ask("r.io/app:1") == ask("r.io/mirrored/app:1") == ""
        assert "connection refused" in ask("r.io/dead/app:2")
        assert "connection refused" in ask("s.io/app:1")
    assert set(registries.silent) == {"r.io", "s.io"}
    assert asked == ["r.io/dead/app:1", "r.io/app:1", "r.io/mirrored/app:1"]


def test_blocked(server: Server, name: ImageName) -> None:
    with new_client(None, mirrored(name, blocked=True)) as client:
        for ask in (client.manifest, client.tags):
            with pytest.raises(RegistryError, match=r"blocked in registries\.conf"):
                ask(name)
        with pytest.raises(RegistryError, match="blocked"):
            list(client.blob_stream(name, Digest.of(b"")))
    assert server.requests == []
