# SPDX-License-Identifier: Apache-2.0
"""The users who get the store, and users whose own settings hide it."""

from __future__ import annotations

from pathlib import Path

import pytest

from podman_cvmfs.podman.storage_conf.toml_file import plain
from podman_cvmfs.setup import record as records
from podman_cvmfs.setup.changes import Change
from podman_cvmfs.setup.plan import storage_drop_in
from podman_cvmfs.setup.users import shadowed
from tests.support.set_up import MIDDLE, Machine, places_of, stores_of_users, tree_of, write
from tests.support.storage_confs import DEBIAN, FEDORA, NEW, OLD, STORE


def test_user_keeps_what_was_inherited(root: Path) -> None:
    system = b"""\
[storage]
driver = "overlay"
graphroot = "/elsewhere"
rootless_storage_path = "/big/$USER"
[storage.options]
additionalimagestores = ["/system"]
pull_options = {enable_partial_images = "true"}
[storage.options.overlay]
ignore_chown_errors = "true"
mountopt = "nodev"
"""
    write(root / "admin/storage.conf", system)
    options = "overlay.imagestore=/shared"
    remarks = Machine(root, OLD, uid=1000, storage_opts=options).set_up().remarks
    assert any("unset STORAGE_OPTS" in remark for remark in remarks)
    assert plain("f", (root / "user/storage.conf").read_bytes())["storage"] == {
        "driver": "overlay",
        "rootless_storage_path": "/big/$USER",
        "options": {
            "pull_options": {"enable_partial_images": "true"},
            "overlay": {"ignore_chown_errors": "true"},
            "additionalimagestores": [STORE, "/shared"],
        },
    }


def test_user_s_drop_in_doesn_t_hide_the_system_s(root: Path) -> None:
    Machine(root, NEW).set_up("/system", users=True)
    machine = Machine(root, NEW, uid=1000)
    machine.manifest += ".user"
    machine.set_up("/own")
    assert machine.serves("/system") and machine.serves("/own")


@pytest.mark.parametrize("packaged", ["", "storage.conf.d", "storage.rootful.conf.d"])
def test_drop_ins_leave_ordinary_users_out_and_let_them_in(root: Path, packaged: str) -> None:
    """A package's, too, of which earlier versions had one for all."""
    write(root / "admin/storage.conf", FEDORA)
    if packaged:
        write(root / f"vendor/{packaged}/99-podman-cvmfs.conf", storage_drop_in([STORE]))
    before = tree_of(root)
    machine = Machine(root, NEW)
    for users in (False, True, False, True, False):
        machine.set_up(users=users)
        assert machine.serves()
        assert stores_of_users(machine).count(STORE) == int(users)
        assert not machine.plan(users=users).changes
    assert machine.undo() == []
    assert tree_of(root) == before


def set_up_by_an_earlier_version(machine: Machine, users: bool) -> None:
    """Podman 6's drop-in for all users, which it hid from ordinary ones by one of the same name."""
    name = "99-podman-cvmfs.conf"
    files = {f"storage.conf.d/{name}": b"# Old.\n" + storage_drop_in([STORE])}
    if not users:
        files[f"storage.rootless.conf.d/{name}"] = b"# Made by 'podman-cvmfs setup': ..\n"
    changes = [Change(f"{machine.places.admin}/{each}", None, data) for each, data in files.items()]
    records.perform(machine.manifest, changes, [STORE], ())
    assert (STORE in stores_of_users(machine)) == users


@pytest.mark.parametrize("users", [False, True])
@pytest.mark.parametrize("wanted", [False, True])
@pytest.mark.parametrize("store", [STORE, "/other"])
def test_what_an_earlier_version_has_set_up_is_changed_over(
    root: Path, users: bool, wanted: bool, store: str
) -> None:
    write(root / "admin/storage.conf", FEDORA)
    before = tree_of(root)
    machine = Machine(root, NEW)
    set_up_by_an_earlier_version(machine, users)
    machine.set_up(store, users=wanted)
    assert machine.serves(store)
    assert (store in stores_of_users(machine), stores_of_users(machine).count(STORE)) == (
        wanted,
        int(wanted and store == STORE),
    )
    assert not (root / "admin/storage.conf.d/99-podman-cvmfs.conf").exists()
    assert not machine.plan(store, users=wanted).changes
    assert machine.undo() == []
    assert tree_of(root) == before


def test_what_the_administrator_has_added_to_an_old_drop_in_stays(root: Path) -> None:
    machine = Machine(root, NEW)
    set_up_by_an_earlier_version(machine, users=True)
    path = root / "admin/storage.conf.d/99-podman-cvmfs.conf"
    path.write_bytes(path.read_bytes() + b'[storage.options.overlay]\nmountopt = "nodev"\n')
    machine.set_up()
    assert machine.serves() and STORE not in stores_of_users(machine)
    assert b"nodev" in path.read_bytes() and STORE.encode() not in path.read_bytes()


USERS_STORE = ".local/share/podman-cvmfs/store"


def test_users_whose_settings_shadow_the_store_are_named(root: Path) -> None:
    homes = {
        name: root / f"home/{name}" for name in ("free", "own", "broken", "vfs", "has", "apart")
    }
    for home in homes.values():
        home.mkdir(parents=True)
    write(root / "admin/storage.conf", DEBIAN)
    write(homes["own"] / ".config/containers/storage.conf", DEBIAN)
    write(homes["broken"] / ".config/containers/storage.conf", b"[")
    text = f'[storage.options]\nadditionalimagestores = ["{STORE}"]\n'
    write(homes["has"] / ".config/containers/storage.conf", text.encode())
    text = f'[storage.options]\nadditionalimagestores = ["{homes["apart"]}/{USERS_STORE}"]\n'
    write(homes["apart"] / ".config/containers/storage.conf", text.encode())
    (homes["vfs"] / ".local/share/containers/storage/vfs-images").mkdir(parents=True)
    lines = ["root:x:0:0::/root:/bin/sh\n", "short:x\n", "gone:x:1999:1:::/bin/sh\n"]
    lines += [
        f"{name}:x:{1000 + n}:1::{home}:/bin/sh\n" for n, (name, home) in enumerate(homes.items())
    ]
    passwd = write(root / "passwd", "".join(lines).encode())
    told = shadowed(places_of(root), OLD, STORE, str(passwd))
    assert [line.partition(":")[0] for line in told] == ["own", "broken", "vfs"]
    assert "setup --user --store" in told[0]


@pytest.mark.parametrize("set_up_again", [False, True])
def test_ordinary_users_are_left_out_by_podman_6_too(root: Path, set_up_again: bool) -> None:
    """Podman 5 has the store in the one storage.conf, which podman 6 reads for ordinary users, too:
    it is closed to them, and all their commands would fail."""
    conf = '[storage]\ndriver = "overlay"\nrunroot = "/r"\ngraphroot = "/g"\n{}'
    theirs = '[storage.options]\nadditionalimagestores = ["/theirs"]\n'
    write(root / "admin/storage.conf", conf.format(theirs).encode())
    before = tree_of(root)
    machine = Machine(root, MIDDLE)
    machine.set_up()
    assert (stores_of_users(machine), machine.serves()) == (("/theirs",), True)
    machine.generation = NEW
    if set_up_again:
        assert machine.set_up().changes == []
    assert (stores_of_users(machine), machine.serves()) == (("/theirs",), True)
    machine.set_up(users=True)
    assert sorted(stores_of_users(machine)) == sorted(["/theirs", STORE])
    assert machine.undo() == []
    assert tree_of(root) == before


def test_what_gives_ordinary_users_the_store_still_is_told(root: Path) -> None:
    path = write(root / "admin/storage.conf.d/50-site.conf", storage_drop_in([STORE]))
    machine = Machine(root, NEW)
    assert [remark for remark in machine.set_up().remarks if str(path) in remark]
    path.unlink()
    assert not machine.set_up().remarks
    assert stores_of_users(machine) == ()
    assert machine.serves()
