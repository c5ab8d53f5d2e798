# SPDX-License-Identifier: Apache-2.0
"""policy.json: which images podman accepts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from podman_cvmfs.errors import InputError
from podman_cvmfs.names.reference import parse_name
from podman_cvmfs.podman.registries_rules import RegistriesRules
from podman_cvmfs.registry.signature_policy import (
    SignaturePolicy,
    parse_signature_policy,
    read_signature_policy,
)
from tests.support.set_up import write

ACCEPT = [{"type": "insecureAcceptAnything"}]
REJECT = [{"type": "reject"}]
SIGNED = [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/etc/pki/key"}]
HEX = "0123456789abcdef" * 4


def policy(
    default: object = ACCEPT, scopes: Mapping[str, object] = {}, ignore: bool = False
) -> SignaturePolicy:
    document = {"default": default, "transports": {"docker": scopes}}
    return parse_signature_policy(json.dumps(document).encode(), "p.json", ignore)


@pytest.mark.parametrize(
    ("scope", "name", "is_refused"),
    [
        ("quay.io", "quay.io/a/b:1", True),
        ("quay.io", "quay.io:443/a/b:1", False),
        ("quay.io", "xquay.io/a/b:1", False),
        ("quay.io/a", "quay.io/a/b:1", True),
        ("quay.io/a", "quay.io/ab/b:1", False),
        ("quay.io/a/b", "quay.io/a/b:1", True),
        ("quay.io/a/b:1", "quay.io/a/b:1", True),
        ("quay.io/a/b:1", "quay.io/a/b:2", False),
        (f"quay.io/a/b@sha256:{HEX}", f"quay.io/a/b@sha256:{HEX}", True),
        (f"quay.io/a/b@sha256:{HEX}", f"quay.io/a/b:1@sha256:{HEX}", True),
        ("quay.io/a/b:1", f"quay.io/a/b:1@sha256:{HEX}", False),
        ("docker.io/library/debian", "debian:12", True),
        ("docker.io/library", "index.docker.io/library/debian:12", True),
        ("*.example.org", "a.b.example.org/x:1", True),
        ("*.b.example.org", "a.b.example.org:5000/x:1", True),
        ("*.org", "example.org/x:1", True),
        ("*.example.org", "example.org/x:1", False),
        ("", "quay.io/a/b:1", True),
    ],
)
def test_scopes(scope: str, name: str, is_refused: bool) -> None:
    assert bool(policy(scopes={scope: REJECT}).refusal(parse_name(name))) == is_refused
    # The rest of the world is refused instead.
    assert bool(policy(REJECT, {scope: ACCEPT}).refusal(parse_name(name))) != is_refused


def test_the_best_scope_alone_counts() -> None:
    found = policy(
        REJECT, {"": REJECT, "quay.io": ACCEPT, "quay.io/bad": REJECT, "quay.io/bad/good": ACCEPT}
    )
    refused = {name: found.refusal(parse_name(f"{name}:1")) for name in ("q.io/a", "quay.io/a")}
    assert refused == {"q.io/a": "p.json rejects all other images", "quay.io/a": ""}
    assert found.refusal(parse_name("quay.io/bad/x:1")) == "p.json rejects images of quay.io/bad"
    assert found.refusal(parse_name("quay.io/bad/good:1")) == ""


def test_signatures() -> None:
    name = parse_name("quay.io/a:1")
    assert policy(scopes={"quay.io": SIGNED}).refusal(name) == (
        "p.json demands a signature for images of quay.io (signedBy)"
    )
    assert policy([*ACCEPT, *SIGNED]).refusal(name)
    assert policy([*SIGNED, *REJECT]).refusal(name) == "p.json rejects all other images"
    assert policy(SIGNED, ignore=True).refusal(name) == ""
    assert policy([*SIGNED, *REJECT], ignore=True).refusal(name)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"default": []}',
        '{"default": [{"type": "mystery"}]}',
        '{"default": [{"type": "reject"}], "other": 1}',
        '{"default": [{"type": "reject"}], "default": [{"type": "insecureAcceptAnything"}]}',
        '{"default": [{"type": "reject"}], "transports": []}',
        '{"default": [{"type": "reject"}], "transports": {"docker": []}}',
        '{"default": [{"type": "reject"}], "transports": {"docker": {"q.io": []}}}',
        "[" * 100_000,
        "\udcff",
    ],
)
def test_broken_files(text: str) -> None:
    with pytest.raises(InputError, match=r"p\.json: not valid") as caught:
        parse_signature_policy(text.encode(errors="surrogateescape"), "p.json")
    assert caught.value.message.isprintable()


def test_which_file_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = write(
        tmp_path / "home/.config/containers/policy.json", b'{"default":[{"type":"reject"}]}'
    )
    xdg = write(tmp_path / "xdg/containers/policy.json", own.read_bytes())
    named = write(tmp_path / "named.json", own.read_bytes())
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("CONTAINERS_POLICY_JSON", str(named))

    def path(everywhere: bool) -> str:
        found = read_signature_policy(rules=RegistriesRules(everywhere))
        return "" if found is None else found.path

    assert path(everywhere=False) == str(own)
    assert path(everywhere=True) == str(named)
    monkeypatch.delenv("CONTAINERS_POLICY_JSON")
    assert path(everywhere=True) == str(xdg)
    monkeypatch.delenv("XDG_CONFIG_HOME")
    assert path(everywhere=True) == str(own)
    own.unlink()
    own.mkdir()
    with pytest.raises(InputError, match="can't read"):
        path(everywhere=True)
