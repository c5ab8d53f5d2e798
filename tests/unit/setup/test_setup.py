# SPDX-License-Identifier: Apache-2.0
"""What set-up decides, writes, records and takes back."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from podman_cvmfs.cli import setup as setup_command
from podman_cvmfs.cli.setup import command
from podman_cvmfs.errors import InputError, PodmanCvmfsError, StoreError
from podman_cvmfs.podman.storage_conf.effective import Places, read_effective, read_volumes
from podman_cvmfs.podman.storage_conf.generation import Generation, find_generation
from podman_cvmfs.podman.storage_conf.toml_file import plain
from podman_cvmfs.repository.owners import owner_of_first
from podman_cvmfs.setup import record as records
from podman_cvmfs.setup import snippet
from podman_cvmfs.setup.changes import Change, as_diff, make
from podman_cvmfs.setup.mounts import drop_in, volumes_for
from podman_cvmfs.setup.plan import plan_setup, serves, storage_drop_in
from podman_cvmfs.setup.request import Plan, Wishes
from podman_cvmfs.setup.store import can_be_opened, ensure_store, is_store, open_store
from podman_cvmfs.setup.users import shadowed
from tests.support.cli import Target
from tests.support.many import make_repository
from tests.unit.podman.test_storage_conf import DEBIAN, FEDORA, NEW, OLD, SHAPES, STORE

MIDDLE = Generation("5.4.2", drop_ins=False, appends=True)
TOP = Path(__file__).parents[3]
CVMFS = "/cvmfs:/cvmfs:ro,rslave"

every_generation = pytest.mark.parametrize(
    "generation", [OLD, MIDDLE, NEW], ids=lambda generation: generation.version
)


def _places(root: Path, uid: int = 0, **options: str) -> Places:
    names = ("vendor", "admin", "user", "graph")
    vendor, admin, user, graph = (str(root / name) for name in names)
    return Places(uid, vendor, admin, user, graph, **options)


def _write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _tree(root: Path) -> dict[str, tuple[bytes | str | None, int]]:
    """Every path below ``root`` with its content or target, and mode."""
    found: dict[str, tuple[bytes | str | None, int]] = {}
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            found[str(path)] = (os.readlink(path), 0)
        else:
            data = path.read_bytes() if path.is_file() else None
            found[str(path)] = (data, path.stat().st_mode)
    return found


class Machine:
    """Set-up on files below one directory."""

    def __init__(self, root: Path, generation: Generation, **options: object) -> None:
        self.root = root
        self.generation = generation
        self.places = replace(_places(root), **options)  # type: ignore[arg-type]
        self.manifest = str(root.parent / f"{root.name}.state/setup.json")

    def plan(self, store: str = STORE, **wishes: object) -> Plan:
        earlier = records.load(self.manifest)
        wanted = Wishes(store, earlier=earlier, **wishes)  # type: ignore[arg-type]
        return plan_setup(self.places, self.generation, wanted, environment_files=False)

    def set_up(self, store: str = STORE, **wishes: object) -> Plan:
        plan = self.plan(store, **wishes)
        volumes = wishes.get("volumes", ())
        assert isinstance(volumes, tuple)
        records.perform(self.manifest, plan.changes, [store], volumes)
        return plan

    def undo(self) -> list[str]:
        manifest = records.load(self.manifest)
        changes, remarks = records.plan_undo(manifest)
        for change in changes:
            make(change)
        records.finish_undo(self.manifest, manifest)
        return remarks

    def serves(self, store: str = STORE) -> bool:
        return serves(self.places, self.generation, Wishes(store))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


@every_generation
@pytest.mark.parametrize("uid", [0, 1000], ids=["root", "user"])
@pytest.mark.parametrize("where", ["", "vendor", "admin", "user"])
def test_set_up_twice_and_undone(root: Path, generation: Generation, uid: int, where: str) -> None:
    if where:
        _write(root / where / "storage.conf", FEDORA)
    machine = Machine(root, generation, uid=uid)
    before = _tree(root)
    assert machine.set_up(volumes=(CVMFS,)).changes
    assert machine.serves()
    assert CVMFS in read_volumes(machine.places, generation)
    after = _tree(root)
    assert machine.set_up(volumes=(CVMFS,)).changes == []
    assert _tree(root) == after
    assert machine.undo() == []
    assert _tree(root) == before
    assert not os.path.exists(machine.manifest)


def test_old_podman_gets_the_vendor_s_file_with_one_more_line(root: Path) -> None:
    _write(root / "vendor/storage.conf", FEDORA)
    plan = Machine(root, OLD).set_up()
    assert [change.path for change in plan.changes] == [
        str(root / "admin/storage.rootless.conf.d/00-podman-cvmfs.conf"),
        str(root / "admin/storage.conf"),
        str(root / "admin/storage.rootless.conf.d/00-podman-cvmfs-stores.conf"),
    ]
    assert (
        f"{root}/admin/storage.conf takes the place of {root}/vendor/storage.conf"
        in (plan.remarks[0])
    )
    lines = (root / "admin/storage.conf").read_text().splitlines()
    assert [line for line in lines if line not in FEDORA.decode().splitlines()] == [f'"{STORE}",']
    assert (root / "vendor/storage.conf").read_bytes() == FEDORA


def test_new_podman_gets_the_shipped_drop_in(root: Path) -> None:
    _write(root / "admin/storage.conf", FEDORA)
    Machine(root, NEW).set_up()
    shipped = (TOP / "storage.conf.d/99-podman-cvmfs.conf").read_bytes()
    assert (root / "admin/storage.rootful.conf.d/99-podman-cvmfs.conf").read_bytes() == shipped
    assert shipped == storage_drop_in([STORE])
    assert plain("f", shipped) == {
        "storage": {"options": {"additionalimagestores": [STORE, {"append": True}]}}
    }
    assert (root / "admin/storage.conf").read_bytes() == FEDORA


@pytest.mark.parametrize("generation", [OLD, MIDDLE])
def test_older_podman_never_gets_what_it_can_t_parse(root: Path, generation: Generation) -> None:
    Machine(root, generation).set_up(volumes=(CVMFS,))
    assert not (root / "admin/storage.conf.d").exists()
    text = (root / "admin/containers.conf.d/99-podman-cvmfs-mounts.conf").read_text()
    assert ("append = true" in text) == generation.appends
    assert "append" not in (root / "admin/storage.conf").read_text()


@pytest.mark.parametrize("users", [False, True])
def test_a_store_in_force_already_needs_nothing(root: Path, users: bool) -> None:
    """After podman's upgrade the entry in storage.conf still serves; twice it would show twice."""
    Machine(root, OLD).set_up(users=users)
    assert Machine(root, NEW).set_up(users=users).changes == []


@every_generation
@pytest.mark.parametrize("uid", [0, 1000], ids=["root", "user"])
def test_a_store_that_is_spelt_otherwise_is_not_named_again(
    root: Path, generation: Generation, uid: int
) -> None:
    """podman would list its images twice."""
    (root / "link").symlink_to(STORE)
    for spelt in (f"{STORE}/", f"{root}/link"):
        conf = '[storage]\ndriver = "overlay"\nrunroot = "/r"\ngraphroot = "/g"\n'
        conf += f'[storage.options]\nadditionalimagestores = ["{spelt}"]\n'
        for name in ("admin", "user"):
            _write(root / name / "storage.conf", conf.encode())
        machine = Machine(root, generation, uid=uid)
        assert machine.set_up(users=True).changes == []
        assert machine.serves()


def test_options_of_this_environment_will_replace_a_user_s_new_file(root: Path) -> None:
    """Those that the system's set-up gives at login are added only where there is no such file."""
    _write(root / "admin/storage.conf", FEDORA)
    options = "overlay.imagestore=/system"
    plan = Machine(root, OLD, uid=1000, storage_opts=options).set_up()
    assert any("STORAGE_OPTS" in remark for remark in plan.remarks)


def test_another_store_takes_the_place_of_the_first(root: Path) -> None:
    for generation in (OLD, NEW):
        machine = Machine(root, generation)
        machine.set_up("/first")
        machine.set_up("/second")
        assert (machine.serves("/first"), machine.serves("/second")) == (False, True)
        machine.undo()


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
    _write(root / "admin/storage.conf", system)
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


@every_generation
def test_file_of_the_environment_alone_is_edited(root: Path, generation: Generation) -> None:
    mine = _write(root / "mine.conf", DEBIAN)
    engine = _write(root / "engine.conf", b"[containers]\nnetns = 'none'\n")
    before = _tree(root)
    options = {"storage_conf": str(mine), "containers_conf": str(engine)}
    machine = Machine(root, generation, **options)
    machine.set_up(volumes=(CVMFS,))
    assert {path for path, kept in _tree(root).items() if before.get(path) != kept} == {
        str(mine),
        str(engine),
        f"{mine}.podman-cvmfs-backup",
        f"{engine}.podman-cvmfs-backup",
    }
    assert machine.serves()
    assert machine.undo() == []
    assert _tree(root) == before


def _by_user(machine: Machine) -> tuple[str, ...]:
    """The stores that an ordinary user of podman 6 gets."""
    user = Places.of_user(4242, str(machine.root / "home"), machine.places)
    return read_effective(user, NEW).stores


@pytest.mark.parametrize("packaged", ["", "storage.conf.d", "storage.rootful.conf.d"])
def test_drop_ins_leave_ordinary_users_out_and_let_them_in(root: Path, packaged: str) -> None:
    """A package's, too, of which earlier versions had one for all."""
    _write(root / "admin/storage.conf", FEDORA)
    if packaged:
        _write(root / f"vendor/{packaged}/99-podman-cvmfs.conf", storage_drop_in([STORE]))
    before = _tree(root)
    machine = Machine(root, NEW)
    for users in (False, True, False, True, False):
        machine.set_up(users=users)
        assert machine.serves()
        assert _by_user(machine).count(STORE) == int(users)
        assert not machine.plan(users=users).changes
    assert machine.undo() == []
    assert _tree(root) == before


def _set_up_by_an_earlier_version(machine: Machine, users: bool) -> None:
    """Podman 6's drop-in for all users, which it hid from ordinary ones by one of the same name."""
    name = "99-podman-cvmfs.conf"
    files = {f"storage.conf.d/{name}": b"# Old.\n" + storage_drop_in([STORE])}
    if not users:
        files[f"storage.rootless.conf.d/{name}"] = b"# Made by 'podman-cvmfs setup': ..\n"
    changes = [Change(f"{machine.places.admin}/{each}", None, data) for each, data in files.items()]
    records.perform(machine.manifest, changes, [STORE], ())
    assert (STORE in _by_user(machine)) == users


@pytest.mark.parametrize("users", [False, True])
@pytest.mark.parametrize("wanted", [False, True])
@pytest.mark.parametrize("store", [STORE, "/other"])
def test_what_an_earlier_version_has_set_up_is_changed_over(
    root: Path, users: bool, wanted: bool, store: str
) -> None:
    _write(root / "admin/storage.conf", FEDORA)
    before = _tree(root)
    machine = Machine(root, NEW)
    _set_up_by_an_earlier_version(machine, users)
    machine.set_up(store, users=wanted)
    assert machine.serves(store)
    assert (store in _by_user(machine), _by_user(machine).count(STORE)) == (
        wanted,
        int(wanted and store == STORE),
    )
    assert not (root / "admin/storage.conf.d/99-podman-cvmfs.conf").exists()
    assert not machine.plan(store, users=wanted).changes
    assert machine.undo() == []
    assert _tree(root) == before


def test_what_the_administrator_has_added_to_an_old_drop_in_stays(root: Path) -> None:
    machine = Machine(root, NEW)
    _set_up_by_an_earlier_version(machine, users=True)
    path = root / "admin/storage.conf.d/99-podman-cvmfs.conf"
    path.write_bytes(path.read_bytes() + b'[storage.options.overlay]\nmountopt = "nodev"\n')
    machine.set_up()
    assert machine.serves() and STORE not in _by_user(machine)
    assert b"nodev" in path.read_bytes() and STORE.encode() not in path.read_bytes()


def test_a_mount_program_is_added_to_a_package_s_drop_in(root: Path) -> None:
    """Ours takes its place, so it has to name the store, too."""
    _write(root / "vendor/storage.rootful.conf.d/99-podman-cvmfs.conf", storage_drop_in([STORE]))
    machine = Machine(root, NEW)
    machine.set_up(kernel=False, mount_program="/bin/fo")
    assert machine.serves()


def test_whose_files_they_are(tmp_path: Path) -> None:
    flat = tmp_path / "second/.flat"
    flat.mkdir(parents=True)
    places = [str(tmp_path / name) for name in ("first", "second")]
    assert owner_of_first(places[:1]) is None
    assert owner_of_first(places) == (places[1], flat.stat().st_uid)


def test_overlay_is_switched(root: Path) -> None:
    fuse = DEBIAN.replace(b"#mount_program", b"mount_program")
    for generation in (OLD, NEW):
        _write(root / "admin/storage.conf", fuse)
        machine = Machine(root, generation)
        machine.set_up(kernel=True)
        places = {
            OLD: root / "admin/storage.conf",
            NEW: root / "admin/storage.rootful.conf.d/99-podman-cvmfs.conf",
        }
        overlay = plain("f", places[generation].read_bytes())["storage"]["options"]["overlay"]
        assert overlay.get("mount_program", "") == ""
        machine.set_up(kernel=False, mount_program="/bin/fo")
        overlay = plain("f", places[generation].read_bytes())["storage"]["options"]["overlay"]
        assert overlay["mount_program"] == "/bin/fo"
        machine.undo()
        assert (root / "admin/storage.conf").read_bytes() == fuse


def test_later_drop_in_that_replaces_is_told(root: Path) -> None:
    later = root / "admin/storage.conf.d/zz.conf"
    _write(later, b"[storage.options]\nadditionalimagestores = [{append=false}]\n")
    machine = Machine(root, NEW)
    plan = machine.set_up()
    assert "zz.conf is read after" in plan.remarks[0]
    assert not machine.serves()


def test_later_drop_in_that_says_nothing_adds(root: Path) -> None:
    later = root / "admin/storage.conf.d/zz.conf"
    _write(later, b'[storage.options]\nadditionalimagestores = ["/theirs"]\n')
    machine = Machine(root, NEW)
    assert not machine.set_up().remarks
    assert machine.serves()


@every_generation
def test_admin_s_volumes_stay(root: Path, generation: Generation) -> None:
    theirs = b'[containers]\nvolumes = ["/data:/data", "/cvmfs/a:/cvmfs/a"]\n'
    _write(root / "admin/containers.conf", theirs)
    machine = Machine(root, generation)
    machine.set_up(volumes=("/cvmfs/a:/cvmfs/a:ro,rslave", "/cvmfs/b:/cvmfs/b:ro,rslave"))
    wanted = ["/data:/data", "/cvmfs/a:/cvmfs/a", "/cvmfs/b:/cvmfs/b:ro,rslave"]
    assert read_volumes(machine.places, generation) == wanted


def test_broken_file_changes_nothing(root: Path) -> None:
    _write(root / "admin/storage.conf", b"[storage]\ndriver = \n")
    before = _tree(root)
    for generation in (OLD, NEW):
        with pytest.raises(InputError, match=r"admin/storage.conf:2: "):
            Machine(root, generation).set_up()
    assert _tree(root) == before


def test_link_that_leads_nowhere_is_refused(root: Path) -> None:
    (root / "admin").mkdir()
    (root / "admin/storage.conf").symlink_to("gone")
    with pytest.raises(InputError, match="leads nowhere"):
        Machine(root, OLD).set_up()


def test_link_stays_and_mode_and_owner_too(root: Path) -> None:
    target = _write(root / "managed/storage.conf", FEDORA)
    target.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(target, 1234, 4321)
    owner = (target.stat().st_uid, target.stat().st_gid)
    (root / "admin").mkdir()
    link = root / "admin/storage.conf"
    link.symlink_to("../managed/storage.conf")
    machine = Machine(root, OLD)
    machine.set_up()
    assert STORE in target.read_text() and link.is_symlink()
    for path in (target, target):
        found = path.stat()
        assert (found.st_mode & 0o7777, found.st_uid, found.st_gid) == (0o640, *owner)
        machine.undo()
    assert target.read_bytes() == FEDORA


@settings(deadline=None)
@given(st.sampled_from(sorted(SHAPES)), st.sampled_from([OLD, MIDDLE]), st.integers(1, 3))
def test_undo_restores_every_byte(shape: str, generation: Generation, times: int) -> None:
    """However often it was set up, with another store or mounts in between."""
    # Which podman 4 can't read.
    assume(shape != "byte order mark" or generation != OLD)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch, "root")
        _write(root / "admin/storage.conf", SHAPES[shape])
        machine = Machine(root, generation)
        before = _tree(root)
        for number in range(times):
            machine.set_up(f"/store{number}", volumes=(CVMFS,) * (number % 2))
        assert machine.undo() == []
        assert _tree(root) == before


def test_what_others_changed_since_is_kept(root: Path) -> None:
    path = _write(root / "admin/storage.conf", FEDORA)
    machine = Machine(root, OLD)
    machine.set_up()
    path.write_bytes(path.read_bytes() + b"# mine\n")
    (remark,) = machine.undo()
    assert "changed since" in remark
    assert path.read_bytes() == FEDORA + b"# mine\n"


def test_change_of_others_between_two_set_ups_is_kept(root: Path) -> None:
    path = _write(root / "admin/storage.conf", FEDORA)
    machine = Machine(root, OLD)
    machine.set_up()
    path.write_bytes(path.read_bytes() + b"# mine\n")
    machine.set_up("/other")
    assert machine.undo() == []
    assert path.read_bytes() == FEDORA + b"# mine\n"


def test_lost_backup_costs_only_our_entry(root: Path) -> None:
    path = _write(root / "admin/storage.conf", FEDORA)
    machine = Machine(root, OLD)
    machine.set_up()
    os.unlink(f"{path}.podman-cvmfs-backup")
    machine.set_up("/other")
    machine.undo()
    assert path.read_bytes() == FEDORA


def test_file_removed_since_stays_removed(root: Path) -> None:
    path = _write(root / "admin/storage.conf", FEDORA)
    machine = Machine(root, OLD)
    machine.set_up()
    path.unlink()
    (remark,) = machine.undo()
    assert "removed since" in remark and not path.exists()


@pytest.mark.parametrize("cut", range(8))
def test_set_up_cut_off_anywhere_can_be_undone(
    root: Path, cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(root / "admin/storage.conf", FEDORA)
    before = _tree(root)
    machine = Machine(root, OLD)
    _cut_off(machine, cut, monkeypatch)
    assert machine.undo() == []
    assert _tree(root) == before


@pytest.mark.parametrize("cut", range(4))
def test_second_set_up_cut_off_anywhere_can_be_undone(
    root: Path, cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(root / "admin/storage.conf", FEDORA)
    before = _tree(root)
    machine = Machine(root, OLD)
    machine.set_up("/first")
    _cut_off(machine, cut, monkeypatch)
    assert machine.undo() == []
    assert _tree(root) == before


def _cut_off(machine: Machine, cut: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set up with an interrupt before the file number ``cut`` is in its place."""
    left = [cut]
    real = os.replace

    def limited(source: str, target: str) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        real(source, target)

    monkeypatch.setattr(os, "replace", limited)
    with contextlib.suppress(KeyboardInterrupt):
        machine.set_up(volumes=(CVMFS,))
    monkeypatch.undo()


def test_full_disk_says_what_to_do(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(PodmanCvmfsError, match="No space left") as caught:
        make(Change(str(root / "a/file"), None, b"x"))
    assert list((root / "a").iterdir()) == []
    # It may be part of undoing.
    assert "--undo" not in (caught.value.hint or "")


def test_a_set_up_that_fails_can_be_undone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(root, OLD)
    _write(root / "admin/storage.conf", FEDORA)
    real = os.replace

    def full(source: str, target: str) -> None:
        if not target.endswith("setup.json"):
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(PodmanCvmfsError, match="No space left") as caught:
        machine.set_up()
    assert "is undone by 'podman-cvmfs setup --undo'" in (caught.value.hint or "")


def test_diff_shows_what_changes_and_no_control_characters() -> None:
    change = Change("/etc/x.conf", b"one\ntwo\x1b[2J\n", b"one\nthree\n")
    assert as_diff([change]) == (
        "--- /etc/x.conf\n+++ /etc/x.conf\n@@ -1,2 +1,2 @@\n one\n-two\\x1b[2J\n+three\n"
    )
    assert as_diff([Change("/n", None, b"a\n")]) == "--- /dev/null\n+++ /n\n@@ -0,0 +1 @@\n+a\n"


def test_foreign_record_is_refused(tmp_path: Path) -> None:
    for text in ("[]", "{", '{"version": 2}', '{"version": 1}'):
        path = _write(tmp_path / "setup.json", text.encode())
        with pytest.raises(PodmanCvmfsError, match="not a record"):
            records.load(str(path))


@pytest.mark.parametrize("shared", [False, True])
def test_store_is_made_empty_and_valid_once(tmp_path: Path, shared: bool) -> None:
    path = str(tmp_path / "deep/store")
    assert ensure_store(path, shared)
    assert is_store(path)
    modes = [os.stat(each).st_mode & 0o777 for each in (path, tmp_path / "deep")]
    assert modes == [0o755 if shared else 0o700, 0o755]
    before = _tree(tmp_path)
    assert not ensure_store(path, not shared)
    assert _tree(tmp_path) == before


def test_only_an_empty_store_is_opened_without_a_sync(tmp_path: Path) -> None:
    path = str(tmp_path / "store")
    ensure_store(path)
    assert can_be_opened(path)
    open_store(path)
    assert not can_be_opened(path)
    filled = make_repository(tmp_path / "repository", 1)
    target = Target(filled, tmp_path / "filled", tmp_path / "cache")
    target.sync("--offline")
    target.store.chmod(0o700)
    with pytest.raises(StoreError) as caught:
        can_be_opened(str(target.store))
    assert f"sync --shared --store {target.store}" in str(caught.value.hint)
    target.store.chmod(0o755)
    assert not can_be_opened(str(target.store))


def test_volumes_need_what_they_show(tmp_path: Path) -> None:
    cvmfs = str(tmp_path / "cvmfs")
    with pytest.raises(InputError, match="is not there"):
        volumes_for([], cvmfs)
    os.makedirs(f"{cvmfs}/atlas.cern.ch")
    assert volumes_for([], cvmfs) == [f"{cvmfs}:{cvmfs}:ro,rslave"]
    wanted = [f"{cvmfs}/atlas.cern.ch:{cvmfs}/atlas.cern.ch:ro,rslave"]
    assert volumes_for(["atlas.cern.ch"], cvmfs) == wanted
    assert volumes_for([f"{cvmfs}/atlas.cern.ch"], cvmfs) == wanted
    with pytest.raises(InputError, match="is not there"):
        volumes_for(["none.cern.ch"], cvmfs)
    for bad in ("..", "a/b", "a:b", "-a", "a\n"):
        with pytest.raises(InputError, match="not the name"):
            volumes_for([bad], cvmfs)


def test_shipped_drop_in_for_mounts_is_what_set_up_writes() -> None:
    shipped = TOP / "packaging/containers.conf.d/99-podman-cvmfs-mounts.conf"
    assert shipped.read_bytes() == drop_in([CVMFS], None)


USERS_STORE = ".local/share/podman-cvmfs/store"


def test_users_whose_settings_shadow_the_store_are_named(root: Path) -> None:
    homes = {
        name: root / f"home/{name}" for name in ("free", "own", "broken", "vfs", "has", "apart")
    }
    for home in homes.values():
        home.mkdir(parents=True)
    _write(root / "admin/storage.conf", DEBIAN)
    _write(homes["own"] / ".config/containers/storage.conf", DEBIAN)
    _write(homes["broken"] / ".config/containers/storage.conf", b"[")
    text = f'[storage.options]\nadditionalimagestores = ["{STORE}"]\n'
    _write(homes["has"] / ".config/containers/storage.conf", text.encode())
    text = f'[storage.options]\nadditionalimagestores = ["{homes["apart"]}/{USERS_STORE}"]\n'
    _write(homes["apart"] / ".config/containers/storage.conf", text.encode())
    (homes["vfs"] / ".local/share/containers/storage/vfs-images").mkdir(parents=True)
    lines = ["root:x:0:0::/root:/bin/sh\n", "short:x\n", "gone:x:1999:1:::/bin/sh\n"]
    lines += [
        f"{name}:x:{1000 + n}:1::{home}:/bin/sh\n" for n, (name, home) in enumerate(homes.items())
    ]
    passwd = _write(root / "passwd", "".join(lines).encode())
    told = shadowed(_places(root), OLD, STORE, str(passwd))
    assert [line.partition(":")[0] for line in told] == ["own", "broken", "vfs"]
    assert "setup --user --store" in told[0]


class Login:
    """Runs the file for login shells as an ordinary user would, with a podman of the test's."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = root / "store"
        (self.store / "overlay-images").mkdir(parents=True)
        (root / "bin").mkdir()
        _write(root / "bin/id", b"#!/bin/sh\necho 1000\n").chmod(0o755)
        self.podman(understands=False)
        os.environ["PATH"], path = f"{root}/bin:{os.environ['PATH']}", os.environ["PATH"]
        self.seen = snippet.podman_seen()
        os.environ["PATH"] = path

    def podman(self, *, understands: bool) -> None:
        said = "exit 0" if understands else "echo additionalimagestores: no >&2; exit 1"
        text = f'#!/bin/sh\ncp "$CONTAINERS_STORAGE_CONF" {self.root}/asked\n{said}\n'
        shutil.rmtree(self.root / "bin/podman", ignore_errors=True)
        _write(self.root / "bin/podman.new", text.encode()).chmod(0o755)
        os.replace(self.root / "bin/podman.new", self.root / "bin/podman")

    def options(self, shell: str = "sh", **env: str) -> str:
        profile = self.root / "profile.sh"
        profile.write_text(snippet.profile_text(str(self.store), None, self.seen))
        script = f'set -eu; . {profile}; printf %s "${{STORAGE_OPTS-unset}}"'
        done = subprocess.run(
            [shell, "-c", script],
            env={"PATH": f"{self.root}/bin:/usr/bin:/bin", "HOME": str(self.root), **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout


@pytest.fixture
def login(tmp_path: Path) -> Login:
    return Login(tmp_path)


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_login_gets_the_store(login: Login, shell: str) -> None:
    ours = f"overlay.imagestore={login.store}"
    assert login.options(shell) == ours
    assert not (login.root / "asked").exists()
    assert login.options(shell, STORAGE_OPTS="overlay.size=1") == f"overlay.size=1,{ours}"
    assert login.options(shell, STORAGE_OPTS=ours) == ours


def test_login_leaves_own_settings_alone(login: Login) -> None:
    assert login.options(CONTAINERS_STORAGE_CONF="/x") == "unset"
    assert login.options(STORAGE_DRIVER="vfs") == "unset"
    own = _write(login.root / ".config/containers/storage.conf", b"")
    assert login.options() == "unset"
    own.unlink()
    (login.root / ".local/share/containers/storage/vfs-images").mkdir(parents=True)
    assert login.options() == "unset"


def test_login_names_no_store_that_is_gone(login: Login) -> None:
    shutil.rmtree(login.store)
    assert login.options() == "unset"


def test_login_of_root_gets_nothing(login: Login) -> None:
    _write(login.root / "bin/id", b"#!/bin/sh\necho 0\n")
    assert login.options() == "unset"


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_login_after_an_upgrade_asks_podman(login: Login, shell: str) -> None:
    login.podman(understands=False)
    assert login.options(shell).startswith("overlay.imagestore=")
    assert "{append=true}" in (login.root / "asked").read_text()
    login.podman(understands=True)
    assert login.options(shell) == "unset"


def test_environment_takes_plain_paths_only() -> None:
    for path in ("/a b", "/a$b", "/a'b", "/ä"):
        with pytest.raises(InputError, match="can't be given"):
            snippet.profile_text(path, None, "")
    assert "overlay.mount_program=/bin/fo" in snippet.profile_text("/s", "/bin/fo", "")


def _fake_podman(directory: Path, script: str) -> dict[str, str]:
    _write(directory / "podman", f"#!/bin/sh\n{script}\n".encode()).chmod(0o755)
    return {"PATH": f"{directory}:/usr/bin:/bin", "HOME": "/"}


def test_podman_is_asked_what_it_understands(tmp_path: Path) -> None:
    script = """\
[ "$1" = --version ] && { echo podman version 5.5.1; exit; }
grep -q append "$CONTAINERS_STORAGE_CONF" && exit 1
exit 0"""
    found = find_generation(_fake_podman(tmp_path, script))
    assert found == Generation("5.5.1", drop_ins=False, appends=True)


def test_podman_that_can_t_start_is_told(tmp_path: Path) -> None:
    script = "[ $1 = --version ] && exit; echo broken here >&2; exit 1"
    with pytest.raises(InputError, match="broken here"):
        find_generation(_fake_podman(tmp_path, script))
    with pytest.raises(InputError, match="not in PATH"):
        find_generation({"PATH": str(tmp_path / "none"), "HOME": "/"})


def test_system_is_for_root_and_users_are_for_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    for uid, wrong in ((0, "--user"), (1000, "--system")):
        monkeypatch.setattr(os, "geteuid", lambda uid=uid: uid)
        result = CliRunner().invoke(command, [wrong])
        assert isinstance(result.exception, InputError)


@pytest.fixture
def dry(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> Callable[..., Result]:
    """Sets up for root, but only says how; the settings name ``tmp_path/store``."""
    caplog.set_level("INFO")
    (tmp_path / "config.toml").write_text(f'store = "{tmp_path}/store"\nunknown = 1\n')
    (tmp_path / "storage.conf").write_text('[storage]\ndriver = "overlay"\n')
    monkeypatch.setenv("PODMAN_CVMFS_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(tmp_path / "storage.conf"))
    monkeypatch.setattr(setup_command, "find_generation", lambda: MIDDLE)
    monkeypatch.setattr(records, "SYSTEM_MANIFEST", str(tmp_path / "setup.json"))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return lambda *args: CliRunner().invoke(command, ["--dry-run", *args])


def test_the_store_of_the_settings_is_set_up(
    dry: Callable[..., Result], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert f'+additionalimagestores = ["{tmp_path}/store"]' in dry().output
    assert caplog.messages[0].endswith("unknown setting 'unknown' ignored")
    assert f'["{tmp_path}/other"]' in dry("--store", f"{tmp_path}/other").output
    assert isinstance(dry("--store", "").exception, InputError)


def test_a_store_that_cannot_be_read_is_not_taken_for_none(
    dry: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "store").touch()
    error = dry().exception
    assert isinstance(error, StoreError)
    assert error.message == f"can't read the store {tmp_path}/store: Not a directory"


def test_undo_of_nothing_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(records, "SYSTEM_MANIFEST", str(tmp_path / "setup.json"))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    result = CliRunner().invoke(command, ["--undo"])
    assert (result.exit_code, caplog.messages) == (0, ["nothing to undo"])


@pytest.mark.parametrize("set_up_again", [False, True])
def test_ordinary_users_are_left_out_by_podman_6_too(root: Path, set_up_again: bool) -> None:
    """Podman 5 has the store in the one storage.conf, which podman 6 reads for ordinary users, too:
    it is closed to them, and all their commands would fail."""
    conf = '[storage]\ndriver = "overlay"\nrunroot = "/r"\ngraphroot = "/g"\n{}'
    theirs = '[storage.options]\nadditionalimagestores = ["/theirs"]\n'
    _write(root / "admin/storage.conf", conf.format(theirs).encode())
    before = _tree(root)
    machine = Machine(root, MIDDLE)
    machine.set_up()
    assert (_by_user(machine), machine.serves()) == (("/theirs",), True)
    machine.generation = NEW
    if set_up_again:
        assert machine.set_up().changes == []
    assert (_by_user(machine), machine.serves()) == (("/theirs",), True)
    machine.set_up(users=True)
    assert sorted(_by_user(machine)) == sorted(["/theirs", STORE])
    assert machine.undo() == []
    assert _tree(root) == before


def test_what_gives_ordinary_users_the_store_still_is_told(root: Path) -> None:
    path = _write(root / "admin/storage.conf.d/50-site.conf", storage_drop_in([STORE]))
    machine = Machine(root, NEW)
    assert [remark for remark in machine.set_up().remarks if str(path) in remark]
    path.unlink()
    assert not machine.set_up().remarks
    assert _by_user(machine) == ()
    assert machine.serves()
