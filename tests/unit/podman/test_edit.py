# SPDX-License-Identifier: Apache-2.0
"""Reading and editing storage.conf and containers.conf as distributions ship them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podman_cvmfs.errors import InputError
from podman_cvmfs.podman.storage_conf.edit import STORES, VOLUMES, add, remove, set_mount_program
from podman_cvmfs.podman.storage_conf.toml_file import plain
from tests.support.storage_confs import FEDORA, STORE, every_shape


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


def test_volumes_can_be_added_to_a_file() -> None:
    data = add("f", b"[containers]\n# none yet\n", VOLUMES, ["/cvmfs:/cvmfs:ro,rslave"])
    assert plain("f", data) == {"containers": {"volumes": ["/cvmfs:/cvmfs:ro,rslave"]}}
    assert b"# none yet\n" in data
