# SPDX-License-Identifier: Apache-2.0
"""A sync with nothing to do, and what must wake it."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.errors import PartialError, RegistryError
from podman_cvmfs.reports.status import status_of
from podman_cvmfs.settings.files import Settings
from podman_cvmfs.settings.policy import Policy
from podman_cvmfs.store.reader import read_store
from podman_cvmfs.store.records import StoreContent
from podman_cvmfs.sync import stamp as stamp_module
from podman_cvmfs.sync.new_stamp import Stamp, directories_of
from podman_cvmfs.sync.stamp import is_current, stamp_path, wishes_text
from tests.support.cli import podman_cvmfs, succeed
from tests.support.http import Server, give
from tests.support.many import REGISTRY
from tests.support.required import required
from tests.support.settled import age, is_skipped, sync_json, target_of


def test_the_second_sync_reads_nothing(tmp_path: Path, repository: Path) -> None:
    target = target_of(tmp_path, repository)
    sync_json(target)
    # Whoever read a manifest now would fail.
    for path in repository.glob(".metadata/**/manifest.json"):
        path.write_text("{")
    assert is_skipped(target)


def test_a_sync_with_nothing_to_do_reports_what_others_do(tmp_path: Path, repository: Path) -> None:
    target = target_of(tmp_path, repository)
    first = sync_json(target)
    assert len(first["added"]) == 3  # type: ignore[arg-type]
    assert is_skipped(target)
    assert sync_json(target) == {**first, "changed": False, "added": []}


def test_what_an_import_brings_is_looked_for(tmp_path: Path, repository: Path) -> None:
    target = target_of(tmp_path, repository)
    archive, other = tmp_path / "blobs.tar", BlobCache(str(tmp_path / "other"))
    other.put(b"{}")
    succeed("cache", "export", archive, "--cache", other.directory)
    sync_json(target)
    succeed("cache", "import", archive, "--cache", target.cache)
    assert not is_skipped(target)
    succeed("cache", "import", archive, "--cache", target.cache)
    assert is_skipped(target), "nothing new came in"


def test_a_version_that_lays_stores_out_otherwise_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings()
    before = wishes_text(settings)
    monkeypatch.setattr(Policy, "__str__", lambda policy: "another layout")
    assert wishes_text(settings) != before


def test_a_cache_that_cannot_be_written_costs_a_warning(tmp_path: Path, repository: Path) -> None:
    target = target_of(tmp_path, repository)
    target.cache.mkdir()
    (target.cache / "stamps").touch()
    done = podman_cvmfs(*target.argv("--offline", "--format", "json"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["images"] == 3
    assert f"can't write to the cache {target.cache}: " in done.stderr
    assert not is_skipped(target)


@pytest.mark.parametrize("revision", [False, True], ids=["plain", "forged-revision"])
@pytest.mark.parametrize("above", [0, 1, 2], ids=["files", "layer", "prefix"])
def test_a_link_in_the_place_of_files_is_seen(
    tmp_path: Path, repository: Path, above: int, revision: bool
) -> None:
    """In a plain directory no time that is known tells of it, and times can be set back. Its owner
    can also set the attributes by which CernVM-FS tells a revision."""
    if revision:
        try:
            os.setxattr(repository, "user.revision", b"1")
            os.setxattr(repository, "user.root_hash", b"x")
        except OSError as err:
            required(f"the file system of {tmp_path} takes no attributes: {err}")
    target = target_of(tmp_path, repository)
    sync_json(target, "--view", "layers")
    assert is_skipped(target, "--view", "layers")
    shared = hashlib.sha256(b"blob 0").hexdigest()
    layers = repository.glob(".layers/*/*/layerfs")
    place = next(each for each in layers if not each.parent.name.startswith(shared[:2]))
    place = (place, *place.parents)[above]
    times = place.parent.stat()
    place.rename(tmp_path / "aside")
    place.symlink_to(tmp_path / "aside")
    os.utime(place.parent, ns=(times.st_atime_ns, times.st_mtime_ns))
    done = podman_cvmfs(*target.argv("--offline", "--view", "layers"))
    assert done.returncode == 7, done.stderr
    assert f"{place} is a symbolic link" in done.stderr
    content = read_store(str(target.store)) or StoreContent()
    assert sum(bool(each.published) for each in content.images.values()) == 2
    done = podman_cvmfs(*target.argv("--offline", "--view", "layers"))
    assert done.returncode == 7, "as long as it is there"
    place.unlink()
    (tmp_path / "aside").rename(place)
    assert sync_json(target, "--view", "layers")["images"] == 3


@pytest.mark.parametrize("change", ["link", "new", "gone", "metadata", "deeper"])
def test_a_change_in_a_directory_is_seen(tmp_path: Path, repository: Path, change: str) -> None:
    target = target_of(tmp_path, repository)
    sync_json(target)
    assert is_skipped(target)
    names = repository / REGISTRY / "project"
    link = names / "app1:1"
    if change == "link":
        (names / "new").symlink_to(os.readlink(names / "app2:2"))
        (names / "new").rename(link)
    elif change == "new":
        (names / "other:1").symlink_to(os.readlink(link))
    elif change == "gone":
        link.unlink()
    elif change == "metadata":
        (repository / f".metadata/{REGISTRY}/project/other:1").mkdir()
    else:
        (names / "below").mkdir()
    assert not is_skipped(target)


@pytest.mark.parametrize("change", ["renamed", "rewritten", "first"])
def test_the_manifest_of_an_image_without_public_link_is_looked_at(
    tmp_path: Path, repository: Path, change: str
) -> None:
    """A new one is all that tells that its tag has moved."""
    described = repository / f".metadata/{REGISTRY}/project"
    (repository / REGISTRY / "project/app1:1").unlink()
    manifest = described / "app1:1/manifest.json"
    if change == "first":
        manifest.unlink()
    age(repository)
    target = target_of(tmp_path, repository)
    sync_json(target)
    assert is_skipped(target)
    new = (described / "app2:2/manifest.json").read_text()
    if change == "rewritten":
        manifest.write_text(new)
    else:
        (described / "app1:1/new").write_text(new)
        (described / "app1:1/new").rename(manifest)
    assert not is_skipped(target)


@pytest.mark.parametrize(
    "args", [["--view", "layers"], ["--reuse", "none"], ["--on-outage", "hide"]]
)
def test_other_wishes_are_seen(tmp_path: Path, repository: Path, args: list[str]) -> None:
    target = target_of(tmp_path, repository)
    sync_json(target)
    assert not is_skipped(target, *args)
    assert is_skipped(target, *args)


def test_a_store_that_somebody_else_changed_is_seen(tmp_path: Path, repository: Path) -> None:
    target = target_of(tmp_path, repository)
    sync_json(target)
    podman_cvmfs(*target.argv("--offline", "--reuse", "all"))
    assert not is_skipped(target)
    (target.store / ".current").unlink()
    with_no_current = podman_cvmfs(*target.argv("--offline"))
    assert "nothing has changed" not in with_no_current.stderr


def test_failures_are_tried_again(tmp_path: Path, repository: Path) -> None:
    target = target_of(tmp_path, repository)
    manifest = next(repository.glob(".metadata/**/manifest.json"))
    good = manifest.read_text()
    manifest.write_text("{")
    assert podman_cvmfs(*target.argv("--offline")).returncode == PartialError.exit_code
    manifest.write_text(good)
    assert len(sync_json(target)["added"]) == 1  # type: ignore[arg-type]


def test_manifests_that_wait_for_their_registry_leave_no_stamp(
    tmp_path: Path, repository: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All configs are there; so nothing else would make the next sync ask for the manifests."""
    conf = tmp_path / "registries.conf"
    conf.write_text(f'[[registry]]\nprefix = "{REGISTRY}"\nlocation = "{server.address}"\n')
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(conf))
    target = target_of(tmp_path, repository)
    server.answers["/v2/"] = give(b"", 429, Retry_After="3600")
    for _ in range(2):
        done = podman_cvmfs(*target.argv("--format", "json"))
        assert done.returncode == RegistryError.exit_code
        assert "3 names with a made-up config or manifest: " in done.stderr
        assert "HTTP 429" in done.stderr
        assert len(json.loads(done.stdout)["waiting"][REGISTRY]) == 3
    server.answers["/v2/"] = give(b"", 404)
    assert json.loads(target.sync("--format", "json"))["waiting"] == {}
    asked = len(server.requests)
    assert "nothing has changed" in podman_cvmfs(*target.argv()).stderr
    assert len(server.requests) == asked


def test_a_directory_changed_just_now_is_not_trusted(repository: Path) -> None:
    assert directories_of(str(repository)) is not None
    os.utime(repository / REGISTRY)
    assert directories_of(str(repository)) is None


def test_the_first_sync_of_a_fresh_repository_is_complete(tmp_path: Path, repository: Path) -> None:
    """The next one compares everything, though, and status and doctor have nothing to say."""
    target = target_of(tmp_path, repository)
    os.utime(repository / REGISTRY)
    sync_json(target)
    settings = Settings((str(repository),), store=str(target.store), cache=str(target.cache))
    content = read_store(str(target.store))
    assert content is not None
    (found,) = status_of(settings, content).repositories
    assert found.synced is not None
    assert not is_skipped(target)


def test_revision_of_a_mount(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CernVM-FS played by two attributes: nothing but them counts, and listing comes first."""
    calls: list[str] = []
    values = {"user.revision": b"7", "user.root_hash": b"ab"}
    real = os.listdir

    def listdir(path: str) -> list[str]:
        calls.append("list")
        return real(path)

    def getxattr(path: str, name: str) -> bytes:
        calls.append(name)
        return values[name]

    monkeypatch.setattr(os, "listdir", listdir)
    monkeypatch.setattr(os, "getxattr", getxattr, raising=False)
    store, cache = tmp_path / "store", tmp_path / "cache"
    store.mkdir()
    (store / ".current").symlink_to("generations/1")
    path = Path(stamp_path(str(cache), str(store), str(repository)))
    path.parent.mkdir(parents=True)

    def current(now: int = 100) -> bool:
        return is_current(str(cache), str(store), str(repository), "wishes", now)

    assert not current()
    content = Stamp(str(repository)).content(str(store), "wishes", 100, 200, {})
    path.write_bytes(content)
    calls.clear()
    assert current()
    assert calls == ["list", "user.revision", "user.root_hash"]
    assert not current(now=200), "something was due"
    assert not current(now=99), "the clock was set back"
    values["user.revision"] = b"8"
    assert not current()
    values["user.revision"] = b"7"
    assert current()
    for broken in (b"", b"{", b"[]", b'{"format": 1}'):
        path.write_bytes(broken)
        assert not current()
    assert stamp_module.revision_of(str(repository)) == ["7", "ab"]
