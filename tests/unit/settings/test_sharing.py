# SPDX-License-Identifier: Apache-2.0
"""Who may read a store: what is asked for, and what this machine's configuration promises."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from podman_cvmfs.podman.storage_conf.edit import STORES
from podman_cvmfs.podman.storage_conf.effective import Places, read_effective
from podman_cvmfs.podman.storage_conf.generation import Generation
from podman_cvmfs.settings import files as settings_module
from podman_cvmfs.settings import paths, sharing
from podman_cvmfs.settings.files import Settings, load_settings
from podman_cvmfs.sync.about_sharing import remarks

STORE = "/var/lib/podman-cvmfs/store"
NEW = Generation("6.0.0", drop_ins=True, appends=True)


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's configuration: nothing in it names a store to anybody. Root asks."""
    places = replace(
        sharing.ORDINARY, vendor=f"{tmp_path}/vendor", admin=f"{tmp_path}/etc/containers"
    )
    monkeypatch.setattr(sharing, "ORDINARY", places)
    monkeypatch.setattr(sharing, "_ENVIRONMENT", f"{tmp_path}/etc/environment")
    environments = {f"{tmp_path}{name}": end for name, end in sharing._ENVIRONMENTS.items()}
    monkeypatch.setattr(sharing, "_ENVIRONMENTS", environments)
    monkeypatch.setattr(settings_module, "SYSTEM_DIRECTORY", f"{tmp_path}/etc/podman-cvmfs")
    monkeypatch.delenv("PODMAN_CVMFS_CONFIG", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return tmp_path / "etc"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def naming(*stores: str, append: bool | None = None) -> str:
    array = [f'"{store}"' for store in stores]
    if append is not None:
        array.append(f"{{append = {str(append).lower()}}}")
    return f"[storage.options]\nadditionalimagestores = [{', '.join(array)}]\n"


def by_new(store: str = STORE) -> list[str]:
    """The files that name the store to ordinary users of podman 6, by their names."""
    return [os.path.basename(path) for path in sharing.files_naming(store, lambda: True)]


def by_old(store: str = STORE) -> list[str]:
    return [os.path.basename(path) for path in sharing.files_naming(store, lambda: False)]


def test_nothing_names_it(etc: Path) -> None:
    assert by_new() == []
    write(etc / "containers/storage.conf", f'# "{STORE}"\n' + naming("/other", f"{STORE}2"))
    write(etc / "profile.d/x.sh", f"# overlay.imagestore={STORE}\n")
    write(etc / "containers/storage.rootful.conf.d/a.conf", naming(STORE, append=True))
    assert by_new() == []


@pytest.mark.parametrize(
    "text",
    [
        naming(STORE),
        naming("/other", STORE, append=True),
        f"[storage]\noptions.additionalimagestores = [\n  # ours\n  '{STORE}/', # it\n]\n",
        f'[storage.options]\n"AdditionalImageStores"=["{STORE}"]\n',
        f'[storage]\noptions = {{additionalimagestores = ["{STORE}"]}}\n',
    ],
)
@pytest.mark.parametrize(
    "name",
    [
        "etc/containers/storage.conf",
        "vendor/storage.conf",
        "etc/containers/storage.conf.d/a.conf",
        "vendor/storage.conf.d/a.conf",
        "etc/containers/storage.rootless.conf.d/a.conf",
        "etc/containers/storage.rootless.conf.d/1000/a.conf",
    ],
)
def test_what_ordinary_users_of_podman_6_read(etc: Path, name: str, text: str) -> None:
    path = write(etc.parent / name, text)
    assert by_new() == [path.name]
    # Earlier ones give ordinary users none of the system's stores.
    assert by_old() == []


@pytest.mark.parametrize(
    "name", ["etc/environment", "etc/environment.d/a.conf", "etc/profile.d/any.sh"]
)
@pytest.mark.parametrize("option", ["imagestore", "additionalimagestore", "ImageStore"])
def test_what_sessions_of_any_podman_get(etc: Path, name: str, option: str) -> None:
    text = f"STORAGE_OPTS=overlay.mountopt=nodev,overlay.{option}={STORE}\n"
    path = write(etc.parent / name, text)
    assert by_old() == by_new() == [path.name]


def test_a_link_is_followed(etc: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "link").symlink_to("store")
    write(etc / "containers/storage.conf", naming(f"{tmp_path}/link"))
    assert by_new(f"{tmp_path}/store") == ["storage.conf"]


#: Name of a file -> the stores in its array, and what it says of appending.
_CASES: list[dict[str, tuple[tuple[str, ...], bool | None]]] = [
    {"storage.conf": ((STORE,), None), "storage.conf.d/b.conf": (("/x",), None)},
    {"storage.conf": ((STORE,), None), "storage.conf.d/b.conf": (("/x",), True)},
    {"storage.conf": ((STORE,), True), "storage.conf.d/b.conf": (("/x",), None)},
    {"storage.conf": ((STORE,), None), "storage.rootless.conf.d/0.conf": ((), None)},
    {"storage.conf.d/b.conf": ((STORE,), None), "storage.rootless.conf.d/b.conf": (("/x",), None)},
    {"storage.conf.d/b.conf": ((STORE,), True), "storage.conf.d/c.conf": (("/x",), False)},
    {"storage.rootful.conf.d/b.conf": ((STORE,), True)},
]


@pytest.mark.parametrize("case", _CASES)
def test_arrays_add_up_as_podman_has_it(
    etc: Path, case: dict[str, tuple[tuple[str, ...], bool | None]]
) -> None:
    for name, (stores, append) in case.items():
        write(etc / "containers" / name, naming(*stores, append=append))
    user = Places.of_user(1000, "/none", sharing.ORDINARY)
    assert STORES[-1] == "additionalimagestores"
    assert bool(by_new()) == (STORE in read_effective(user, NEW).stores)


@pytest.fixture
def podman(etc: Path, tmp_path: Path) -> Callable[[bool], None]:
    """Installs a podman that reads drop-ins or doesn't, and counts how often it is run."""

    def install(drop_ins: bool) -> None:
        refuse = "" if drop_ins else 'grep -q append "$CONTAINERS_STORAGE_CONF" && exit 1\n'
        text = f"#!/bin/sh\necho run >> {tmp_path}/runs\n[ $1 = --version ] && echo x 1\n{refuse}"
        new = write(tmp_path / "bin/podman.new", f"{text}exit 0\n")
        new.chmod(0o755)
        os.replace(new, tmp_path / "bin/podman")

    return install


def runs(tmp_path: Path) -> int:
    file = tmp_path / "runs"
    return len(file.read_text().splitlines()) if file.exists() else 0


def test_podman_is_asked_once_and_only_where_it_matters(
    etc: Path, podman: Callable[[bool], None], tmp_path: Path
) -> None:
    podman(False)
    found = Settings(store=STORE, cache=f"{tmp_path}/cache")
    assert not found.policy.shared and runs(tmp_path) == 0
    write(etc / "containers/storage.conf", naming(STORE))
    assert not found.policy.shared
    asked = runs(tmp_path)
    assert asked > 0
    assert not found.policy.shared and runs(tmp_path) == asked
    podman(True)
    assert found.policy.shared and runs(tmp_path) > asked
    (tmp_path / "bin/podman").unlink()
    (tmp_path / "cache/podman.json").write_text("{")
    os.environ["PATH"] = f"{tmp_path}/bin"
    # Nobody can tell: what is named stays readable.
    assert found.policy.shared


def test_sharing_is_asked_for(etc: Path) -> None:
    found = load_settings({"store": STORE})
    assert (found.shared, found.policy.shared) == (None, False)
    assert load_settings({"shared": True}).policy.shared
    write(etc / "podman-cvmfs/config.toml", "shared = true\n")
    assert load_settings().policy.shared
    assert not load_settings({"shared": False}).policy.shared


def test_a_store_that_is_named_stays_open_and_a_sync_says_so(etc: Path) -> None:
    write(etc / "profile.d/p.sh", f"STORAGE_OPTS=overlay.imagestore={STORE}\n")
    assert load_settings({"store": STORE}).policy.shared
    assert remarks(load_settings({"store": STORE})) == []
    for found in (load_settings({"store": STORE, "shared": False}),):
        assert found.policy.shared
        (said,) = remarks(found)
        assert f"{etc}/profile.d/p.sh" in said and "setup --no-users" in said
    assert remarks(load_settings({"store": STORE, "shared": True})) == []


def test_a_sync_says_that_the_next_one_closes_it(etc: Path) -> None:
    (said,) = remarks(load_settings({"store": STORE, "shared": True}))
    assert "shared = true in" in said and "setup --users" in said
    write(etc / "podman-cvmfs/config.toml", "shared = true\n")
    assert remarks(load_settings({"store": STORE})) == []


def test_an_ordinary_user_s_store_is_private_whatever_root_shares(
    etc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", f"{tmp_path}/home")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    own = f"{tmp_path}/own"
    write(etc / "podman-cvmfs/config.toml", "shared = true\n")
    write(etc / "profile.d/p.sh", f"STORAGE_OPTS=overlay.imagestore={own}\n")
    found = load_settings({"store": own})
    assert (found.shared, found.policy.shared) == (None, False)
    (said,) = remarks(load_settings({"store": own, "shared": True}))
    assert "setup" not in said and f"{tmp_path}/home/podman-cvmfs/config.toml" in said
    write(tmp_path / "home/podman-cvmfs/config.toml", "shared = true\n")
    assert load_settings({"store": own}).policy.shared


def test_root_s_store_is_for_users_what_it_is(
    etc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    store = tmp_path / "store"
    monkeypatch.setattr(paths, "SYSTEM_STORE", str(store))
    assert not Settings(store=str(store)).policy.shared
    for mode in (0o700, 0o755):
        store.mkdir(exist_ok=True)
        store.chmod(mode)
        assert Settings(store=str(store)).policy.shared == (mode == 0o755)
