# SPDX-License-Identifier: Apache-2.0
"""Publishing whole images: what is written, and that it is all or nothing."""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from podman_cvmfs.errors import InputError, RegistryError, RepositoryError
from podman_cvmfs.names.reference import parse_name
from podman_cvmfs.oci import documents
from podman_cvmfs.oci.documents import Descriptor
from podman_cvmfs.publish.publisher import Published, check_directory, publish
from podman_cvmfs.publish.source.image import SourceImage
from podman_cvmfs.publish.unpack.merge import Merger
from tests.support.layers import Blob, Entry, directory, file, pack, symlink, whiteout
from tests.support.memory_images import Images, put
from tests.support.trees import snapshot

BASE = [directory("etc"), file("etc/passwd", "root\n"), file("gone", "x")]
TOP = [file("opt/app", "app", 0o755), whiteout("gone")]


@pytest.fixture
def images() -> Images:
    return Images()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return tmp_path / "repository"


def leftovers(repository: Path) -> list[str]:
    return [name for name in os.listdir(repository) if "tmp" in name]


def test_layout(repository: Path, images: Images) -> None:
    image = images.image("example.org/group/app:1", BASE, TOP, Cmd=["sh"])
    assert put(repository, images, image) == Published(2, 2, True)
    config = image.config.digest
    link = repository / "example.org/group/app:1"
    assert os.readlink(link) == f"../../.flat/{config.hex[:2]}/{config.hex}"
    assert (link / "opt/app").read_text() == "app"
    assert not (link / "gone").exists()
    assert (link / ".singularity.d/runscript").exists()
    assert not list(repository.rglob(".cvmfscatalog"))
    manifest = json.loads(
        (repository / ".metadata/example.org/group/app:1/manifest.json").read_bytes()
    )
    assert list(manifest) == ["SchemaVersion", "MediaType", "Config", "Layers"]
    assert manifest["Config"] == {
        "MediaType": documents.OCI_CONFIG,
        "Size": len(image.config.raw),
        "Digest": str(config),
    }
    assert documents.parse_manifest(json.dumps(manifest).encode()) == image.manifest
    for layer, diff_id in zip(image.manifest.layers, image.config.diff_ids):
        place = repository / ".layers" / layer.digest.hex[:2] / layer.digest.hex
        assert json.loads((place / ".metadata/origin.json").read_bytes()) == {
            "origin": [str(config)]
        }
        assert json.loads((place / ".metadata/layers.json").read_bytes()) == [
            {
                "id": diff_id.hex,
                "created": "2020-09-13T12:26:40Z",
                "compressed-diff-digest": str(layer.digest),
                "diff-digest": str(diff_id),
                "diff-size": len(gzip.decompress(images.blobs[layer.digest])),
            }
        ]
    top = image.manifest.layers[1].digest.hex
    assert (repository / ".layers" / top[:2] / top / "layerfs/.wh.gone").is_file()
    [blob] = (repository / "podmanStore/overlay-images" / config.hex).iterdir()
    assert blob.name.startswith("=")
    assert blob.read_bytes() == image.config.raw
    assert leftovers(repository) == []


def test_everybody_can_read_it_whatever_the_umask(repository: Path, images: Images) -> None:
    old = os.umask(0o077)
    try:
        put(repository, images, images.image("example.org/a:1", BASE))
    finally:
        os.umask(old)
    for path in [p for p in repository.rglob("*") if not p.is_symlink()]:
        wanted = 0o555 if path.is_dir() else 0o444
        assert path.stat().st_mode & wanted == wanted or path.name == ".podman-cvmfs-lock", path


def test_digest_only_image(repository: Path, images: Images) -> None:
    digest = "sha256:" + "1" * 64
    image = images.image("example.org/a:1", BASE)
    put(repository, images, replace(image, name=parse_name(f"example.org/a@{digest}")))
    assert (repository / f"example.org/a:{digest}/etc/passwd").exists()
    assert (repository / ".metadata/example.org/a/manifest.json").exists()


def test_again_changes_nothing(repository: Path, images: Images) -> None:
    image = images.image("example.org/a:1", BASE, TOP)
    put(repository, images, image)
    before, asked = snapshot(repository), images.asked
    assert put(repository, images, image) == Published(2, 0, False)
    assert snapshot(repository) == before
    assert images.asked == asked


def test_layers_and_flat_roots_are_shared(repository: Path, images: Images) -> None:
    first = images.image("example.org/a:1", BASE, TOP)
    put(repository, images, first)
    kept = {k: v for k, v in snapshot(repository).items() if "layerfs" in k or ".flat/" in k}
    second = images.image("example.org/b:1", BASE, [], BASE, [], other=1)
    assert put(repository, images, second) == Published(2, 1, True)
    same = SourceImage(parse_name("example.org/c:1"), first.manifest, first.config)
    assert put(repository, images, same) == Published(2, 0, True)
    now = snapshot(repository)
    assert {k: now[k] for k in kept} == kept
    base = first.manifest.layers[0].digest.hex
    origin = repository / f".layers/{base[:2]}/{base}/.metadata/origin.json"
    assert json.loads(origin.read_bytes())["origin"] == [
        str(first.config.digest),
        str(second.config.digest),
    ]


def test_a_retag_swaps_the_link(repository: Path, images: Images) -> None:
    put(repository, images, images.image("example.org/a:1", BASE))
    new = images.image("example.org/a:1", BASE, TOP)
    assert put(repository, images, new) == Published(2, 1, True)
    assert (repository / "example.org/a:1/opt/app").exists()
    manifest = repository / ".metadata/example.org/a:1/manifest.json"
    assert documents.parse_manifest(manifest.read_bytes()) == new.manifest
    assert len(list(repository.glob(".flat/*/*"))) == 2


@pytest.mark.parametrize(
    "part",
    [
        ".flat/*/*",
        ".metadata/*/*/manifest.json",
        "example.org/a:1",
        "podmanStore/*/*/*",
        ".layers/*/*/.metadata/origin.json",
    ],
)
def test_what_is_missing_is_made_again(repository: Path, images: Images, part: str) -> None:
    image = images.image("example.org/a:1", BASE)
    put(repository, images, image)
    before = snapshot(repository)
    for path in repository.glob(part):
        path.rename(path.parent.parent / ".gone") if path.name != "a:1" else path.unlink()
    assert put(repository, images, image).changed
    for path in repository.rglob(".gone"):
        subprocess.run(["rm", "-rf", path], check=True)
    after = snapshot(repository)
    assert {name: (each[0], each[2]) for name, each in after.items()} == {
        name: (each[0], each[2]) for name, each in before.items()
    }


def test_publishing_is_reproducible(tmp_path: Path, images: Images) -> None:
    image = images.image("example.org/a:1", BASE, TOP, Env=["A=b"])
    trees = []
    for name in "ab":
        put(tmp_path / name, images, image)
        time.sleep(0.01)
        trees.append(
            {
                str(p.relative_to(tmp_path / name)): (p.lstat().st_mode, p.lstat().st_mtime_ns)
                for kind in (".flat/*/*/**/*", ".layers/*/*/layerfs/**/*")
                for p in (tmp_path / name).glob(kind)
            }
        )
    assert trees[0] == trees[1]
    assert len(trees[0]) > 20


# ---------------------------------------------------------------------- failures


def blob(entries: list[Entry], diff_id: str | None = None, data: bytes | None = None) -> Blob:
    good = pack(entries)
    return Blob(data or good.data, diff_id or good.diff_id, "gzip")


@pytest.mark.parametrize("case", ["diff ID", "truncated", "hostile", "not a tar", "digest", "size"])
def test_a_bad_layer_publishes_nothing(repository: Path, images: Images, case: str) -> None:
    put(repository, images, images.image("example.org/good:1", BASE))
    before = snapshot(repository)
    good = pack(TOP)
    bad = {
        "diff ID": blob(TOP, diff_id="sha256:" + "0" * 64),
        "truncated": blob(TOP, data=good.data[:-10]),
        "hostile": blob([file("../../evil")]),
        "not a tar": blob([], data=gzip.compress(b"junk" * 500)),
        "digest": good,
        "size": good,
    }[case]
    image = images.of_blobs("example.org/good:1", [pack(BASE), bad])
    digest = image.manifest.layers[1].digest
    if case == "digest":
        images.blobs[digest] = pack([file("other")]).data
    if case == "size":
        images.blobs[digest] += b"\0" * 512
    with pytest.raises(InputError) as caught:
        put(repository, images, image)
    assert "example.org/good:1" in caught.value.message
    assert str(digest) in caught.value.message
    assert snapshot(repository) == before


def test_a_registry_that_breaks_off(repository: Path, images: Images) -> None:
    def layer(layer: Descriptor) -> Iterator[bytes]:
        yield images.blobs[layer.digest][:20]
        raise RegistryError("broke off", "try again")

    with pytest.raises(RegistryError, match="broke off") as caught:
        publish(str(repository), images.image("example.org/a:1", BASE), layer)
    assert caught.value.hint == "try again"
    assert os.listdir(repository) == [".podman-cvmfs-lock"]


def test_a_layer_with_another_diff_id_than_here(repository: Path, images: Images) -> None:
    put(repository, images, images.image("example.org/a:1", BASE))
    liar = images.of_blobs("example.org/b:1", [blob(BASE, diff_id="sha256:" + "0" * 64)])
    with pytest.raises(InputError, match="configuration says"):
        put(repository, images, liar)


@pytest.mark.parametrize(
    ("name", "junk"), [("layers.json", b"{"), ("origin.json", b"[]"), ("layers.json", None)]
)
def test_a_broken_layer_in_the_repository(
    repository: Path, images: Images, name: str, junk: bytes | None
) -> None:
    put(repository, images, images.image("example.org/a:1", BASE))
    [path] = repository.glob(f".layers/*/*/.metadata/{name}")
    path.unlink() if junk is None else path.write_bytes(junk)
    with pytest.raises(RepositoryError, match=r"\.layers"):
        put(repository, images, images.image("example.org/b:1", BASE, other=1))


def test_names_too_long_are_the_image_s_fault(repository: Path, images: Images) -> None:
    with pytest.raises(InputError, match="impossible name"):
        put(repository, images, images.image("example.org/a:1", [file("x" * 300)]))


def test_directory_that_is_none(tmp_path: Path, images: Images) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    for name, message in [
        ("file", "not a directory"),
        ("dangling", "not a directory"),
        ("no/such", "doesn't exist"),
    ]:
        with pytest.raises(RepositoryError, match=message):
            check_directory(str(tmp_path / name))
    check_directory(str(tmp_path))
    check_directory(str(tmp_path / "new"))
    with pytest.raises(RepositoryError, match="Not a directory"):
        put(tmp_path / "file", images, images.image("example.org/a:1", BASE))


def test_full_disk(repository: Path, images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's own limit on file size stands for a full disk: the write fails half way."""
    put(repository, images, images.image("example.org/a:1", BASE))
    before = snapshot(repository)
    image = images.image("example.org/a:1", BASE, [file("big", os.urandom(300_000))])

    def full(self: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Merger, "finish", full)
    with pytest.raises(RepositoryError, match="No space left") as caught:
        put(repository, images, image)
    assert caught.value.hint is not None
    assert snapshot(repository) == before


def test_documents_are_on_the_disk_before_they_have_their_names(
    repository: Path, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a power cut could leave them empty."""
    put(repository, images, images.image("example.org/a:1", BASE))
    fsync, replace_ = os.fsync, os.replace
    safe, placed = set(), []

    def fsync_noted(fd: int) -> None:
        fsync(fd)
        safe.add(os.fstat(fd).st_ino)

    def replace_checked(source: str, target: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        status = os.lstat(source, dir_fd=src_dir_fd)
        if not stat.S_ISLNK(status.st_mode):
            assert status.st_ino in safe, target
            placed.append(target)
        replace_(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "fsync", fsync_noted)
    monkeypatch.setattr(os, "replace", replace_checked)
    put(repository, images, images.image("example.org/b:1", BASE, other=1))
    assert {"origin.json", "manifest.json"} < set(placed)


# ---------------------------------------------------------------------- being killed

KILLED = """
import os, signal, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from tests.unit.publish import test_publisher
from podman_cvmfs.publish import workspace
left = int(sys.argv[2])
def die(call):
    def wrapped(*args, **kwargs):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **kwargs)
    return wrapped
os.rename, os.replace, os.mkdir = die(os.rename), die(os.replace), die(os.mkdir)
images = test_publisher.Images()
image = images.image("example.org/a:1", test_publisher.BASE, test_publisher.TOP)
test_publisher.put(Path(sys.argv[1]), images, image)
"""


def test_killed_anywhere(repository: Path, images: Images) -> None:
    """Before each rename and each new directory: no half image, and the next run cleans up."""
    code = KILLED.format(root=str(Path(__file__).parents[3]))
    old = images.image("example.org/a:1", BASE)
    new = images.image("example.org/a:1", BASE, TOP)
    survived = False
    for steps in range(200):
        subprocess.run(["rm", "-rf", repository], check=True)
        put(repository, images, old)
        done = subprocess.run([sys.executable, "-c", code, repository, str(steps)])
        seen = (repository / "example.org/a:1/opt/app").exists()
        assert (repository / "example.org/a:1/etc/passwd").exists()
        for layer in repository.glob(".layers/*/*"):
            assert (layer / ".metadata/layers.json").exists()
        if done.returncode == 0:
            assert seen
            survived = True
            break
        assert done.returncode == -signal.SIGKILL
        assert not seen
        put(repository, images, new)
        assert leftovers(repository) == []
        assert (repository / "example.org/a:1/opt/app").exists()
    assert survived and steps > 10


def test_a_living_publisher_s_workspace_is_left_alone(repository: Path, images: Images) -> None:
    repository.mkdir()
    other = repository / ".podman-cvmfs-tmp-other"
    other.mkdir()
    with open(other / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        put(repository, images, images.image("example.org/a:1", BASE))
        assert other.exists()
    put(repository, images, images.image("example.org/b:1", BASE))
    assert not other.exists()


def test_two_publishers_at_once(repository: Path, images: Images) -> None:
    from concurrent.futures import ThreadPoolExecutor

    wanted = [images.image(f"example.org/a:{n}", BASE, TOP, number=n % 3) for n in range(12)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda image: put(repository, images, image), wanted))
    assert len(list((repository / "example.org").iterdir())) == 12
    assert len(list(repository.glob(".flat/*/*"))) == 3
    [origin] = [
        json.loads(p.read_bytes())["origin"]
        for p in repository.glob(".layers/*/*/.metadata/origin.json")
    ][:1]
    assert len(origin) == 3
    assert leftovers(repository) == []


def test_links_in_an_image_do_not_lead_the_merge_out(
    tmp_path: Path, repository: Path, images: Images
) -> None:
    outside = tmp_path / "outside"
    (outside / "d").mkdir(parents=True)
    (outside / "d/file").write_text("untouched")
    before = snapshot(outside)
    image = images.image(
        "example.org/a:1",
        [
            symlink("etc", str(outside)),
            symlink("l", f"{outside}/d"),
            symlink("f", f"{outside}/d/file"),
        ],
        [file("etc/x", "in"), whiteout("l/file"), file("l/.wh..wh..opq"), file("f", "in")],
    )
    put(repository, images, image)
    assert snapshot(outside) == before
    flat = repository / "example.org/a:1"
    assert (flat / "etc/x").read_text() == (flat / "f").read_text() == "in"
