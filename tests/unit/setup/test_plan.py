# SPDX-License-Identifier: Apache-2.0
"""Set-up plans and writes the files of each podman."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from podman_cvmfs.errors import InputError
from podman_cvmfs.podman.storage_conf.effective import read_effective, read_volumes
from podman_cvmfs.podman.storage_conf.generation import Generation
from podman_cvmfs.podman.storage_conf.toml_file import plain
from podman_cvmfs.repository.owners import owner_of_first
from podman_cvmfs.setup.plan import storage_drop_in
from tests.support.set_up import CVMFS, MIDDLE, Machine, every_generation, tree_of, write
from tests.support.storage_confs import DEBIAN, FEDORA, NEW, OLD, STORE

TOP = Path(__file__).parents[3]


@every_generation
@pytest.mark.parametrize("uid", [0, 1000], ids=["root", "user"])
@pytest.mark.parametrize("where", ["", "vendor", "admin", "user"])
def test_set_up_twice_and_undone(root: Path, generation: Generation, uid: int, where: str) -> None:
    if where:
        write(root / where / "storage.conf", FEDORA)
    machine = Machine(root, generation, uid=uid)
    before = tree_of(root)
    assert machine.set_up(volumes=(CVMFS,)).changes
    assert machine.serves()
    assert CVMFS in read_volumes(machine.places, generation)
    after = tree_of(root)
    assert machine.set_up(volumes=(CVMFS,)).changes == []
    assert tree_of(root) == after
    assert machine.undo() == []
    assert tree_of(root) == before
    assert not os.path.exists(machine.manifest)


def test_old_podman_gets_the_vendor_s_file_with_one_more_line(root: Path) -> None:
    write(root / "vendor/storage.conf", FEDORA)
    plan = Machine(root, OLD).set_up()
    assert [change.path for change in plan.changes] == [
        str(root / "admin/storage.rootless.conf.d/00-podman-cvmfs.conf"),
        str(root / "admin/storage.conf"),
        str(root / "admin/storage.rootless.conf.d/00-podman-cvmfs-stores.conf"),
    ]
    assert f"{root}/admin/storage.conf replaces {root}/vendor/storage.conf" in (plan.remarks[0])
    lines = (root / "admin/storage.conf").read_text().splitlines()
    assert [line for line in lines if line not in FEDORA.decode().splitlines()] == [f'"{STORE}",']
    assert (root / "vendor/storage.conf").read_bytes() == FEDORA


def test_new_podman_gets_the_shipped_drop_in(root: Path) -> None:
    write(root / "admin/storage.conf", FEDORA)
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
            write(root / name / "storage.conf", conf.encode())
        machine = Machine(root, generation, uid=uid)
        assert machine.set_up(users=True).changes == []
        assert machine.serves()


def test_options_of_this_environment_will_replace_a_user_s_new_file(root: Path) -> None:
    """Those that the system's set-up gives at login are added only where there is no such file."""
    write(root / "admin/storage.conf", FEDORA)
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


@every_generation
def test_file_of_the_environment_alone_is_edited(root: Path, generation: Generation) -> None:
    mine = write(root / "mine.conf", DEBIAN)
    engine = write(root / "engine.conf", b"[containers]\nnetns = 'none'\n")
    before = tree_of(root)
    options = {"storage_conf": str(mine), "containers_conf": str(engine)}
    machine = Machine(root, generation, **options)
    machine.set_up(volumes=(CVMFS,))
    assert {path for path, kept in tree_of(root).items() if before.get(path) != kept} == {
        str(mine),
        str(engine),
        f"{mine}.podman-cvmfs-backup",
        f"{engine}.podman-cvmfs-backup",
    }
    assert machine.serves()
    assert machine.undo() == []
    assert tree_of(root) == before


def test_a_mount_program_is_added_to_a_package_s_drop_in(root: Path) -> None:
    """Ours takes its place, so it has to name the store, too."""
    write(root / "vendor/storage.rootful.conf.d/99-podman-cvmfs.conf", storage_drop_in([STORE]))
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
        write(root / "admin/storage.conf", fuse)
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


@pytest.mark.parametrize("generation", [OLD, NEW], ids=["old", "new"])
@pytest.mark.parametrize(
    ("present", "after"),
    [
        (b"", "metacopy=on"),
        (b'mountopt = "nodev"', "nodev,metacopy=on"),
        (b'mountopt = "nodev,metacopy=on"', "nodev,metacopy=on"),
    ],
)
def test_podman_is_made_to_commit_as_the_exact_view_needs(
    root: Path, generation: Generation, present: bytes, after: str
) -> None:
    conf = root / "admin/storage.conf"
    before = DEBIAN.replace(b'mountopt = "nodev"', present)
    write(conf, before)
    machine = Machine(root, generation)
    machine.set_up()
    assert _mount_options(machine) == (present.partition(b'"')[2].decode().rstrip('"'))
    machine.set_up(exact=True)
    assert _mount_options(machine) == after
    machine.undo()
    assert conf.read_bytes() == before


def _mount_options(machine: Machine) -> str:
    """Those in force."""
    return read_effective(machine.places, machine.generation).options.get("mountopt", "")


def test_later_drop_in_that_replaces_is_told(root: Path) -> None:
    later = root / "admin/storage.conf.d/zz.conf"
    write(later, b"[storage.options]\nadditionalimagestores = [{append=false}]\n")
    machine = Machine(root, NEW)
    plan = machine.set_up()
    assert "zz.conf is read after" in plan.remarks[0]
    assert not machine.serves()


def test_later_drop_in_that_says_nothing_adds(root: Path) -> None:
    later = root / "admin/storage.conf.d/zz.conf"
    write(later, b'[storage.options]\nadditionalimagestores = ["/theirs"]\n')
    machine = Machine(root, NEW)
    assert not machine.set_up().remarks
    assert machine.serves()


@every_generation
def test_admin_s_volumes_stay(root: Path, generation: Generation) -> None:
    theirs = b'[containers]\nvolumes = ["/data:/data", "/cvmfs/a:/cvmfs/a"]\n'
    write(root / "admin/containers.conf", theirs)
    machine = Machine(root, generation)
    machine.set_up(volumes=("/cvmfs/a:/cvmfs/a:ro,rslave", "/cvmfs/b:/cvmfs/b:ro,rslave"))
    wanted = ["/data:/data", "/cvmfs/a:/cvmfs/a", "/cvmfs/b:/cvmfs/b:ro,rslave"]
    assert read_volumes(machine.places, generation) == wanted


def test_broken_file_changes_nothing(root: Path) -> None:
    write(root / "admin/storage.conf", b"[storage]\ndriver = \n")
    before = tree_of(root)
    for generation in (OLD, NEW):
        with pytest.raises(InputError, match=r"admin/storage.conf:2: "):
            Machine(root, generation).set_up()
    assert tree_of(root) == before


def test_link_that_leads_nowhere_is_refused(root: Path) -> None:
    (root / "admin").mkdir()
    (root / "admin/storage.conf").symlink_to("gone")
    with pytest.raises(InputError, match="link to a missing file"):
        Machine(root, OLD).set_up()
