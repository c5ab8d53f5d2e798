# SPDX-License-Identifier: Apache-2.0
"""Images that cannot be published: nothing of them is left."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from podman_cvmfs.errors import InputError, RegistryError, RepositoryError
from podman_cvmfs.oci.documents import Descriptor
from podman_cvmfs.publish.publisher import check_directory, publish
from podman_cvmfs.publish.unpack.merge import Merger
from tests.support.layers import file, pack
from tests.support.memory_images import Images, put
from tests.support.published import BASE, TOP, blob
from tests.support.trees import snapshot


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
