# SPDX-License-Identifier: Apache-2.0
"""Every corruption of a store is found and named; a sound store, however laid out, passes."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from podman_cvmfs.lists.known import NoLists
from podman_cvmfs.plan.shown_layer import EMPTY
from podman_cvmfs.settings.policy import Overlay, Policy, Reuse, View
from podman_cvmfs.store import layout
from podman_cvmfs.store.entries import write_layer_entry
from podman_cvmfs.store.records import LayerDirectory, StoreContent
from podman_cvmfs.verify import images
from podman_cvmfs.verify import store as verify_store
from podman_cvmfs.verify.fault import Severity
from podman_cvmfs.verify.frame import check_frame
from podman_cvmfs.verify.inspection import Inspection
from podman_cvmfs.verify.store import Verdict, verify
from tests.support.corrupt_files import FILES, STRANGER
from tests.support.corrupt_pieces import PIECES
from tests.support.corrupt_records import RECORDS
from tests.support.processes import started
from tests.support.stores import JSON, Spoilt, retarget, small_repository, with_whiteouts
from tests.support.trees import snapshot

STATE, LAYERS, IMAGES = JSON
ROWS = {**FILES, **PIECES, **RECORDS}
BY_LAYERS = Policy(view=View.LAYERS)
POLICIES = [Policy(*each) for each in itertools.product(View, Reuse, Overlay, (False, True))]


@pytest.fixture(scope="module")
def deleting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_whiteouts(small_repository(tmp_path_factory.mktemp("deleting") / "repository"))


def tell(verdict: Verdict) -> list[str]:
    return [f"{each.severity.value}: {each.path}: {each.what}" for each in verdict.findings]


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_a_sound_store_passes(
    tmp_path: Path, repository: Path, deleting: Path, policy: Policy
) -> None:
    for number, each in enumerate((repository, deleting)):
        store = Spoilt(each, tmp_path / str(number), policy)
        before = snapshot(tmp_path)
        assert tell(verify(str(store.path))) == []
        assert snapshot(tmp_path) == before


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize("shared", [False, True])
def test_a_store_of_a_users_repository_passes(tmp_path: Path, shared: bool) -> None:
    """In a shared store some local directories are the user's, and others root's."""
    repository = with_whiteouts(small_repository(tmp_path / "repository"))
    for layer in repository.glob(".layers/*/*/layerfs"):
        os.chown(layer, STRANGER, STRANGER)
        os.chown(layer / "etc", STRANGER, STRANGER)
    store = Spoilt(repository, tmp_path, replace(BY_LAYERS, shared=shared))
    if shared:
        owners = {path.stat().st_uid for each in store.local for path in each.glob("diff/**")}
        assert owners == {0, STRANGER}
    assert tell(verify(str(store.path))) == []


def test_a_store_with_retired_layers_passes(tmp_path: Path) -> None:
    repository = small_repository(tmp_path / "repository")
    store = Spoilt(repository, tmp_path)
    for path in (repository / "registry.example.org/project").iterdir():
        if path.name.endswith(":1"):
            path.unlink()
            shutil.rmtree(repository / ".metadata" / path.relative_to(repository))
    store.sync()
    assert any(layer.retired is not None for layer in store.content.layers.values())
    assert tell(verify(str(store.path))) == []
    gone = next(layer for layer in store.content.layers.values() if layer.retired is not None)
    for piece in store.pieces_of(gone):
        if (piece / "diff").is_symlink():
            (piece / "diff").resolve().rename(tmp_path / "gone")
    (told,) = tell(verify(str(store.path)))
    assert told.startswith("warning: ") and "no image needs it" in told


@pytest.mark.parametrize(("spoil", "path", "words"), ROWS.values(), ids=ROWS)
def test_every_corruption_is_found_and_named(
    tmp_path: Path,
    repository: Path,
    spoil: Callable[[Spoilt], object],
    path: str,
    words: str,
) -> None:
    store = Spoilt(repository, tmp_path, BY_LAYERS)
    spoil(store)
    verdict = verify(str(store.path))
    assert verdict.errors
    found = [each for each in verdict.findings if path in each.path and words in each.what]
    assert found, "\n".join(tell(verdict))
    assert all(each.cure and each.path.isprintable() for each in verdict.findings)


def test_the_merged_root_of_another_image(tmp_path: Path, repository: Path) -> None:
    store = Spoilt(repository, tmp_path)
    store.edit(IMAGES, lambda records: records[0].update(layer=records[1]["layer"]))
    assert any("the merged root of another image" in told for told in tell(verify(str(store.path))))


def test_a_layer_for_pulls_that_leaves_out_its_parents_files(
    tmp_path: Path, repository: Path
) -> None:
    """All is as it was written, but by a writer with a mistake."""
    store = Spoilt(repository, tmp_path, Policy(reuse=Reuse.ALL))
    layers = [layer for layer in store.content.layers.values() if layer.shows is None]
    layer = next(layer for layer in layers if layer.parent is not None and layer.lowers)
    assert layer.lowers
    wrong = LayerDirectory(layer.layer_id, EMPTY, layer.lowers[:-1])
    write_layer_entry(
        str(store.path / layout.POOL_LAYERS / wrong.entry), wrong, NoLists().tar_split
    )
    place = store.generation / "overlay" / layer.layer_id
    retarget(place, f"../../../{layout.POOL_LAYERS}/{wrong.entry}")
    changed = {"lowers": list(wrong.lowers), "entry": wrong.entry}
    store.edit(STATE, lambda state: state["layers"][layer.layer_id].update(changed))
    errors = [told for told in tell(verify(str(store.path))) if told.startswith("error")]
    assert errors and all("fewer layers than its parent" in told for told in errors)


def mask(store: Spoilt) -> Path:
    """What hides the markers of the uppermost layer."""
    return store.local[1] / "diff"


def meaning(store: Spoilt) -> Path:
    """What these markers mean."""
    return store.local[2] / "diff"


def see_through(directory: Path) -> None:
    """Make an opaque directory an ordinary one."""
    for namespace in ("user", "trusted"):
        os.removexattr(directory, f"{namespace}.overlay.opaque")


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize(
    "spoil",
    [
        lambda s: (mask(s) / "etc").chmod(0o700),
        lambda s: os.chown(mask(s) / "etc", 12345, -1),
        lambda s: os.utime(mask(s) / "etc", ns=(0, 7)),
        lambda s: (mask(s) / "etc/.wh.gone").unlink(),
        lambda s: os.mknod(mask(s) / "etc/x", 0o020600, 0),
        lambda s: (mask(s) / "x").mkdir(),
        lambda s: (mask(s) / "x").touch(),
        lambda s: os.mknod(mask(s) / "x", 0o020600, os.makedev(1, 3)),
        lambda s: see_through(meaning(s) / "opt"),
        lambda s: (meaning(s) / "etc/gone").unlink(),
        lambda s: os.mknod(meaning(s) / "etc/x", 0o020600, 0),
        lambda s: (meaning(s) / "etc").chmod(0o700),
    ],
)
def test_what_hides_and_deletes_is_as_it_was_written(
    tmp_path: Path, deleting: Path, spoil: Callable[[Spoilt], object]
) -> None:
    store = Spoilt(deleting, tmp_path, BY_LAYERS)
    places = [str(mask(store).parent), str(meaning(store).parent)]
    spoil(store)
    told = tell(verify(str(store.path)))
    assert any(place in each for each in told for place in places), told


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize(
    "of",
    [
        lambda s: s.image_path("config"),
        lambda s: s.generation / LAYERS,
        lambda s: s.linked[0] / "diff",
        lambda s: s.local[0],
        lambda s: s.layer_path(s.top) / "diff",
        lambda s: s.path / "locks",
    ],
)
def test_another_owner(tmp_path: Path, repository: Path, of: Callable[[Spoilt], Path]) -> None:
    store = Spoilt(repository, tmp_path)
    os.chown(of(store), 12345, -1, follow_symlinks=False)
    assert any(
        str(of(store)) in told and "is owned by uid 12345" in told
        for told in tell(verify(str(store.path)))
    )


@pytest.mark.parametrize("policy", [Policy(), BY_LAYERS], ids=str)
@pytest.mark.parametrize("is_summed", [False, True])
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    name=st.sampled_from(JSON), where=st.floats(0, 1, exclude_max=True), bits=st.integers(1, 255)
)
def test_a_changed_byte_is_found(
    tmp_path_factory: pytest.TempPathFactory,
    repository: Path,
    is_summed: bool,
    policy: Policy,
    name: str,
    where: float,
    bits: int,
) -> None:
    """With other checksums, as a writer with a mistake would leave it, all but what a store can't
    know of itself: sizes of layers, and times."""
    root = tmp_path_factory.mktemp("flip")
    store = Spoilt(repository, root, policy)
    before = store.content
    path = store.generation / name
    data = bytearray(path.read_bytes())
    data[int(where * len(data))] ^= bits
    path.write_bytes(data)
    if is_summed:
        store.sum_up()
    verdict = verify(str(store.path))
    assert verdict.findings or (is_summed and unsized(store.content) == unsized(before))
    shutil.rmtree(root)


def unsized(content: StoreContent) -> StoreContent:
    layers = {
        layer_id: replace(layer, diff_size=0, retired=None)
        for layer_id, layer in content.layers.items()
    }
    return replace(content, layers=layers)


def leave_leftovers(store: Spoilt) -> list[str]:
    (store.path / ".current.new").symlink_to("generations/9")
    (store.path / "generations/9").mkdir()
    (store.path / "pool/layers" / f"{'e' * 64}-{'f' * 16}").mkdir()
    (store.path / "pool/images" / f"{'e' * 64}-{'f' * 16}").mkdir()
    return [".current.new", "generations/9", "pool/layers/eee", "pool/images/eee"]


def test_leftovers_are_warnings_until_the_next_change(tmp_path: Path) -> None:
    store = Spoilt(small_repository(tmp_path / "repository"), tmp_path)
    names = leave_leftovers(store)
    verdict = verify(str(store.path))
    assert not verdict.errors
    assert all(any(name in told for told in tell(verdict)) for name in names)
    small_repository(tmp_path / "more", 4)
    store.repository = tmp_path / "more"
    store.sync()
    assert tell(verify(str(store.path))) == []


def test_what_a_running_sync_has_there_is_no_leftover(tmp_path: Path, repository: Path) -> None:
    store = Spoilt(repository, tmp_path)
    leave_leftovers(store)
    code = (
        "import sys\nfrom podman_cvmfs.store.store import Store\n"
        "with Store(sys.argv[1]).opened():\n    print('in', flush=True)\n    sys.stdin.read()\n"
    )
    with started(
        [sys.executable, "-c", code, store.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == b"in\n"
        assert tell(verify(str(store.path))) == []
        other.communicate(b"", timeout=60)


def test_no_lock_is_waited_for(tmp_path: Path, repository: Path) -> None:
    store = Spoilt(repository, tmp_path)
    with open(store.path / "locks/images.lock", "r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        assert tell(verify(str(store.path))) == []


def test_a_generation_that_goes_meanwhile_is_not_held_against_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two syncs change the store just after .current has been read."""
    store = Spoilt(small_repository(tmp_path / "repository", 2), tmp_path)
    calls: list[Inspection] = []

    def meanwhile(look: Inspection) -> None:
        if not calls:
            for number in (3, 4):
                store.repository = small_repository(tmp_path / f"more{number}", number)
                store.sync()
        calls.append(look)
        check_frame(look)

    monkeypatch.setattr(verify_store, "check_frame", meanwhile)
    assert tell(verify(str(store.path))) == []
    assert len(calls) == 2


def test_a_store_that_cannot_be_looked_at(tmp_path: Path) -> None:
    """It is not taken for one that isn't there."""
    (tmp_path / "file").touch()
    (finding,) = verify(str(tmp_path / "file/store")).findings
    assert finding.what == "can't be examined: Not a directory"


def test_what_is_gone_from_the_repository(tmp_path: Path) -> None:
    store = Spoilt(small_repository(tmp_path / "repository"), tmp_path)
    (store.linked[0] / "diff").resolve().rename(tmp_path / "gone")
    (told,) = tell(verify(str(store.path)))
    assert "/diff: leads to " in told and told.endswith("which is gone")
    assert verify(str(store.path)).findings[0].cure == (
        f"podman-cvmfs sync --store {store.path}; if that doesn't help, "
        f"podman-cvmfs verify --repair --store {store.path}"
    )


@pytest.mark.parametrize("place", ["", "..", "../.."])
def test_what_has_become_a_link_since(tmp_path: Path, place: str) -> None:
    """podman would follow it, wherever it leads."""
    store = Spoilt(small_repository(tmp_path / "repository"), tmp_path)
    root = os.path.realpath(store.linked[0] / "diff")
    linked = Path(os.path.normpath(f"{root}/{place}"))
    linked.rename(tmp_path / "elsewhere")
    linked.symlink_to(tmp_path / "elsewhere")
    told = tell(verify(str(store.path)))
    why = "is reached over a symbolic link" if place else "is not a directory"
    assert any(f"leads to {root}, which {why}" in each for each in told), told


@pytest.mark.parametrize("unmount", ["remove", "empty", "file"])
def test_a_repository_that_is_down_is_one_warning(tmp_path: Path, unmount: str) -> None:
    store = Spoilt(small_repository(tmp_path / "repository"), tmp_path)
    shutil.rmtree(store.repository)
    if unmount == "empty":
        store.repository.mkdir()
    elif unmount == "file":
        store.repository.touch()
    (finding,) = verify(str(store.path)).findings
    assert finding.severity is Severity.WARNING
    assert finding.path == str(store.repository)


def test_an_image_too_deep_for_podman(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Spoilt(repository, tmp_path, BY_LAYERS)
    monkeypatch.setattr(images, "SHORT_MOUNT_DATA", 100)
    monkeypatch.setattr(images, "mount_data_limit", lambda: 100)
    told = tell(verify(str(store.path)))
    assert len(told) == 3
    assert all("podman 4 can't mount this image" in each for each in told)


def test_an_empty_store_passes(tmp_path: Path) -> None:
    from podman_cvmfs.setup.store import ensure_store

    assert ensure_store(str(tmp_path / "store"))
    assert tell(verify(str(tmp_path / "store"))) == []


def test_a_name_from_the_store_is_safe_to_print(tmp_path: Path, repository: Path) -> None:
    store = Spoilt(repository, tmp_path)
    (store.generation / "overlay/\x1b[31m\udcff").touch()
    (finding,) = verify(str(store.path)).findings
    assert finding.path.isprintable()
    json.dumps(finding.path).encode("ascii")
