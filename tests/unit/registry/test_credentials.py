# SPDX-License-Identifier: Apache-2.0
"""Files and helpers that hold credentials."""

from __future__ import annotations

import base64
import json
import logging
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from podman_cvmfs.registry import credentials as module
from podman_cvmfs.registry.credentials import Credentials, CredentialStore

SECRET = "s3cr3t-passw0rd"

#: What helpers say (docker-credential-helpers, ``credentials/error.go``).
NOT_FOUND = "credentials not found in native keychain"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of our own; everything credentials may come from lies in it."""
    for variable in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    return tmp_path


def auth(user: str, password: str = SECRET) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def write(path: Path, document: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))


def user(registry: str, repository: str = "a/b", *helpers: str) -> str | None:
    store = CredentialStore(helpers) if helpers else CredentialStore()
    found = store.find(registry, repository)
    return None if found is None else found.user or f"token {found.identity_token}"


def helper(home: Path, monkeypatch: pytest.MonkeyPatch, name: str, script: str) -> Path:
    """Make docker-credential-NAME; it logs what it is asked for."""
    directory = home / "bin"
    directory.mkdir(exist_ok=True)
    log = home / f"{name}.log"
    program = directory / f"docker-credential-{name}"
    program.write_text(f'#!/bin/sh\nread server\necho "$1 $server" >> {log}\n{script}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    return log


def answer(name: str, secret: str = SECRET) -> str:
    return f"echo '{json.dumps({'ServerURL': 'x', 'Username': name, 'Secret': secret})}'"


def test_no_credentials() -> None:
    assert user("quay.io") is None


def test_the_longest_part_counts(home: Path) -> None:
    entries = {"r.io/ns/app/x": auth("image"), "r.io/ns": auth("namespace"), "r.io": auth("host")}
    write(home / "run/containers/auth.json", {"auths": entries})
    assert user("r.io", "ns/app/x") == "image"
    assert user("r.io", "ns/app") == "namespace"
    assert user("r.io", "ns") == "namespace"
    assert user("r.io", "nsx/app") == "host"
    assert user("r.io:5000", "ns") is None


def test_order_of_files(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(home / ".dockercfg", {"https://r.io/v1/": auth("legacy")})
    assert user("r.io") == "legacy"
    write(home / ".docker/config.json", {"auths": {"r.io": auth("docker")}})
    assert user("r.io") == "docker"
    write(home / "elsewhere/config.json", {"auths": {"r.io": auth("docker's variable")}})
    monkeypatch.setenv("DOCKER_CONFIG", str(home / "elsewhere"))
    assert user("r.io") == "docker's variable"
    write(home / ".config/containers/auth.json", {"auths": {"r.io": auth("containers")}})
    assert user("r.io") == "containers"
    write(home / "run/containers/auth.json", {"auths": {"r.io": auth("run")}})
    assert user("r.io") == "run"
    write(home / "named.json", {"auths": {"r.io": auth("named")}})
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(home / "named.json"))
    assert user("r.io") == "named"
    write(home / "named.json", {"auths": {}})
    assert user("r.io") is None


@pytest.mark.parametrize(
    "key", ["docker.io", "index.docker.io", "https://index.docker.io/v1/", "registry-1.docker.io"]
)
def test_docker_hub(home: Path, key: str) -> None:
    write(home / ".docker/config.json", {"auths": {key: auth("hub")}})
    assert user("docker.io", "library/debian") == "hub"
    assert user("quay.io", "library/debian") is None


def test_keys_that_are_urls(home: Path) -> None:
    write(home / ".docker/config.json", {"auths": {"https://r.io:5000/v2/": auth("me")}})
    assert user("r.io:5000") == "me"
    assert user("r.io") is None


def test_identity_token(home: Path) -> None:
    entry = {**auth("<token>", ""), "identitytoken": SECRET}
    write(home / "run/containers/auth.json", {"auths": {"r.io": entry}})
    assert user("r.io") == f"token {SECRET}"


def test_a_password_may_hold_anything(home: Path) -> None:
    write(home / "run/containers/auth.json", {"auths": {"r.io": auth("me", "a:b:ü\0\0")}})
    found = CredentialStore().find("r.io", "x")
    assert found == Credentials("me", "a:b:ü")
    assert base64.b64decode(found.basic().partition(" ")[2]).decode() == "me:a:b:ü"


def test_helpers(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = helper(home, monkeypatch, "one", answer("helped"))
    helper(home, monkeypatch, "token", answer("<token>"))
    write(
        home / "run/containers/auth.json",
        {
            "auths": {"r.io/a": auth("not me: the helper is first")},
            "credHelpers": {"r.io": "one", "t.io": "token"},
        },
    )
    store = CredentialStore()
    for _ in range(3):
        assert store.find("r.io", "a/b") == Credentials("helped", SECRET)
    assert log.read_text() == "get r.io\n"
    assert user("t.io") == f"token {SECRET}"
    assert user("other.io") is None


def test_dockers_general_helper(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = helper(home, monkeypatch, "store", answer("stored"))
    auths = {"r.io": {}, "https://index.docker.io/v1/": {}, "plain.io": auth("plain")}
    write(home / ".docker/config.json", {"auths": auths, "credsStore": "store"})
    assert user("r.io") == "stored"
    assert user("docker.io", "library/x") == "stored"
    assert user("plain.io") == "plain"
    assert log.read_text() == "get r.io\nget https://index.docker.io/v1/\n"


def test_helpers_of_registries_conf(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(home, monkeypatch, "one", answer("helped"))
    helper(home, monkeypatch, "none", f"echo '{NOT_FOUND}'; exit 1")
    write(home / "run/containers/auth.json", {"auths": {"r.io": auth("file")}})
    assert user("r.io", "a", "none", "containers-auth.json", "one") == "file"
    assert user("r.io", "a", "one", "containers-auth.json") == "helped"
    assert user("r.io", "a", "none") is None


def test_a_helper_that_knows_nothing_is_no_trouble(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    helper(home, monkeypatch, "none", f"echo '{NOT_FOUND}'; exit 1")
    assert user("r.io", "a", "none") is None
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (f"echo {SECRET}; echo {SECRET} >&2; exit 3", "docker-credential-bad fails for r.io"),
        (f"echo {SECRET}", "docker-credential-bad doesn't answer with credentials"),
        ("echo []", "answer with credentials"),
        ("""echo '{"Username": 5, "Secret": null}'""", "answer with credentials"),
        ("sleep 20", "docker-credential-bad doesn't answer"),
    ],
)
def test_broken_helpers_are_warned_of_once(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    script: str,
    message: str,
) -> None:
    monkeypatch.setattr(module, "_HELPER_SECONDS", 1)
    helper(home, monkeypatch, "bad", script.replace("sleep", "exec sleep"))
    store = CredentialStore(["bad"])
    assert store.find("r.io", "a") is None
    assert store.find("r.io", "b") is None
    [record] = caplog.records
    assert message in record.getMessage()
    assert SECRET not in caplog.text


@pytest.mark.parametrize("name", ["../../bin/sh", "", "a b", "x/y", 5])
def test_no_path_is_run_as_a_helper(
    home: Path, caplog: pytest.LogCaptureFixture, name: object
) -> None:
    write(home / "run/containers/auth.json", {"credHelpers": {"r.io": name}})
    assert user("r.io") is None
    assert "not the name of a credential helper" in caplog.text


def test_a_missing_helper(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(home / "run/containers/auth.json", {"credHelpers": {"r.io": "no-such-thing"}})
    assert user("r.io") is None
    assert "can't run docker-credential-no-such-thing" in caplog.text


@pytest.mark.parametrize(
    "text",
    [f'{{"auths": {{"r.io": "{SECRET}"}}}}', f'{{"auths": {{"r.io": {{"auth": "{SECRET}"}}}}}}']
    + [SECRET, "", "[]", '{"auths": []}', '{"auths": {}, "credHelpers": 5}', "[" * 100_000]
    + ['{"auths": {"r.io": {"auth": 5}}}', '{"auths": {"r.io": {"auth": "bm8="}}}'],
)
def test_broken_files_are_warned_of_once(
    home: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    caplog.set_level(logging.DEBUG)
    write(home / "run/containers/auth.json", text)
    write(home / ".docker/config.json", {"auths": {"r.io": auth("second")}})
    store = CredentialStore()
    for _ in range(2):
        found = store.find("r.io", "a")
        assert found is not None and found.user == "second"
    [record] = caplog.records
    assert "auth.json" in record.getMessage()
    assert SECRET not in caplog.text


def test_unreadable_files(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    (home / "run/containers/auth.json").mkdir(parents=True)
    assert user("r.io") is None
    assert "auth.json: Is a directory" in caplog.text


def test_nothing_secret_is_shown() -> None:
    found = Credentials("me", SECRET, SECRET)
    assert SECRET not in f"{found} {found!r}" and "me" not in repr(found).partition("(")[2]
    assert SECRET not in repr(module._AuthFile("p", {"r.io": auth("me")}, {}, None, False))
    assert base64.b64encode(f"me:{SECRET}".encode()).decode() not in repr(
        module._AuthFile("p", {"r.io": auth("me")}, {}, None, False)
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.fixed_dictionaries(
        {}, optional={"auths": json_values, "credsStore": st.none() | json_values}
    )
    | st.dictionaries(
        st.just("auths"),
        st.dictionaries(
            st.just("r.io"),
            st.dictionaries(st.sampled_from(["auth", "identitytoken"]), json_values),
        ),
    )
)
def test_no_document_brings_it_down(home: Path, document: object) -> None:
    write(home / "run/containers/auth.json", json.dumps(document))
    CredentialStore().find("r.io", "a")
