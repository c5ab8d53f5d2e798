# SPDX-License-Identifier: Apache-2.0
"""Graphroots, found and read: who stands on our layers."""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from podman_cvmfs.errors import InputError
from podman_cvmfs.podman.storage_conf.effective import Places
from podman_cvmfs.store.layout import link_name
from podman_cvmfs.store.records import StoreContent, StoredImage, StoredLayer
from podman_cvmfs.usage import foreign_store
from podman_cvmfs.usage.broken_layers import find_broken
from podman_cvmfs.usage.graphroots import find_graphroots
from podman_cvmfs.usage.layer_users import User, find_layer_users
from podman_cvmfs.util.foreign_file import read_bounded

BASE, MIDDLE, TOP = (letter * 64 for letter in "abc")
IMAGE = "d" * 64


def content() -> StoreContent:
    """A store of one image of three layers."""
    layers = {}
    parent = None
    for layer_id in (BASE, MIDDLE, TOP):
        layers[layer_id] = StoredLayer(layer_id, f"{layer_id}-0", parent, 1)
        parent = layer_id
    image = StoredImage(
        image_id=IMAGE,
        entry=f"{IMAGE}-0",
        repository="/r",
        source_id=IMAGE,
        published=("r/x:1",),
        top_layer=TOP,
        created="",
        manifest_digest="",
        manifest_size=1,
        config_size=1,
        view="layers",
        config_origin="cache",
        manifest_origin="genuine",
    )
    return StoreContent(images={IMAGE: image}, layers=layers)


class Graphroot:
    """A graphroot as podman leaves it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for kind in ("containers", "images", "layers"):
            (path / f"overlay-{kind}").mkdir(parents=True)
        (path / "overlay/l").mkdir(parents=True)

    def write(self, kind: str, records: object, prefix: str = "") -> None:
        text = records if isinstance(records, str) else json.dumps(records)
        (self.path / f"overlay-{kind}/{prefix}{kind}.json").write_text(text)

    def lower(self, layer: str, below: Sequence[str]) -> None:
        (self.path / "overlay" / layer).mkdir()
        text = ":".join(f"l/{each if len(each) != 64 else link_name(each)}" for each in below)
        (self.path / "overlay" / layer / "lower").write_text(text)

    def found(self) -> dict[str, list[str]]:
        references = find_layer_users(content(), [str(self.path)])
        assert not references.unreadable
        return {
            layer: [f"{user.kind} {user.name}" for user in users]
            for layer, users in references.layers.items()
        }

    def problem(self) -> str:
        (reason,) = find_layer_users(content(), [str(self.path)]).unreadable.values()
        return reason


@pytest.fixture
def graphroot(tmp_path: Path) -> Graphroot:
    return Graphroot(tmp_path / "graph")


def layer(name: str, parent: str = "") -> dict[str, Any]:
    return {"id": name, "parent": parent} if parent else {"id": name}


def test_an_empty_or_missing_graphroot_uses_nothing(graphroot: Graphroot, tmp_path: Path) -> None:
    assert graphroot.found() == {}
    for kind in ("containers", "images", "layers"):
        graphroot.write(kind, "null")
    assert graphroot.found() == {}
    assert find_layer_users(content(), [str(tmp_path / "none")]).layers == {}


@pytest.mark.parametrize("prefix", ["", "volatile-"])
def test_containers_by_name_or_id(graphroot: Graphroot, prefix: str) -> None:
    containers = [
        {"id": "1" * 64, "names": ["web"], "image": "f" * 64, "layer": "rw1"},
        {"id": "2" * 64, "image": "", "layer": "rw2"},
        {"id": "3" * 64, "names": ["else"], "image": "", "layer": "rw3"},
    ]
    graphroot.write("containers", containers, prefix)
    layers = [layer("rw1", TOP), layer("rw2", BASE), layer("rw3", "9" * 64)]
    graphroot.write("layers", layers, prefix)
    assert graphroot.found() == {TOP: ["container web"], BASE: ["container 222222222222"]}


def test_images_on_ours_and_containers_on_them(graphroot: Graphroot) -> None:
    graphroot.write("layers", [layer("own1", MIDDLE), layer("own2", "own1"), layer("rw", "own2")])
    graphroot.write("images", [{"id": "5" * 64, "names": ["localhost/mine:1"], "layer": "own2"}])
    graphroot.write("containers", [{"id": "c", "names": ["c"], "image": "5" * 64, "layer": "rw"}])
    assert graphroot.found() == {MIDDLE: ["container c", "image localhost/mine:1"]}


def test_a_tag_that_a_user_gave_to_our_image(graphroot: Graphroot) -> None:
    graphroot.write("images", [{"id": IMAGE, "names": ["localhost/tag:1"], "layer": TOP}])
    assert graphroot.found() == {TOP: ["image localhost/tag:1"]}


def test_a_layer_that_the_graphroot_has_itself_is_not_ours(graphroot: Graphroot) -> None:
    graphroot.write("layers", [layer(BASE), layer("rw", BASE)])
    graphroot.write("containers", [{"id": "c", "names": ["c"], "layer": "rw"}])
    assert graphroot.found() == {}


def test_a_container_on_a_copy_of_the_top_layer_needs_its_image(graphroot: Graphroot) -> None:
    """What podman makes for a container in a user namespace."""
    graphroot.write("layers", [layer("copy", MIDDLE), layer("rw", "copy")])
    graphroot.write("containers", [{"id": "c", "names": ["c"], "image": IMAGE, "layer": "rw"}])
    assert graphroot.found() == {MIDDLE: ["container c"], TOP: ["container c"]}


def test_what_is_mounted_counts_too(graphroot: Graphroot) -> None:
    """Made when the image was shown by its layers; now only the top is its parent."""
    graphroot.write("layers", [layer("rw", TOP)])
    graphroot.lower("rw", [TOP, MIDDLE, "SOMEBODYELSES", BASE])
    graphroot.write("containers", [{"id": "c", "names": ["c"], "layer": "rw"}])
    assert graphroot.found() == {key: ["container c"] for key in (BASE, MIDDLE, TOP)}


def test_layers_that_no_record_claims(graphroot: Graphroot) -> None:
    """A pull at work; containers whose records are in the runroot (transient_store)."""
    graphroot.write("layers", [layer("1" * 64, BASE)])
    graphroot.lower("2" * 64, [TOP])
    assert graphroot.found() == {BASE: ["layer 111111111111"], TOP: ["layer 222222222222"]}


def test_parents_in_a_circle(graphroot: Graphroot) -> None:
    graphroot.write("layers", [layer("x", "y"), layer("y", "x")])
    graphroot.lower("x", [BASE])
    graphroot.write("containers", [{"id": "c", "names": ["c"], "layer": "y"}])
    assert graphroot.found() == {BASE: ["container c"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('"text"', "not what podman writes"),
        ("[1]", "not what podman writes"),
        ('[{"id": 1}]', "not what podman writes"),
        ('[{"id": "x", "layer": ["y"]}]', "not what podman writes"),
    ],
)
def test_broken_json_is_named_and_the_rest_is_read(
    graphroot: Graphroot, text: str, message: str
) -> None:
    graphroot.write("containers", text)
    graphroot.lower("rw", [TOP])
    references = find_layer_users(content(), [str(graphroot.path)])
    (reason,) = references.unreadable.values()
    assert message in reason and "containers.json" in reason
    assert references.layers == {TOP: (User(str(graphroot.path), "layer", "rw"),)}


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _directory(path: Path) -> None:
    path.mkdir()


def _huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def _endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [_fifo, _directory, _huge, _endless])
def test_what_is_no_ordinary_file_neither_blocks_nor_fills_memory(
    graphroot: Graphroot, make: Callable[[Path], None]
) -> None:
    make(graphroot.path / "overlay-layers/layers.json")
    assert "layers.json" in graphroot.problem()


def test_names_are_shown_harmlessly() -> None:
    assert str(User("/g\n", "container", "a\x1b[2J")) == "container a\\x1b[2J in /g\\n"


def test_ten_thousand_containers_take_little_time(graphroot: Graphroot) -> None:
    ids = [f"{number:064x}" for number in range(10_000)]
    graphroot.write("containers", [{"id": i, "names": [i[-5:]], "layer": f"l{i}"} for i in ids])
    graphroot.write("layers", [layer(f"l{i}", TOP) for i in ids])
    for i in ids:
        graphroot.lower(f"l{i}", [TOP, MIDDLE, BASE])
    start = time.monotonic()
    assert len(graphroot.found()[BASE]) == 10_000
    assert time.monotonic() - start < 5


# Where graphroots are


def places(root: Path, uid: int = 0) -> Places:
    return Places(
        uid=uid,
        vendor=str(root / "usr"),
        admin=str(root / "etc"),
        user=str(root / "home/.config/containers"),
        graphroot=str(root / "var/lib"),
    )


def make(path: Path) -> str:
    (path / "overlay-layers").mkdir(parents=True)
    return str(path)


@pytest.fixture
def passwd(tmp_path: Path) -> str:
    path = tmp_path / "passwd"
    lines = ["root:x:0:0::/root:/bin/sh", f"ann:x:1001:1001::{tmp_path}/ann:/bin/sh", "broken"]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def conf(path: Path, **values: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
    path.write_text("[storage]\n" + lines)


def test_roots_and_users_graphroots(tmp_path: Path, passwd: str) -> None:
    default = make(tmp_path / "var/lib")
    other = make(tmp_path / "big/graph")
    images = make(tmp_path / "big/images")
    conf(tmp_path / "etc/storage.conf", graphroot=other, imagestore=images)
    home = make(tmp_path / "ann/.local/share/containers/storage")
    scratch = make(tmp_path / "scratch/1001/ann")
    conf(
        tmp_path / "ann/.config/containers/storage.conf",
        rootless_storage_path=f"{tmp_path}/scratch/$UID/${{USER}}",
    )
    named = make(tmp_path / "named")
    found = find_graphroots([named], places(tmp_path), passwd, "/none")
    assert set(found.own) == {named, default, other, images}
    assert set(found.others) == {home, scratch}
    assert not found.unseen


def test_drop_ins_are_read(tmp_path: Path, passwd: str) -> None:
    other = make(tmp_path / "big/graph")
    conf(tmp_path / "etc/storage.conf.d/10-big.conf", graphroot=other)
    assert find_graphroots([], places(tmp_path), passwd, "/none").own == [other]


def test_cri_o_has_roots_of_its_own(tmp_path: Path, passwd: str) -> None:
    root, images = make(tmp_path / "srv/crio"), make(tmp_path / "srv/images")
    crio = tmp_path / "crio"
    (crio / "crio.conf.d").mkdir(parents=True)
    (crio / "crio.conf").write_text(f'[crio]\nroot = "{root}"\n')
    (crio / "crio.conf.d/10-images").write_text(f'[crio]\nimagestore = "{images}"\n')
    find = functools.partial(find_graphroots, [], passwd=passwd, subuid="/none", crio=str(crio))
    assert find(places(tmp_path)).own == [root, images]
    # CRI-O runs as root.
    assert not find(places(tmp_path, 1001)).own
    (crio / "crio.conf").write_text("[crio")
    assert find(places(tmp_path)).own_unseen == (str(crio),)


def test_a_broken_storage_conf_is_told(tmp_path: Path, passwd: str) -> None:
    mine = tmp_path / "etc/storage.conf"
    hers = tmp_path / "ann/.config/containers/storage.conf"
    for path in (mine, hers):
        conf(path)
    hers.write_text("[storage")
    found = find_graphroots([], places(tmp_path), passwd, "/none")
    assert set(found.unseen) == {str(hers)} and not found.own_unseen
    mine.write_text("[storage")
    assert find_graphroots([], places(tmp_path), passwd, "/none").own_unseen == (str(mine),)
    hers.unlink()
    os.mkfifo(hers)
    assert (
        "not a regular file"
        in find_graphroots([], places(tmp_path), passwd, "/none").unseen[str(hers)]
    )


def test_users_of_a_directory_service_are_known_from_subuid(tmp_path: Path, passwd: str) -> None:
    subuid = tmp_path / "subuid"
    subuid.write_text("nobody:100000:65536\nno-such-user:1:1\n65534:1:1\n" + "9" * 30 + ":1:1\n")
    find_graphroots([], places(tmp_path), passwd, str(subuid))


def test_a_named_directory_must_be_a_graphroot(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no graphroot"):
        find_graphroots([str(tmp_path)], places(tmp_path))


@pytest.fixture
def hanging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A graphroot whose files can be opened and never read: a reader that sleeps stands for its
    file system."""
    path = tmp_path / "hanging"

    def wait(name: str, limit: int) -> bytes:
        if name.startswith(f"{path}/"):
            time.sleep(1000)
        return read_bounded(name, limit)

    monkeypatch.setattr("podman_cvmfs.usage.foreign_store.read_bounded", wait)
    monkeypatch.setattr(foreign_store, "SECONDS", 0.5)
    return path


def test_a_graphroot_that_never_answers_costs_its_time(tmp_path: Path, hanging: Path) -> None:
    graphroot = Graphroot(tmp_path / "answers")
    graphroot.write("containers", [{"id": "c1", "layer": "own", "image": IMAGE}])
    Graphroot(hanging).write("containers", [])
    started = time.monotonic()
    uses = find_layer_users(content(), [str(hanging), str(graphroot.path)])
    assert time.monotonic() - started < 10
    assert [user.graphroot for user in uses.layers[TOP]] == [str(graphroot.path)]
    slow = {str(hanging): "reading it takes more than 0.5 seconds"}
    assert uses.unreadable == slow
    assert find_broken([str(hanging), str(graphroot.path)]).unreadable == slow
