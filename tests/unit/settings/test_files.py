# SPDX-License-Identifier: Apache-2.0
"""Settings: files, their order, and errors that name the line."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest
import tomlkit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from podman_cvmfs.errors import InputError
from podman_cvmfs.settings import files as module
from podman_cvmfs.settings.files import OnOutage, Settings, load_settings
from podman_cvmfs.settings.policy import Overlay, Policy, Reuse, View
from podman_cvmfs.util import toml
from tests.support.cli import podman_cvmfs

Files = dict[str, str]


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty /etc/podman-cvmfs of our own, and no user's settings."""
    monkeypatch.delenv("PODMAN_CVMFS_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(module, "SYSTEM_DIRECTORY", str(tmp_path / "etc"))
    return tmp_path / "etc"


def write(directory: Path, **files: str) -> None:
    for name, text in files.items():
        path = directory / (name.replace("__", "/") + ".toml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def as_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


def test_defaults(etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    found = load_settings()
    assert found == Settings()
    assert found.repositories == ("/cvmfs/unpacked.cern.ch",)
    assert found.store == "/var/lib/podman-cvmfs/store"
    assert found.policy == Policy()
    assert {found.source(key) for key in found.values()} == {"default"}
    with pytest.raises(KeyError):
        found.source("nothing")


def test_every_field_can_be_set() -> None:
    outcome = {"files", "warnings", "sources"}
    names = {each.name for each in dataclasses.fields(Settings)} - outcome
    assert {key.partition(".")[0] for key in Settings().values()} == names


ALL = """\
# All there is
repositories = ["/cvmfs/a", "/cvmfs/b/", "/cvmfs/a"]
wish_lists = ["/etc/list.yaml"]
include = ["quay.io/*"]
exclude = []
arch = "arm64"
store = "/srv/store"
cache = '/srv/cache'
view = "layers"
reuse = "none"
overlay = "fuse-overlayfs"
reuse_from = ["/cvmfs/c", "/cvmfs/b"]
shared = true
lists = "registry"
lists_budget = 1000
grace_days = 3
graphroots = ["/scratch/$USER/storage"]
blob_sources = ["https://www.example.org/blobs", "/mnt/blobs/"]
profiles = "/srv/profiles"
prefetch = true
offline = true
on_outage = "hide"
signatures = "ignored"

[registries]
timeout = 5
retries = 0
max_pause = 0.5
"""


def test_everything(etc: Path) -> None:
    write(etc, config=ALL)
    found = load_settings()
    assert found.repositories == ("/cvmfs/a", "/cvmfs/b")
    assert (found.wish_lists, found.include, found.exclude) == (
        ("/etc/list.yaml",),
        ("quay.io/*",),
        (),
    )
    assert found.blob_sources == ("https://www.example.org/blobs", "/mnt/blobs")
    assert found.policy == Policy(
        View.LAYERS, Reuse.NONE, Overlay.FUSE, shared=True, reuse_from=("/cvmfs/b",)
    )
    assert (found.grace_days, found.offline, found.on_outage) == (3, True, OnOutage.HIDE)
    assert (found.profiles, found.prefetch) == ("/srv/profiles", True)
    assert found.signatures is module.Signatures.IGNORED
    assert (found.lists, found.lists_budget) == (module.Lists.REGISTRY, 1000)
    assert found.registries == module.RegistrySettings(5.0, 0, 0.5)
    assert (found.files, found.warnings) == ((f"{etc}/config.toml",), ())
    lines = ALL.splitlines()
    for key in found.values():
        path, _, line = found.source(key).rpartition(":")
        assert path == f"{etc}/config.toml"
        assert lines[int(line) - 1].startswith(key.rpartition(".")[2])


def test_later_sources_win(etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(
        etc,
        config='view = "flat"\nreuse = "all"\ngrace_days = 1\n[registries]\ntimeout = 1\n',
        config_d__x="broken in a directory nobody reads",
    )
    (etc / "config.d").mkdir()
    (etc / "config.d/10-b.toml").write_text("grace_days = 2\nregistries.retries = 1\n")
    (etc / "config.d/9-a.toml").write_text("grace_days = 3\n")
    (etc / "config.d/readme.txt").write_text("no settings")
    (etc / "config.d/sub.toml").mkdir()
    found = load_settings({"reuse": "none", "view": None})
    assert (found.view, found.source("view")) == (View.FLAT, f"{etc}/config.toml:1")
    assert (found.reuse, found.source("reuse")) == (Reuse.NONE, "command line")
    assert (found.grace_days, found.source("grace_days")) == (3, f"{etc}/config.d/9-a.toml:1")
    assert (found.registries.timeout, found.registries.retries) == (1.0, 1)
    assert found.source("registries.retries") == f"{etc}/config.d/10-b.toml:2"
    as_user(monkeypatch)
    write(etc.parent / "home/podman-cvmfs", config="grace_days = 4\n", config__d="")
    assert load_settings().grace_days == 4


def test_a_users_store_is_the_users(
    etc: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write(etc, config='store = "/srv/store"\ncache = "/srv/cache"\nrepositories = ["/srv/r"]\n')
    write(tmp_path / "home/podman-cvmfs", config='cache = "~/cache"\n')
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    as_user(monkeypatch)
    found = load_settings()
    assert found.store == "/home/somebody/.local/share/podman-cvmfs/store"
    assert found.cache == "/home/somebody/cache"
    assert found.repositories == ("/srv/r",)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    found = load_settings()
    assert (found.store, found.cache) == ("/srv/store", "/srv/cache")


def test_a_file_named_in_the_environment_is_the_only_one(
    etc: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write(etc, config="this is not read")
    write(tmp_path, own="offline = true\n")
    monkeypatch.setenv("PODMAN_CVMFS_CONFIG", str(tmp_path / "own.toml"))
    found = load_settings()
    assert (found.offline, found.source("offline")) == (True, f"{tmp_path}/own.toml:1")
    monkeypatch.setenv("PODMAN_CVMFS_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(InputError, match="PODMAN_CVMFS_CONFIG names a missing file"):
        load_settings()


def test_paths_of_the_command_line_start_here(
    etc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = load_settings({"store": "s", "repositories": ["r", "/x/../y"], "wish_lists": ("w",)})
    assert found.store == f"{tmp_path}/s"
    assert found.repositories == (f"{tmp_path}/r", "/y")
    assert found.wish_lists == (f"{tmp_path}/w",)
    address = "https://www.example.org/a/../list.yaml"
    assert load_settings({"wish_lists": (address,)}).wish_lists == (address,)
    with pytest.raises(InputError, match="wish_lists is a list in which each must be an https"):
        load_settings({"wish_lists": ("http://www.example.org/list.yaml",)})
    with pytest.raises(InputError, match="grace_days must be a whole number"):
        load_settings({"grace_days": -1})


@pytest.mark.parametrize("key", ["repositories", "store", "cache"])
def test_an_empty_path_is_not_the_current_directory(etc: Path, key: str) -> None:
    with pytest.raises(InputError, match=f"{key} .*must be a text that isn't empty"):
        load_settings({key: [""] if key == "repositories" else ""})


def test_unknown_settings_are_warned_of(etc: Path) -> None:
    write(etc, config='stor = "/x"\n[registries]\nproxy = 1\n[extra]\na = 1\n"\\u001b" = 1\n')
    assert load_settings().warnings == (
        f"{etc}/config.toml:1: unknown setting 'stor' ignored",
        f"{etc}/config.toml:3: unknown setting 'registries.proxy' ignored",
        f"{etc}/config.toml:4: unknown setting 'extra' ignored",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\nstore = 5", ":2: store must be a text"),
        ("store = ''", ":1: store must be a text that isn't empty"),
        ('store = "relative/path"', ":1: store must be an absolute path, not 'relative/path'"),
        ('store = "/a\\u0000b"', ":1: store must hold no null character"),
        ("repositories = '/cvmfs/a'", ":1: repositories must be a list of texts"),
        ("repositories = []", ":1: repositories must name at least one"),
        ("repositories = [\n'/a',\n5]", ":1: repositories is a list in which each must be a text"),
        ('view = "best"', ":1: view must be one of auto, flat, layers"),
        ("view = []", ":1: view must be one of"),
        ("overlay = {a = 1}", ":1: overlay must be one of kernel, fuse-overlayfs"),
        (
            "arch = 'no/such/thing'",
            ":1: arch must be host, or an architecture like amd64 or arm/v7",
        ),
        ("offline = 1", ":1: offline must be true or false"),
        ("grace_days = true", ":1: grace_days must be a whole number from 0 to 3650"),
        ("grace_days = 1.5", ":1: grace_days must be a whole number"),
        ("grace_days = 'ever'", ':1: grace_days must be a whole number from 0 to 3650, or "never"'),
        ("graphroots = ['scratch']", ":1: graphroots is a list in which each must be an absolute"),
        ("on_outage = 'panic'", ":1: on_outage must be one of keep, hide"),
        ("[registries]\n\ntimeout = 0", ":3: registries.timeout must be a number of seconds"),
        ("registries.timeout = nan", ":1: registries.timeout must be a number of seconds"),
        ("registries = {retries = -1}", ": registries.retries must be a whole number"),
        ("registries = 5", ":1: registries must be a table"),
        ("offline = true\noffline = true", ":2: Key"),
        ("a = 1\nb =", ":2: the file ends too early"),
        ('a = 1\nrepositories = ["/a",', ":2: the file ends too early: is a bracket"),
        ('a = 1\nstore = "/a', ":2: the file ends too early: is a bracket"),
        ("a = 1\n[registries", ":2: the file ends too early: is a bracket"),
        ("a = \x00", ":1: Unexpected character: '\\x00'"),
        ("\x00", ":1: "),
    ],
)
def test_errors_name_file_and_line(etc: Path, text: str, message: str) -> None:
    write(etc, config=text)
    with pytest.raises(InputError) as caught:
        load_settings()
    assert caught.value.message.startswith(f"{etc}/config.toml{message}")
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(("text", "near"), [("arm65", "arm64"), ("x86", "x86_64")])
def test_an_architecture_that_nobody_has_is_refused(etc: Path, text: str, near: str) -> None:
    """It would leave out every image."""
    with pytest.raises(InputError, match=rf"not '{text}' \(is it {near}\?\)"):
        load_settings({"arch": text})


@pytest.mark.parametrize(
    ("text", "arch"),
    [("X86_64", "amd64"), ("amd64:", "amd64"), ("armhf", "arm/v7"), ("arm64v8", "arm64/v8")],
)
def test_other_names_of_architectures(etc: Path, text: str, arch: str) -> None:
    assert load_settings({"arch": text}).arch == arch


def test_bombs(etc: Path) -> None:
    for text in ("a = " + "[" * 100_000, "a = " + "{a=" * 100_000):
        write(etc, config=text)
        with pytest.raises(InputError, match="nested"):
            load_settings()


def test_files_that_cannot_be_read(etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (etc / "config.toml").mkdir(parents=True)
    with pytest.raises(InputError, match=r"can't read .*/config\.toml: Is a directory"):
        load_settings()
    (etc / "config.toml").rmdir()
    (etc / "config.toml").write_bytes(b"\xff")
    with pytest.raises(InputError, match=r"config\.toml: not valid TOML"):
        load_settings()
    monkeypatch.setattr(toml, "MAX_TOML", 10)
    (etc / "config.toml").write_bytes(b"#" * 11)
    with pytest.raises(InputError, match="longer than 10 bytes"):
        load_settings()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=80) | st.from_regex(r"[a-z_]{1,9} ?= ?[^\n]{0,20}", fullmatch=True))
def test_no_text_brings_it_down(etc: Path, text: str) -> None:
    etc.mkdir(exist_ok=True)
    (etc / "config.toml").write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        found = load_settings()
    except InputError as err:
        assert err.message.isprintable()
    else:
        assert all(warning.isprintable() for warning in found.warnings)


# ---------------------------------------------------------------------- podman-cvmfs config


def test_config_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, own='offline = true\nrepositories = ["/cvmfs/\\"ä"]\nnothing = 5\n')
    monkeypatch.setenv("PODMAN_CVMFS_CONFIG", str(tmp_path / "own.toml"))
    done = podman_cvmfs("config", "--format", "json")
    assert done.returncode == 0
    document = json.loads(done.stdout)
    assert document["files"] == [f"{tmp_path}/own.toml"]
    assert document["settings"]["offline"] == {"value": True, "source": f"{tmp_path}/own.toml:1"}
    assert document["settings"]["view"] == {"value": "auto", "source": "default"}
    assert done.stderr == f"{tmp_path}/own.toml:3: unknown setting 'nothing' ignored\n"
    done = podman_cvmfs("config")
    assert f"offline = true # {tmp_path}/own.toml:1" in " ".join(done.stdout.split())
    shown = tomlkit.parse(done.stdout).unwrap()
    assert shown["repositories"] == ['/cvmfs/"ä']
    assert shown["registries"] == {"timeout": 30.0, "retries": 2, "max_pause": 10.0}
    # What is shown can be used: it means the same.
    write(tmp_path, own=done.stdout)
    again = json.loads(podman_cvmfs("config", "--format", "json").stdout)
    assert {key: each["value"] for key, each in again["settings"].items()} == {
        key: each["value"] for key, each in document["settings"].items()
    }


def test_config_command_with_a_broken_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, own="\nview = 5\n")
    monkeypatch.setenv("PODMAN_CVMFS_CONFIG", str(tmp_path / "own.toml"))
    done = podman_cvmfs("config")
    assert done.returncode == 3
    assert done.stdout == ""
    assert f"{tmp_path}/own.toml:2: view must be one of auto, flat, layers" in done.stderr


def test_a_grace_without_end(etc: Path) -> None:
    write(etc, config='grace_days = "never"\ngraphroots = ["/scratch/$USER/storage"]\n')
    found = load_settings()
    assert found.grace_days is None
    assert found.graphroots == ("/scratch/$USER/storage",)
    assert found.values()["grace_days"] == "never"
