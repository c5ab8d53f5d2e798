# SPDX-License-Identifier: Apache-2.0
"""Reading and editing storage.conf and containers.conf as distributions ship them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podman_cvmfs.errors import InputError
from podman_cvmfs.podman.storage_conf.edit import STORES, VOLUMES, add, remove, set_mount_program
from podman_cvmfs.podman.storage_conf.effective import (
    Places,
    check_driver,
    driver_of,
    graphroot_of,
    read_effective,
    read_volumes,
    stores_of_options,
)
from podman_cvmfs.podman.storage_conf.generation import Generation
from podman_cvmfs.podman.storage_conf.toml_file import plain

OLD = Generation("4.3.1", drop_ins=False, appends=False)
NEW = Generation("6.0.0", drop_ins=True, appends=True)
STORE = "/var/lib/podman-cvmfs/store"

#: In the manner of Fedora: long comments, one more store, a table behind.
FEDORA = b"""\
# This file is the configuration file for all tools
# that use the containers/storage library.

[storage]

# Default storage driver, must be set for proper operation.
driver = "overlay"

runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"

# Transient store mode
# transient_store = true

[storage.options]
# Storage options to be passed to underlying storage drivers

additionalimagestores = [
"/usr/lib/containers/storage",  # from packages
]

# Inodes is used to set a maximum inodes of the container image.
# inodes = ""

[storage.options.overlay]
mountopt = "nodev,metacopy=on"

[storage.options.thinpool]
# Storage Options for thinpool
"""
#: In the manner of Debian's example: the key is there, commented out.
DEBIAN = b"""\
[storage]
driver = "overlay"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"

[storage.options]
#additionalimagestores = [
#]

[storage.options.overlay]
#mount_program = "/usr/bin/fuse-overlayfs"
mountopt = "nodev"
"""
SHAPES = {
    "fedora": FEDORA,
    "debian": DEBIAN,
    "empty": b"",
    "no newline": b'[storage]\ndriver = "overlay"',
    "byte order mark": b"\xef\xbb\xbf" + DEBIAN,
    "carriage returns": FEDORA.replace(b"\n", b"\r\n"),
    "one line": b'[storage.options]\nadditionalimagestores = ["/a", "/b"] # mine\n',
    "dotted": b'storage.driver = "overlay"\nstorage.options.size = "1G"\n',
    "tail first": b'[storage.options.overlay]\nmountopt = "x"\n[storage]\ndriver = "overlay"\n',
    "no options": b'[storage]\ndriver = "overlay"\n[other]\nkey = 1\n',
    "empty array": b"[storage.options]\nadditionalimagestores = [\n]\n",
    "appending": b'[storage.options]\nadditionalimagestores = ["/a", {append=true}]\n',
}

every_shape = pytest.mark.parametrize("data", SHAPES.values(), ids=list(SHAPES))


def _stores(data: bytes) -> list[object]:
    found = plain("f", data).get("storage", {}).get("options", {})
    return list(found.get("additionalimagestores", []))


@every_shape
def test_adding_keeps_every_line_and_setting(data: bytes) -> None:
    result = add("f", data, STORES, [STORE])
    before, after = plain("f", data), plain("f", result)
    assert _stores(result) == [*_stores(data), STORE]
    after["storage"]["options"].pop("additionalimagestores")
    before.setdefault("storage", {}).setdefault("options", {}).pop("additionalimagestores", None)
    assert after == before
    lines = result.decode().splitlines()
    for line in data.decode().splitlines():
        assert line in lines or "[" in line or '"/' in line


@every_shape
def test_adding_twice_is_adding_once(data: bytes) -> None:
    once = add("f", data, STORES, [STORE])
    assert add("f", once, STORES, [STORE]) == once


@every_shape
def test_removing_leaves_what_was_there(data: bytes) -> None:
    result = remove("f", add("f", data, STORES, [STORE]), STORES, [STORE])
    assert _stores(result) == _stores(data)
    assert result.count(b"#") == data.count(b"#")


def test_fedora_s_file_gets_one_line() -> None:
    result = add("f", FEDORA, STORES, [STORE])
    wanted = FEDORA.replace(
        b'"/usr/lib/containers/storage",  # from packages\n',
        b'"/usr/lib/containers/storage",  # from packages\n"%s",\n' % STORE.encode(),
    )
    assert result == wanted
    assert remove("f", result, STORES, [STORE]) == FEDORA


_NAMES = st.from_regex(r"/[a-z]{1,8}(/[a-z0-9.-]{1,8}){0,3}", fullmatch=True)
_COMMENTS = st.from_regex(r"# [a-z =\[\]\"]{0,20}", fullmatch=True)


@st.composite
def _files(draw: st.DrawFn) -> bytes:
    """A storage.conf with comments anywhere, its tables in the usual order."""
    stores = draw(st.lists(_NAMES, unique=True, max_size=3))
    lines = []

    def comment() -> None:
        lines.extend(draw(st.lists(_COMMENTS | st.just(""), max_size=2)))

    comment()
    if draw(st.booleans()):
        lines.append("[storage]")
        comment()
        lines.append('driver = "overlay"')
    comment()
    lines.append("[storage.options]")
    comment()
    kind = draw(st.sampled_from(["none", "line", "lines", "comma"]))
    if kind == "line":
        lines.append(f"additionalimagestores = {stores!r}".replace("'", '"'))
    elif kind != "none":
        lines.append("additionalimagestores = [")
        for number, store in enumerate(stores):
            last = number == len(stores) - 1 and kind == "lines"
            lines.append(draw(st.sampled_from(["", "  "])) + f'"{store}"' + ("" if last else ","))
        lines.append("]")
    comment()
    if draw(st.booleans()):
        lines += ["[storage.options.overlay]", 'mountopt = "nodev"']
    comment()
    return ("\n".join(lines) + "\n").encode()


@settings(deadline=None)
@given(_files(), _NAMES)
def test_editing_any_file_is_idempotent_and_can_be_taken_back(data: bytes, store: str) -> None:
    present = _stores(data)
    once = add("f", data, STORES, [store])
    assert _stores(once) == present + ([] if store in present else [store])
    assert add("f", once, STORES, [store]) == once
    assert once.count(b"#") == data.count(b"#")
    if store not in present:
        assert _stores(remove("f", once, STORES, [store])) == present


def test_a_file_that_would_be_damaged_is_refused() -> None:
    with pytest.raises(InputError, match="can't edit f"):
        add("f", b'storage = {driver = "overlay"}\n', STORES, [STORE])


@pytest.mark.parametrize(
    "data, where",
    [
        (b'[storage]\ndriver = "overlay"\ngraphroot = /var\n', "f:3: "),
        (b"[storage\n", "f:1: "),
        (b"[storage]\n\xff\n", "f:2: not UTF-8"),
        (b'storage = "x"\n', "f: storage is not a table"),
        (b'[storage.options]\nadditionalimagestores = "/a"\n', "f: .*not an array"),
        (b"[storage]\ndriver = 'a'\ndriver = 'b'\n", "f"),
    ],
)
def test_broken_files_are_named_with_the_line(data: bytes, where: str) -> None:
    with pytest.raises(InputError, match=where) as caught:
        add("f", data, STORES, [STORE])
    assert "nothing has been changed" in (caught.value.hint or "")


def test_mount_program_is_set_and_taken_out() -> None:
    fuse = set_mount_program("f", FEDORA, "/usr/bin/fuse-overlayfs")
    overlay = plain("f", fuse)["storage"]["options"]["overlay"]
    assert overlay == {"mountopt": "nodev,metacopy=on", "mount_program": "/usr/bin/fuse-overlayfs"}
    assert plain("f", set_mount_program("f", fuse, None)) == plain("f", FEDORA)
    assert set_mount_program("f", FEDORA, None) == FEDORA
    off = plain("f", set_mount_program("f", fuse, ""))["storage"]["options"]
    assert off["mount_program"] == "" and off["overlay"]["mount_program"] == ""


def _places(root: Path, uid: int = 0, **options: str) -> Places:
    names = ("vendor", "admin", "user", "graph")
    for name in names:
        (root / name).mkdir(exist_ok=True)
    vendor, admin, user, graph = (str(root / name) for name in names)
    return Places(uid, vendor, admin, user, graph, **options)


def _conf(path: Path, *stores: str, driver: str = "", append: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    items = [f'"{store}"' for store in stores] + (["{append=true}"] if append else [])
    head = f'[storage]\ndriver = "{driver}"\n' if driver else ""
    path.write_text(f"{head}[storage.options]\nadditionalimagestores = [{', '.join(items)}]\n")


def test_old_podman_reads_one_file_only(tmp_path: Path) -> None:
    places = _places(tmp_path)
    assert read_effective(places, OLD).main is None
    _conf(tmp_path / "vendor/storage.conf", "/v", driver="overlay")
    assert read_effective(places, OLD).stores == ("/v",)
    _conf(tmp_path / "admin/storage.conf", "/a")
    _conf(tmp_path / "admin/storage.conf.d/1.conf", "/d")
    _conf(tmp_path / "user/storage.conf", "/u")
    found = read_effective(places, OLD)
    assert (found.stores, found.driver) == (("/a",), "")


def test_old_podman_gives_users_none_of_the_system_s_stores(tmp_path: Path) -> None:
    _conf(tmp_path / "admin/storage.conf", "/a", driver="overlay")
    places = _places(tmp_path, 1000, storage_opts="overlay.size=1,overlay.imagestore=/e")
    found = read_effective(places, OLD)
    assert (found.inherited, found.stores, found.driver) == (True, ("/e",), "overlay")
    _conf(tmp_path / "user/storage.conf", "/u")
    found = read_effective(places, OLD)
    assert (found.inherited, found.stores) == (False, ("/u",))


def test_new_podman_sums_drop_ins_by_name(tmp_path: Path) -> None:
    _conf(tmp_path / "vendor/storage.conf", "/v")
    _conf(tmp_path / "admin/storage.conf", "/a")
    _conf(tmp_path / "vendor/storage.conf.d/50-x.conf", "/v50", append=True)
    _conf(tmp_path / "admin/storage.rootless.conf.d/40-x.conf", "/a40", append=True)
    _conf(tmp_path / "admin/storage.rootless.conf.d/1000/45-x.conf", "/a45", append=True)
    _conf(tmp_path / "admin/storage.rootful.conf.d/40-x.conf", "/root", append=True)
    _conf(tmp_path / "user/storage.conf.d/60-x.conf", "/u60", append=True)
    _conf(tmp_path / "elsewhere.conf", "/link", append=True)
    (tmp_path / "user/storage.conf.d/70-x.conf").symlink_to("../../elsewhere.conf")
    (tmp_path / "user/storage.conf.d/80-x.conf").symlink_to("gone")
    user = _places(tmp_path, 1000)
    assert read_effective(user, NEW).stores == ("/a", "/a40", "/a45", "/v50", "/u60", "/link")
    assert read_effective(_places(tmp_path), NEW).stores == ("/a", "/root", "/v50", "/u60", "/link")
    _conf(tmp_path / "user/storage.conf.d/50-x.conf", "/mine", append=True)
    assert read_effective(user, NEW).stores == ("/a", "/a40", "/a45", "/mine", "/u60", "/link")


def test_an_attribute_holds_for_the_files_behind(tmp_path: Path) -> None:
    """As podman 5.8.6 was seen to do it."""
    drop_ins = tmp_path / "admin/storage.conf.d"
    _conf(drop_ins / "10.conf", "/a")
    _conf(drop_ins / "20.conf", "/b")
    assert read_effective(_places(tmp_path), NEW).stores == ("/b",)
    _conf(drop_ins / "30.conf", "/c", append=True)
    _conf(drop_ins / "40.conf", "/d")
    _conf(drop_ins / "50.conf")
    assert read_effective(_places(tmp_path), NEW).stores == ("/b", "/c", "/d")
    text = '[storage.options]\nadditionalimagestores = ["/e", {append=false}]\n'
    (drop_ins / "60.conf").write_text(text)
    assert read_effective(_places(tmp_path), NEW).stores == ("/e",)


def test_a_file_named_by_the_environment_is_read_alone(tmp_path: Path) -> None:
    _conf(tmp_path / "admin/storage.conf", "/a")
    _conf(tmp_path / "admin/storage.conf.d/1.conf", "/d")
    _conf(tmp_path / "mine.conf", "/m")
    for uid in (0, 1000):
        places = _places(tmp_path, uid, storage_conf=str(tmp_path / "mine.conf"))
        assert read_effective(places, OLD).stores == ("/m",)
        assert read_effective(places, NEW).stores == ("/m",)


def test_a_file_that_the_environment_has_read_last(tmp_path: Path) -> None:
    """As podman 5.8.6 was seen to do it; earlier ones don't know it."""
    _conf(tmp_path / "admin/storage.conf", "/a")
    _conf(tmp_path / "admin/storage.conf.d/1.conf", "/d", append=True)
    _conf(tmp_path / "mine.conf", "/m")
    _conf(tmp_path / "over.conf", "/o", driver="vfs", append=True)
    over = str(tmp_path / "over.conf")
    places = _places(tmp_path, storage_override=over)
    found = read_effective(places, NEW)
    assert (found.stores, found.driver) == (("/a", "/d", "/o"), "vfs")
    assert (found.main, found.files[-1]) == (str(tmp_path / "admin/storage.conf"), over)
    assert read_effective(places, OLD).stores == ("/a",)
    both = _places(tmp_path, storage_conf=str(tmp_path / "mine.conf"), storage_override=over)
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
    assert read_volumes(_places(tmp_path), OLD) == ["/v:/v", "/a:/a"]
    assert read_volumes(_places(tmp_path, 1000), OLD) == ["/v:/v", "/a:/a", "/u:/u"]
    without = str(tmp_path / "user/containers.conf")
    assert read_volumes(_places(tmp_path, 1000), OLD, without) == ["/v:/v", "/a:/a"]
    # One main file, then the drop-ins.
    assert read_volumes(_places(tmp_path, 1000), NEW) == ["/u:/u", "/a:/a"]


def test_keys_are_read_in_any_case(tmp_path: Path) -> None:
    """As podman 4.3.1 was seen to do it."""
    places = _places(tmp_path)
    path = tmp_path / "admin/storage.conf"
    path.write_text(
        '[Storage]\nDriver = "vfs"\nGraphRoot = "/g"\n'
        '[Storage.Options]\nAdditionalImageStores = ["/a"]\n[Storage.Options.Overlay]\n'
    )
    found = read_effective(places, OLD)
    assert (found.driver, found.stores) == ("vfs", ("/a",))
    assert graphroot_of(places, found) == "/g"
    assert driver_of(places, found) == ("vfs", f"{path} says so")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('[storage.options]\nAdditionalImageStores = ["/a"]\n', "AdditionalImageStores"),
        ('[Storage]\ndriver = "overlay"\n', "Storage"),
        ("[storage.Options]\n", "Options"),
    ],
)
def test_no_key_is_written_beside_itself(text: str, name: str) -> None:
    for edit in (add, remove):
        with pytest.raises(InputError, match=f"it spells .* as {name}"):
            edit("f", text.encode(), STORES, [STORE])
    assert add("f", b'[storage]\nDriver = "overlay"\n', STORES, [STORE])
    with pytest.raises(InputError, match="it spells mount_program as Mount_program"):
        set_mount_program("f", b'[storage.options.overlay]\nMount_program = "/f"\n', None)


def test_podman_4_fails_on_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "admin/storage.conf"
    _conf(path, "/a", driver="overlay")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    places = _places(tmp_path)
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
    places = _places(tmp_path)
    found = read_effective(places, NEW)
    assert graphroot_of(places, found) == "/site"
    assert driver_of(places, found) == ("vfs", f"{drop_ins}/10.conf says so")
    (drop_ins / "20.conf").write_text('[storage]\ngraphroot = ""\n')
    assert graphroot_of(places, read_effective(places, NEW)) == places.graphroot


@pytest.mark.parametrize("generation", [OLD, NEW])
def test_another_driver_is_refused(tmp_path: Path, generation: Generation) -> None:
    places = _places(tmp_path)
    check_driver(places, read_effective(places, generation))
    (tmp_path / "graph/vfs-images").mkdir()
    with pytest.raises(InputError, match=r"driver vfs .*holds its images"):
        check_driver(places, read_effective(places, generation))
    _conf(tmp_path / "admin/storage.conf", driver="overlay")
    check_driver(places, read_effective(places, generation))
    _conf(tmp_path / "admin/storage.conf", driver="btrfs")
    with pytest.raises(InputError, match=r"driver btrfs .*says so"):
        check_driver(places, read_effective(places, generation))


def test_stores_of_storage_opts() -> None:
    assert stores_of_options("") == []
    options = "overlay.mountopt=nodev,overlay.imagestore=/a,imagestore=/b"
    assert stores_of_options(options) == ["/a", "/b"]


def test_volumes_can_be_added_to_a_file() -> None:
    data = add("f", b"[containers]\n# none yet\n", VOLUMES, ["/cvmfs:/cvmfs:ro,rslave"])
    assert plain("f", data) == {"containers": {"volumes": ["/cvmfs:/cvmfs:ro,rslave"]}}
    assert b"# none yet\n" in data
