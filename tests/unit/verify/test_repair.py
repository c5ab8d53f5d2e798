# SPDX-License-Identifier: Apache-2.0
"""Whatever is wrong with a store, a repair makes it a sound one that offers the same."""

from __future__ import annotations

import ctypes
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.errors import RepositoryError, StoreError
from podman_cvmfs.settings.policy import Policy, View
from podman_cvmfs.store import layout
from podman_cvmfs.store.store import Store
from podman_cvmfs.sync.report import SyncReport
from podman_cvmfs.sync.request import SyncRequest
from podman_cvmfs.verify.fault import Severity
from podman_cvmfs.verify.repair import repair
from podman_cvmfs.verify.store import verify
from tests.support.corrupt_files import FILES, plant
from tests.support.corrupt_pieces import PIECES
from tests.support.corrupt_records import RECORDS
from tests.support.many import REGISTRY
from tests.support.stores import JSON, Spoilt, small_repository, whiteout

STATE, LAYERS, IMAGES = JSON
BY_LAYERS = Policy(view=View.LAYERS)
ROWS = {**FILES, **PIECES, **RECORDS}
#: What may be somebody's is not ours to remove.
NOT_OURS = {
    "file at the top",
    "locks more",
    "pool more",
    "file among generations",
    "store is a file",
}


def mend(store: Spoilt, repository: Path | None = None) -> SyncReport:
    """Repair ``store``, offline."""
    cache = BlobCache(str(store.root / "cache"))
    roots = [str(repository or store.repository)]
    return repair(verify(str(store.path)), SyncRequest(roots, Store(str(store.path)), cache))


def offered(store: Spoilt) -> dict[str, str]:
    return dict(store.content.names)


@pytest.mark.parametrize(
    ("policy", "row"),
    [
        *((BY_LAYERS, row) for row in ROWS if row not in NOT_OURS),
        *((Policy(), row) for row in ("manifest flipped", "config gone", "layer gone")),
        *((Policy(), row) for row in ("lock empty", "state.json gone", "layers.json truncated")),
    ],
    ids=str,
)
def test_every_corruption_is_mended(
    tmp_path: Path, repository: Path, policy: Policy, row: str
) -> None:
    store = Spoilt(repository, tmp_path, policy)
    names = offered(store)
    ROWS[row][0](store)
    assert not set(mend(store).failed) & set(names)
    assert verify(str(store.path)).findings == ()
    assert offered(store) == names
    # A store nobody could tell the policy of has the caller's.
    assert store.content.policy in (str(policy), str(Policy()))
    assert not store.sync().changed or store.content.policy == str(policy)
    assert verify(str(store.path)).findings == ()


@pytest.mark.parametrize("name", sorted(NOT_OURS))
def test_what_may_be_somebodys_stays(tmp_path: Path, repository: Path, name: str) -> None:
    store = Spoilt(repository, tmp_path, BY_LAYERS)
    ROWS[name][0](store)
    before = {finding.path for finding in verify(str(store.path)).findings}
    try:
        mend(store)
    except StoreError as err:
        assert str(store.path) in err.message
    assert before <= {finding.path for finding in verify(str(store.path)).findings}


def test_what_is_right_stays_as_it_is(tmp_path: Path, repository: Path) -> None:
    store = Spoilt(repository, tmp_path, BY_LAYERS)
    inodes = {path: path.stat().st_ino for path in (store.path / "pool").glob("*/*")}
    spoilt = store.layer_path(store.top)
    (spoilt / "link").write_text("x")
    mend(store, tmp_path / "nowhere")
    after = {path: path.stat().st_ino for path in (store.path / "pool").glob("*/*")}
    assert {path for path in inodes if after[path] != inodes[path]} == {spoilt}
    assert verify(str(store.path)).findings == ()


def test_what_the_repository_is_not_needed_for(tmp_path: Path) -> None:
    """Links, modes and foreign files are mended without it."""
    store = Spoilt(small_repository(tmp_path / "repository"), tmp_path, BY_LAYERS)
    names = offered(store)
    (store.generation / "overlay" / ("e" * 64)).mkdir()
    (store.generation / "overlay" / store.top.layer_id).unlink()
    store.layer_path(store.base).chmod(0o700)
    (store.image_path("manifest").parent / "x").touch()
    os.truncate(store.path / "locks/layers.lock", 0)
    mend(store, tmp_path / "nowhere")
    assert verify(str(store.path)).findings == ()
    assert offered(store) == names


def test_a_repository_that_is_needed_and_not_there(tmp_path: Path, repository: Path) -> None:
    store = Spoilt(repository, tmp_path)
    store.image_path("config").write_bytes(b"")
    with pytest.raises(RepositoryError, match="no such repository"):
        mend(store, tmp_path / "nowhere")
    assert len(store.content.images) == 3


def test_an_image_that_nobody_has_any_more_leaves_the_store(tmp_path: Path) -> None:
    store = Spoilt(small_repository(tmp_path / "repository"), tmp_path)
    path = store.image.published[0]
    store.image_path("manifest").unlink()
    (store.repository / path).unlink()
    shutil.rmtree(store.repository / ".metadata" / path)
    report = mend(store)
    assert list(report.failed) == [path]
    assert verify(str(store.path)).findings == ()
    assert len(store.content.images) == 2


def test_a_config_that_only_the_store_had_comes_back(tmp_path: Path) -> None:
    store = Spoilt(small_repository(tmp_path / "repository"), tmp_path)
    before = store.content
    shutil.rmtree(store.repository / "podmanStore")
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    store.image_path("manifest").unlink()
    assert mend(store).failed == {}
    assert {i.config_origin for i in store.content.images.values()} <= {"repository", "cache"}
    assert offered(store) == dict(before.names)


@pytest.mark.parametrize("place", ["..", "../.."])
def test_what_has_become_a_link_is_no_longer_shown(tmp_path: Path, place: str) -> None:
    store = Spoilt(small_repository(tmp_path / "repository"), tmp_path)
    source = store.image.source_id
    root = os.path.realpath(store.linked[0] / "diff")
    linked = Path(os.path.normpath(f"{root}/{place}"))
    linked.rename(tmp_path / "elsewhere")
    linked.symlink_to(tmp_path / "elsewhere")
    assert mend(store).failed
    assert verify(str(store.path)).errors == 0
    assert source not in {image.source_id for image in store.content.images.values()}


def test_only_the_images_that_were_there_come_back(tmp_path: Path, repository: Path) -> None:
    """A store to which images were added by name doesn't get all others by its repair."""
    store = Spoilt(repository, tmp_path)
    shutil.rmtree(store.path)
    store.sync(f"{REGISTRY}/project/app1:1")
    os.truncate(store.generation / LAYERS, 10)
    assert mend(store).failed == {}
    assert set(offered(store)) == {f"{REGISTRY}/project/app1:1"}


@pytest.mark.parametrize("gone", [JSON, (STATE, IMAGES), (LAYERS, IMAGES), (STATE,)])
def test_json_that_is_lost(tmp_path: Path, repository: Path, gone: tuple[str, ...]) -> None:
    store = Spoilt(repository, tmp_path, BY_LAYERS)
    before, inodes = store.content, {p: p.stat().st_ino for p in store.path.glob("pool/*/*")}
    for name in gone:
        (store.generation / name).write_bytes(b"\0" * 100)
    assert mend(store).failed == {}
    assert verify(str(store.path)).findings == ()
    assert offered(store) == dict(before.names)
    # Containers may use any entry of the pool.
    assert set(inodes) <= set(store.path.glob("pool/*/*"))


def test_the_generation_before_serves_where_json_is_lost(tmp_path: Path) -> None:
    """Layers that the repository has no more stay for those who stand on them."""
    store = Spoilt(small_repository(tmp_path / "repository"), tmp_path, BY_LAYERS)
    layers = set(store.content.layers)
    path = store.image.published[0]
    (store.repository / path).unlink()
    shutil.rmtree(store.repository / ".metadata" / path)
    store.sync()
    (store.generation / LAYERS).unlink()
    assert mend(store).failed == {}
    assert set(store.content.layers) == layers
    assert path not in offered(store)
    assert verify(str(store.path)).findings == ()


def test_a_layer_that_is_wrong_where_current_is_lost(tmp_path: Path, repository: Path) -> None:
    store = Spoilt(repository, tmp_path)
    names = offered(store)
    (store.local[0] / "diff/tmp").chmod(0o700)
    (store.path / layout.CURRENT).unlink()
    (store.path / layout.CURRENT).touch()
    assert mend(store).failed == {}
    assert verify(str(store.path)).findings == ()
    assert offered(store) == names


def test_where_files_cannot_be_exchanged(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Spoilt(repository, tmp_path, BY_LAYERS)
    (store.layer_path(store.top) / "lower").unlink()
    library = ctypes.CDLL(None, use_errno=True)

    class Unable:
        """The C library on a file system that refuses."""

        def __getattr__(self, name: str) -> object:
            return (lambda *_: -1) if name == "renameat2" else getattr(library, name)

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Unable())
    assert mend(store).failed == {}
    assert verify(str(store.path)).findings == ()
    assert not list((store.path / layout.POOL_LAYERS).glob("*.new"))


@pytest.mark.usefixtures("as_root")
def test_strangers_files_go_wherever_they_are(tmp_path: Path) -> None:
    store = Spoilt(small_repository(tmp_path / "repository"), tmp_path, BY_LAYERS)
    former = store.layer_path(store.base) / "diff/x"
    store.policy = replace(BY_LAYERS, shared=True)
    store.sync()
    planted = [former, store.local[0] / "diff/etc/x", store.layer_path(store.top) / "diff/x"]
    for path in planted:
        plant(path)
    plant(planted[1].with_name("y"), whiteout)
    mend(store)
    assert verify(str(store.path)).findings == ()
    assert not any(path.exists() for path in planted)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("row", ["mode of a layer", "config gone", "state.json truncated"])
def test_who_can_reach_a_store_stays_as_it_is(
    tmp_path: Path, repository: Path, shared: bool, row: str
) -> None:
    store = Spoilt(repository, tmp_path, replace(BY_LAYERS, shared=shared))
    mode = store.path.stat().st_mode
    ROWS[row][0](store)
    mend(store)
    # Whoever mends a store without knowing its policy decides.
    assert store.path.stat().st_mode == mode or row == "state.json truncated"
    assert verify(str(store.path)).findings == ()


@pytest.mark.parametrize("loss", ["link", "diff"])
def test_a_piece_that_no_layer_has_any_more(tmp_path: Path, loss: str) -> None:
    """It is mended if it is known what it showed, or else it leaves the store."""
    store = Spoilt(small_repository(tmp_path / "repository"), tmp_path, BY_LAYERS)
    store.policy = replace(BY_LAYERS, shared=True)
    store.sync()
    with Store(str(store.path)).opened() as content:
        kept = {key: layer for key, layer in content.layers.items() if layer.retired is None}
        left = content.entries() - replace(content, layers=kept).entries()
        retired = {**content.retired_entries, **dict.fromkeys(left, 1)}
        former = replace(content, layers=kept, retired_entries=retired)
        Store(str(store.path)).replace(former, (), ())
    entry = next(each for each in sorted(left) if layout.piece_of_entry(each))
    piece = store.path / layout.POOL_LAYERS / entry
    if loss == "link":
        (piece / "link").unlink()
    else:
        shutil.rmtree(piece / "diff")
    (finding,) = verify(str(store.path)).findings
    assert finding.path == str(piece / loss)
    mend(store, tmp_path / "nowhere")
    assert verify(str(store.path)).findings == ()
    assert piece.exists() == (entry in store.content.retired_entries) == (loss == "link")


def test_a_store_of_the_layout_before_stays(tmp_path: Path) -> None:
    store = Spoilt.former(tmp_path, BY_LAYERS)
    before = store.content
    mend(store, tmp_path / "nowhere")
    assert store.content == before
    (finding,) = verify(str(store.path)).findings
    assert finding.severity is Severity.WARNING
    assert store.sync().failed == {}
    assert verify(str(store.path)).findings == ()


@pytest.mark.parametrize("name", ["config gone", "layer gone", "link file wrong", "diff gone"])
def test_what_is_wrong_in_a_store_of_the_layout_before(tmp_path: Path, name: str) -> None:
    """What is lost is laid out anew, as the store was."""
    store = Spoilt.former(tmp_path, BY_LAYERS)
    names, layers = offered(store), set(store.content.layers)
    if name == "diff gone":
        (store.layer_path(store.top) / "diff").unlink()
    else:
        ROWS[name][0](store)
    assert verify(str(store.path)).errors
    assert mend(store).failed == {}
    assert verify(str(store.path)).findings == ()
    assert offered(store) == names
    assert store.content.policy == str(BY_LAYERS)
    # What containers may stand on is there still, if it wasn't spoilt.
    assert len(layers - set(store.content.layers)) <= (name != "config gone")
