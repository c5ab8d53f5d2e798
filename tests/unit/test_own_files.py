# SPDX-License-Identifier: Apache-2.0
"""FILES.md tells every key of the files that only we read, and no other."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import podman_cvmfs
from podman_cvmfs.cache.list_copies import ListCopy, copy_path, keep_copy, read_copy
from podman_cvmfs.errors import InputError, PodmanCvmfsError, RepositoryError, StoreError
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.podman import composefs
from podman_cvmfs.podman.storage_conf import generation
from podman_cvmfs.podman.storage_conf.places import Places
from podman_cvmfs.profiles.profile import Profile, Use, parse_profile, render_profile
from podman_cvmfs.publish.open_repository import OpenRepository
from podman_cvmfs.publish.ownership import PublishedRecord, read_record
from podman_cvmfs.repository.whiteouts import Markers, from_json
from podman_cvmfs.settings.sharing import reads_drop_ins
from podman_cvmfs.setup import record
from podman_cvmfs.setup.changes import Change
from podman_cvmfs.store import layout
from podman_cvmfs.store.json_files import image_state, layer_state, state_json
from podman_cvmfs.store.reader import read_store
from podman_cvmfs.store.records import StoreContent, StoredImage, StoredLayer
from podman_cvmfs.sync.new_stamp import Stamp
from podman_cvmfs.sync.stamp import is_current, last_report, stamp_path
from tests.support.stores import Spoilt, small_repository

FILES = Path(podman_cvmfs.__file__).parent / "FILES.md"
_ROW = re.compile(r"\| `(?P<key>[^`]+)` \| (?P<meaning>.+) \| (?P<absent>.+) \|\Z")

#: Each with a value that isn't the one by default.
LAYER = StoredLayer(
    "b" * 64,
    "entry",
    None,
    1,
    shows="c" * 64,
    merged=True,
    alone=True,
    outdated=True,
    repository="/r",
    twin="d" * 64,
    retired=1,
    lowers=("e" * 64,),
)
IMAGE = StoredImage(
    "a" * 64,
    "entry",
    "/r",
    "b" * 64,
    ("one:1", "two:1"),
    None,
    "2020-01-01T00:00:00Z",
    str(Digest.of(b"")),
    1,
    1,
    "flat",
    "cache",
    "genuine",
    platform="amd64",
    sources=("b" * 64, "c" * 64),
    outdated=True,
)


@cache
def told() -> Mapping[str, Mapping[str, tuple[str, str]]]:
    """Heading -> key -> its meaning, and what its absence means, of each table of keys."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    rows: dict[str, tuple[str, str]] = {}
    is_of_keys = False
    for line in FILES.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            rows = found.setdefault(line.lstrip("# "), {})
        if line.startswith("|"):
            is_of_keys = is_of_keys or line.startswith("| key |")
            row = _ROW.match(line)
            if is_of_keys and row:
                assert row["key"] not in rows
                rows[row["key"]] = row["meaning"], row["absent"]
            else:
                assert not is_of_keys or line.startswith(("| key |", "|---")), line
        else:
            is_of_keys = False
    return {heading: rows for heading, rows in found.items() if rows}


def check(heading: str, written: Mapping[str, Any]) -> None:
    rows = told()[heading]
    assert rows.keys() == written.keys()
    for key in ("format", "version"):
        assert key not in written or f"`{written[key]}`" in rows[key][0]


def test_every_table_is_looked_at_here() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    assert len(told()) > 6
    assert [heading for heading in told() if f'check("{heading}"' not in source] == []


def test_state() -> None:
    check("`state.json`", json.loads(state_json(StoreContent())))
    check("Of a layer in `state.json`", layer_state(LAYER))
    check("Of an image in `state.json`", image_state(IMAGE))


def _without(path: Path, document: dict[str, Any], table: dict[str, Any], key: str) -> bool:
    """Write the ``document`` without the ``key`` of a table in it; whether the table had it."""
    if key not in table:
        return False
    value = table.pop(key)
    path.write_text(json.dumps(document))
    table[key] = value
    return True


@pytest.mark.parametrize(
    ("heading", "kind"),
    [
        ("`state.json`", ""),
        ("Of a layer in `state.json`", "layers"),
        ("Of an image in `state.json`", "images"),
    ],
)
def test_a_state_without_a_key(tmp_path: Path, heading: str, kind: str) -> None:
    store = Spoilt(small_repository(tmp_path / "repository"), tmp_path)
    path = store.generation / layout.STATE
    state = json.loads(path.read_text())
    table = next(iter(state[kind].values())) if kind else state
    seen = 0
    for key, (_, absent) in told()[heading].items():
        if _without(path, state, table, key):
            seen += 1
            if absent == "refused":
                with pytest.raises(StoreError):
                    read_store(str(store.path))
            else:
                assert read_store(str(store.path)) is not None
    assert seen > 2


def test_stamp(tmp_path: Path) -> None:
    (tmp_path / ".current").symlink_to("generations/1")
    repository = tmp_path / "repository"
    repository.mkdir()
    os.utime(repository, (0, 0))
    cache, store, root = str(tmp_path / "cache"), str(tmp_path), str(repository)
    data = Stamp(root).content(store, "all", 5, 10, {"images": 0})
    assert data is not None
    stamp = json.loads(data)
    check("Stamps", stamp)
    path = Path(stamp_path(cache, store, root))
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    assert is_current(cache, store, root, "all", 7)
    for key, (_, absent) in told()["Stamps"].items():
        assert _without(path, stamp, stamp, key)
        assert is_current(cache, store, root, "all", 7) == (absent != "no stamp"), key
        assert key != "report" or last_report(cache, store, root) == {}


def test_copies_of_wish_lists(tmp_path: Path) -> None:
    address = "https://www.example.org/list"
    keep_copy(str(tmp_path), address, ListCopy(b"a", "x", "y"))
    path = Path(copy_path(str(tmp_path), address))
    version = json.loads(path.read_bytes().partition(b"\n")[0])
    check("Copies of wish lists", version)
    for key in list(version):
        assert _without(path, version, version, key)
        assert read_copy(str(tmp_path), address) is None


def test_markers() -> None:
    markers = json.loads(Markers().to_json())
    check("Markers of layers", markers)
    assert from_json(json.dumps(markers).encode()) == Markers()
    for key in markers:
        rest = {name: value for name, value in markers.items() if name != key}
        assert from_json(json.dumps(rest).encode()) is None


def test_profiles() -> None:
    profile = Profile("a" * 64, (Use("x", ((0, 1),)),))
    document = json.loads(render_profile(profile))
    (entry,) = document["files"]
    check("Start-up profiles", document)
    check("Of a file in a profile", entry)
    for heading, table in (("Start-up profiles", document), ("Of a file in a profile", entry)):
        for key, (_, absent) in told()[heading].items():
            value = table.pop(key)
            data = json.dumps(document).encode()
            if absent == "no profile":
                with pytest.raises(InputError):
                    parse_profile(data, profile.image, "it")
            else:
                assert parse_profile(data, profile.image, "it").files == (Use("x"),)
            table[key] = value


def test_podman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def find() -> generation.Generation:
        asked.append(True)
        return generation.Generation("5.0.0", True, True)

    monkeypatch.setattr(generation, "find_generation", find)
    assert reads_drop_ins(str(tmp_path)) and reads_drop_ins(str(tmp_path))
    assert len(asked) == 1
    path = tmp_path / "podman.json"
    known = json.loads(path.read_text())
    check("`podman.json`", known)
    for number, key in enumerate(told()["`podman.json`"], 2):
        assert _without(path, known, known, key)
        assert reads_drop_ins(str(tmp_path)) and len(asked) == number


def test_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    podman, conf = tmp_path / "bin/podman", tmp_path / "storage.conf"
    podman.parent.mkdir()
    podman.write_text(f"#!/bin/sh\necho >> {tmp_path}/asked; echo podman version 4.3.1\n")
    podman.chmod(0o755)
    conf.write_text('[storage.options.overlay]\nmountopt = "metacopy=on"\n')
    monkeypatch.setenv("PATH", f"{podman.parent}:/usr/bin:/bin")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(composefs, "has_erofs", lambda: True)
    monkeypatch.setattr(composefs, "has_crio", lambda: False)
    places = Places(0, "/none", "/none", "/none", "/none", storage_conf=str(conf))
    path = tmp_path / "exact.json"

    def asked() -> int:
        assert composefs.obstacle(str(path), places) == "podman 4.3.1 is older than 5.4"
        return (tmp_path / "asked").read_text().count("\n")

    assert (asked(), asked()) == (1, 1)
    known = json.loads(path.read_text())
    check("`exact.json`", known)
    for number, key in enumerate(told()["`exact.json`"], 2):
        assert _without(path, known, known, key)
        assert asked() == number


def test_setup(tmp_path: Path) -> None:
    path, edited = tmp_path / "setup.json", tmp_path / "storage.conf"
    change = Change(str(edited), None, b"[storage]\n")
    record.perform(str(path), [change], ["/store"], ["/cvmfs:/cvmfs"])
    written = json.loads(path.read_text())
    check("`setup.json`", written)
    check("Of a file in `setup.json`", written["files"][0])
    record.load(str(path))
    for table in (written, written["files"][0]):
        for key in list(table):
            assert _without(path, written, table, key)
            with pytest.raises(PodmanCvmfsError):
                record.load(str(path))


def test_records_of_published_images(tmp_path: Path) -> None:
    image = Digest.of(b"image")
    made = PublishedRecord(image, ("registry.example.org/a:1",), (Digest.of(b"layer"),), 1)
    path = tmp_path / made.path
    path.parent.mkdir(parents=True)
    check("Records of published images", json.loads(made.render()))
    with OpenRepository(str(tmp_path)) as repository:
        assert read_record(repository, image) is None
        path.write_bytes(made.render())
        assert read_record(repository, image) == made
        for key, (_, absent) in told()["Records of published images"].items():
            document = json.loads(made.render())
            del document[key]
            path.write_text(json.dumps(document))
            if absent == "refused":
                with pytest.raises(RepositoryError):
                    read_record(repository, image)
            else:
                found = read_record(repository, image)
                assert found is not None and found.unused_since is None
