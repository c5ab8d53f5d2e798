# SPDX-License-Identifier: Apache-2.0
"""The configuration that podman puts together from all its files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from podman_cvmfs.errors import InputError
from podman_cvmfs.podman.storage_conf.edit import STORES, add
from podman_cvmfs.podman.storage_conf.effective import (
    as_replaced,
    check_driver,
    driver_of,
    graphroot_of,
    other_options,
    read_effective,
    read_volumes,
    stores_of_options,
)
from podman_cvmfs.podman.storage_conf.generation import Generation
from tests.support.storage_confs import NEW, OLD, places_below, write_conf


def test_old_podman_reads_one_file_only(tmp_path: Path) -> None:
    places = places_below(tmp_path)
    assert read_effective(places, OLD).main is None
    write_conf(tmp_path / "vendor/storage.conf", "/v", driver="overlay")
    assert read_effective(places, OLD).stores == ("/v",)
    write_conf(tmp_path / "admin/storage.conf", "/a")
    write_conf(tmp_path / "admin/storage.conf.d/1.conf", "/d")
    write_conf(tmp_path / "user/storage.conf", "/u")
    found = read_effective(places, OLD)
    assert (found.stores, found.driver) == (("/a",), "")


def test_old_podman_gives_users_none_of_the_system_s_stores(tmp_path: Path) -> None:
    write_conf(tmp_path / "admin/storage.conf", "/a", driver="overlay")
    places = places_below(tmp_path, 1000, storage_opts="overlay.size=1,overlay.imagestore=/e")
    found = read_effective(places, OLD)
    assert (found.inherited, found.stores, found.driver) == (True, ("/e",), "overlay")
    write_conf(tmp_path / "user/storage.conf", "/u")
    found = read_effective(places, OLD)
    assert (found.inherited, found.stores) == (False, ("/u",))


def test_new_podman_sums_drop_ins_by_name(tmp_path: Path) -> None:
    write_conf(tmp_path / "vendor/storage.conf", "/v")
    write_conf(tmp_path / "admin/storage.conf", "/a")
    write_conf(tmp_path / "vendor/storage.conf.d/50-x.conf", "/v50", append=True)
    write_conf(tmp_path / "admin/storage.rootless.conf.d/40-x.conf", "/a40", append=True)
    write_conf(tmp_path / "admin/storage.rootless.conf.d/1000/45-x.conf", "/a45", append=True)
    write_conf(tmp_path / "admin/storage.rootful.conf.d/40-x.conf", "/root", append=True)
    write_conf(tmp_path / "user/storage.conf.d/60-x.conf", "/u60", append=True)
    write_conf(tmp_path / "elsewhere.conf", "/link", append=True)
    (tmp_path / "user/storage.conf.d/70-x.conf").symlink_to("../../elsewhere.conf")
    (tmp_path / "user/storage.conf.d/80-x.conf").symlink_to("gone")
    user = places_below(tmp_path, 1000)
    assert read_effective(user, NEW).stores == ("/a", "/a40", "/a45", "/v50", "/u60", "/link")
    assert read_effective(places_below(tmp_path), NEW).stores == (
        "/a",
        "/root",
        "/v50",
        "/u60",
        "/link",
    )
    write_conf(tmp_path / "user/storage.conf.d/50-x.conf", "/mine", append=True)
    assert read_effective(user, NEW).stores == ("/a", "/a40", "/a45", "/mine", "/u60", "/link")


def test_an_attribute_holds_for_the_files_behind(tmp_path: Path) -> None:
    """As podman 5.8.6 was seen to do it."""
    drop_ins = tmp_path / "admin/storage.conf.d"
    write_conf(drop_ins / "10.conf", "/a")
    write_conf(drop_ins / "20.conf", "/b")
    assert read_effective(places_below(tmp_path), NEW).stores == ("/b",)
    write_conf(drop_ins / "30.conf", "/c", append=True)
    write_conf(drop_ins / "40.conf", "/d")
    write_conf(drop_ins / "50.conf")
    assert read_effective(places_below(tmp_path), NEW).stores == ("/b", "/c", "/d")
    text = '[storage.options]\nadditionalimagestores = ["/e", {append=false}]\n'
    (drop_ins / "60.conf").write_text(text)
    assert read_effective(places_below(tmp_path), NEW).stores == ("/e",)


def test_a_file_named_by_the_environment_is_read_alone(tmp_path: Path) -> None:
    write_conf(tmp_path / "admin/storage.conf", "/a")
    write_conf(tmp_path / "admin/storage.conf.d/1.conf", "/d")
    write_conf(tmp_path / "mine.conf", "/m")
    for uid in (0, 1000):
        places = places_below(tmp_path, uid, storage_conf=str(tmp_path / "mine.conf"))
        assert read_effective(places, OLD).stores == ("/m",)
        assert read_effective(places, NEW).stores == ("/m",)


def test_a_file_that_the_environment_has_read_last(tmp_path: Path) -> None:
    """As podman 5.8.6 was seen to do it; earlier ones don't know it."""
    write_conf(tmp_path / "admin/storage.conf", "/a")
    write_conf(tmp_path / "admin/storage.conf.d/1.conf", "/d", append=True)
    write_conf(tmp_path / "mine.conf", "/m")
    write_conf(tmp_path / "over.conf", "/o", driver="vfs", append=True)
    over = str(tmp_path / "over.conf")
    places = places_below(tmp_path, storage_override=over)
    found = read_effective(places, NEW)
    assert (found.stores, found.driver) == (("/a", "/d", "/o"), "vfs")
    assert (found.main, found.files[-1]) == (str(tmp_path / "admin/storage.conf"), over)
    assert read_effective(places, OLD).stores == ("/a",)
    both = places_below(tmp_path, storage_conf=str(tmp_path / "mine.conf"), storage_override=over)
    assert read_effective(both, NEW).stores == ("/m", "/o")
    alone = replace(places, admin="/none")
    assert read_effective(alone, NEW).main is None
    with pytest.raises(InputError, match="CONTAINERS_STORAGE_CONF_OVERRIDE names /none"):
        read_effective(replace(places, storage_override="/none"), NEW)


def test_volumes_are_replaced_or_appended(tmp_path: Path) -> None:
    for name, text in {
        "vendor/containers.conf": 'volumes = ["/v:/v"]',
        "admin/containers.conf.d/1.conf": 'volumes = ["/a:/a", {append=true}]',
        "admin/containers.conf.d/2.conf": "tz = 'local'",
        "user/containers.conf": 'volumes = ["/u:/u"]',
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"[containers]\n{text}\n")
    assert read_volumes(places_below(tmp_path), OLD) == ["/v:/v", "/a:/a"]
    assert read_volumes(places_below(tmp_path, 1000), OLD) == ["/v:/v", "/a:/a", "/u:/u"]
    without = str(tmp_path / "user/containers.conf")
    assert read_volumes(places_below(tmp_path, 1000), OLD, without) == ["/v:/v", "/a:/a"]
    # One main file, then the drop-ins.
    assert read_volumes(places_below(tmp_path, 1000), NEW) == ["/u:/u", "/a:/a"]


def test_keys_are_read_in_any_case(tmp_path: Path) -> None:
    """As podman 4.3.1 was seen to do it."""
    places = places_below(tmp_path)
    path = tmp_path / "admin/storage.conf"
    path.write_text(
        '[Storage]\nDriver = "vfs"\nGraphRoot = "/g"\n'
        '[Storage.Options]\nAdditionalImageStores = ["/a"]\n[Storage.Options.Overlay]\n'
    )
    found = read_effective(places, OLD)
    assert (found.driver, found.stores) == ("vfs", ("/a",))
    assert graphroot_of(places, found) == "/g"
    assert driver_of(places, found) == ("vfs", f"{path} says so")


def test_podman_4_fails_on_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "admin/storage.conf"
    write_conf(path, "/a", driver="overlay")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    places = places_below(tmp_path)
    for generation in (OLD, Generation("", drop_ins=False, appends=False)):
        with pytest.raises(InputError, match="byte order mark"):
            read_effective(places, generation)
    for later in (Generation("5.4.2", drop_ins=False, appends=True), NEW):
        assert read_effective(places, later).stores == ("/a",)
    once = add("f", path.read_bytes(), STORES, ["/b"])
    assert once.startswith(b"\xef\xbb\xbf[storage]\n")


def test_a_drop_in_decides(tmp_path: Path) -> None:
    drop_ins = tmp_path / "admin/storage.conf.d"
    drop_ins.mkdir(parents=True)
    (tmp_path / "admin/storage.conf").write_text('[storage]\ngraphroot = "/main"\n')
    (drop_ins / "10.conf").write_text('[storage]\ngraphroot = "/site"\ndriver = "vfs"\n')
    places = places_below(tmp_path)
    found = read_effective(places, NEW)
    assert graphroot_of(places, found) == "/site"
    assert driver_of(places, found) == ("vfs", f"{drop_ins}/10.conf says so")
    (drop_ins / "20.conf").write_text('[storage]\ngraphroot = ""\n')
    assert graphroot_of(places, read_effective(places, NEW)) == places.graphroot


@pytest.mark.parametrize("generation", [OLD, NEW])
def test_another_driver_is_refused(tmp_path: Path, generation: Generation) -> None:
    places = places_below(tmp_path)
    check_driver(places, read_effective(places, generation))
    (tmp_path / "graph/vfs-images").mkdir()
    with pytest.raises(InputError, match=r"driver vfs .*has its images"):
        check_driver(places, read_effective(places, generation))
    write_conf(tmp_path / "admin/storage.conf", driver="overlay")
    check_driver(places, read_effective(places, generation))
    write_conf(tmp_path / "admin/storage.conf", driver="btrfs")
    with pytest.raises(InputError, match=r"driver btrfs .*says so"):
        check_driver(places, read_effective(places, generation))


@pytest.mark.parametrize("generation", [OLD, NEW])
@pytest.mark.parametrize("database", ["libpod/bolt_state.db", "db.sql"])
def test_a_database_keeps_to_the_driver_of_podman_s_first_command(
    tmp_path: Path, generation: Generation, database: str
) -> None:
    places = places_below(tmp_path)
    write_conf(tmp_path / "admin/storage.conf", driver="overlay")
    (tmp_path / "graph/vfs-images").mkdir()
    (tmp_path / "graph" / database).parent.mkdir(exist_ok=True)
    (tmp_path / "graph" / database).touch()
    with pytest.raises(InputError, match=r"driver vfs \(its database .*says so") as told:
        check_driver(places, read_effective(places, generation))
    assert (told.value.hint or "").startswith("'podman --storage-driver vfs system reset' removes")
    (tmp_path / "graph/overlay-images").mkdir()
    check_driver(places, read_effective(places, generation))


def test_stores_of_storage_opts() -> None:
    assert stores_of_options("") == []
    options = "overlay.mountopt=nodev,overlay.imagestore=/a,imagestore=/b,additionalimagestore=/c"
    assert stores_of_options(options) == ["/a", "/b", "/c"]
    assert other_options(options) == {"mountopt": "nodev"}


@pytest.mark.parametrize("generation", [OLD, NEW], ids=["old", "new"])
@pytest.mark.parametrize("uid", [0, 1000])
def test_storage_opts_set_to_nothing_replaces_all(
    tmp_path: Path, generation: Generation, uid: int
) -> None:
    unset = places_below(tmp_path, uid)
    write_conf(tmp_path / ("user" if uid else "admin") / "storage.conf", "/a", driver="overlay")
    for options, expected in ((None, (("/a",), ())), ("", ((), ("/a",)))):
        places = replace(unset, storage_opts=options)
        found, dropped = as_replaced(read_effective(places, generation), generation, places)
        assert (found.stores, dropped) == expected
