# SPDX-License-Identifier: Apache-2.0
"""Reading a repository, whole and broken."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from podman_cvmfs.errors import RepositoryError
from podman_cvmfs.oci.big_data import big_data_file
from podman_cvmfs.oci.documents import MAX_LAYER, Digest
from podman_cvmfs.repository.ducc import Repository
from podman_cvmfs.repository.records import Problem, PublishedImage
from podman_cvmfs.repository.tree import LinkedError
from tests.support.many import REGISTRY, make_repository


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "repository", 3, layers=2, shared=1)


def _images(root: Path) -> tuple[dict[str, PublishedImage], list[Problem]]:
    problems: list[Problem] = []
    found = {str(image.name): image for image in Repository(str(root)).images(problems)}
    return found, problems


def _manifest_of(root: Path, number: int) -> Path:
    return root / f".metadata/{REGISTRY}/project/app{number}:{number}/manifest.json"


def test_links_name_the_images(root: Path) -> None:
    images, problems = _images(root)
    assert sorted(images) == [f"{REGISTRY}/project/app{n}:{n}" for n in range(3)]
    assert not problems
    repository = Repository(str(root))
    for image in images.values():
        assert image.linked
        manifest = repository.manifest(image)
        assert manifest.config.digest == image.image_id
        assert Digest.of(repository.config_blob(image.image_id) or b"") == image.image_id
        layer = repository.layer(manifest.layers[0].digest)
        assert layer is not None and os.path.isdir(layer.files) and layer.diff_size == 10240
    assert repository.config_blob(Digest("0" * 64)) is None
    assert repository.layer(Digest("0" * 64)) is None
    assert repository.flat_root(Digest("0" * 64)) is None


@pytest.mark.parametrize("part", [".layers", ".flat", ".images"])
def test_a_repository_whose_files_are_behind_a_link(root: Path, part: str) -> None:
    """Not even one that stays inside is followed."""
    (root / ".flat").rename(root / ".other")
    if part == ".layers":
        (root / part).rename(root / ".other/layers")
    (root / part).symlink_to(".other")
    with pytest.raises(LinkedError, match=f"{part} is a symbolic link, not a directory"):
        Repository(str(root))


@pytest.mark.parametrize("part", [".metadata", "podmanStore"])
def test_links_in_place_of_other_directories(root: Path, part: str) -> None:
    (root / part).rename(root / ".other")
    (root / part).symlink_to(".other")
    repository = Repository(str(root))
    problems: list[Problem] = []
    (image, *_) = repository.images(problems)
    ask = {".metadata": repository.manifest, "podmanStore": repository.config_blob}[part]
    with pytest.raises(LinkedError, match=f"{part} is a symbolic link, not a directory"):
        ask(image if part == ".metadata" else image.image_id)  # type: ignore[operator]
    assert [each.path for each in problems] == [".metadata"] * (part == ".metadata")


def test_the_way_is_looked_at_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a cold CernVM-FS every look at another directory is a request."""
    (image, *_) = Repository(str(root)).images([])
    repository = Repository(str(root))
    looked: list[str] = []
    real = os.lstat

    def lstat(path: str | Path) -> os.stat_result:
        looked.append(str(path))
        return real(path)

    monkeypatch.setattr(os, "lstat", lstat)
    for _ in range(3):
        repository.flat_root(image.image_id)
    directory = root / ".flat" / image.image_id.hex[:2]
    assert looked == [str(directory), *[str(directory / image.image_id.hex)] * 3]


def test_an_image_without_link_is_found_by_its_manifest(root: Path) -> None:
    (root / REGISTRY / "project/app1:1").unlink()
    images, problems = _images(root)
    assert not images[f"{REGISTRY}/project/app1:1"].linked
    assert len(images) == 3 and not problems


def test_digest_only_image(root: Path) -> None:
    (root / REGISTRY / "project/app1:1").rename(root / REGISTRY / f"project/app1:sha256:{'d' * 64}")
    described = _manifest_of(root, 1).parent
    described.rename(described.with_name("app1"))
    images, problems = _images(root)
    image = images[f"{REGISTRY}/project/app1@sha256:{'d' * 64}"]
    assert Repository(str(root)).manifest(image).config.digest == image.image_id
    assert not problems


@pytest.mark.parametrize(
    "target",
    ["/etc", "../../../../etc", "../../.flat", "../../.flat/ab/../../../x", "../../.flat/aa/bb"]
    + ["../../.layers/aa/" + "a" * 64, f"../../.flat/bb/{'a' * 64}"],
)
def test_a_link_that_leads_elsewhere_is_a_problem(root: Path, target: str) -> None:
    link = root / REGISTRY / "project/app1:1"
    link.unlink()
    link.symlink_to(target)
    images, problems = _images(root)
    assert f"{REGISTRY}/project/app1:1" not in images
    assert [problem.path for problem in problems] == [f"{REGISTRY}/project/app1:1"]
    assert "not to a merged root" in problems[0].error.message


def test_a_link_may_be_absolute_inside_the_repository(root: Path) -> None:
    link = root / REGISTRY / "project/app1:1"
    target = os.path.basename(os.readlink(link))
    link.unlink()
    link.symlink_to(root / ".flat" / target[:2] / target)
    assert _images(root)[0][f"{REGISTRY}/project/app1:1"].image_id.hex == target


def test_names_that_are_none_are_problems(root: Path) -> None:
    flat = os.readlink(root / REGISTRY / "project/app1:1")
    for name in ("UPPER:1", "esc\x1b[31m:1", "new\nline:1"):
        (root / REGISTRY / "project" / name).symlink_to(flat)
    (root / REGISTRY / "project" / os.fsdecode(b"\xff:1")).symlink_to(flat)
    images, problems = _images(root)
    assert len(images) == 3 and len(problems) == 4
    assert all(problem.error.message.isprintable() for problem in problems)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "not valid JSON"),
        (b"{}", "names no config"),
        (b'{"Config": {"Digest": "sha256:../../x", "Size": 1}}', "not a sha256 digest"),
        (b" " * (4 * 1024 * 1024 + 1), "too many to read"),
    ],
)
def test_a_broken_manifest_is_named(root: Path, content: bytes, words: str) -> None:
    path = _manifest_of(root, 1)
    path.write_bytes(content)
    image = _images(root)[0][f"{REGISTRY}/project/app1:1"]
    with pytest.raises(RepositoryError, match=words) as caught:
        Repository(str(root)).manifest(image)
    assert str(path) in caught.value.message


def test_a_manifest_of_another_image_is_refused(root: Path) -> None:
    _manifest_of(root, 1).write_bytes(_manifest_of(root, 2).read_bytes())
    image = _images(root)[0][f"{REGISTRY}/project/app1:1"]
    with pytest.raises(RepositoryError, match="but its public link leads to"):
        Repository(str(root)).manifest(image)


def test_what_is_no_file_is_not_read(root: Path) -> None:
    path = _manifest_of(root, 1)
    image = _images(root)[0][f"{REGISTRY}/project/app1:1"]
    makers: list[Callable[[Path], None]] = [
        lambda path: path.mkdir(),
        lambda path: os.mkfifo(path),
        lambda path: path.symlink_to("/dev/zero"),
    ]
    for make in makers:
        path.unlink()
        make(path)
        with pytest.raises(RepositoryError, match=r"manifest\.json"):
            Repository(str(root)).manifest(image)
        if path.is_dir():
            path.rmdir()
            path.touch()
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(path.parent, os.O_RDONLY)
        try:
            listener.bind(f"/proc/self/fd/{here}/manifest.json")
        finally:
            os.close(here)
        with pytest.raises(RepositoryError, match=r"manifest\.json"):
            Repository(str(root)).manifest(image)


@pytest.mark.parametrize(
    "content",
    ["[]", "{}", "[1]", '[{"diff-digest": "x"}]', "[", f'[{{"diff-size": {10**30}}}]']
    + [f'[{{"diff-size": {MAX_LAYER + 1}}}]', '[{"diff-size": NaN}]', '[{"diff-size": 1e999}]'],
)
def test_a_broken_layer_description_is_named(root: Path, content: str) -> None:
    image = _images(root)[0][f"{REGISTRY}/project/app1:1"]
    repository = Repository(str(root))
    digest = repository.manifest(image).layers[1].digest
    path = root / f".layers/{digest.hex[:2]}/{digest.hex}/.metadata/layers.json"
    path.write_text(content)
    with pytest.raises(RepositoryError, match=r"layers\.json"):
        repository.layer(digest)
    path.write_text(json.dumps([{"id": "x"}]))
    found = repository.layer(digest)
    assert found is not None and found.diff_id is None and found.diff_size is None


def test_no_repository(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match=r"no such repository: .*/absent"):
        Repository(str(tmp_path / "absent"))
    (tmp_path / "file").touch()
    with pytest.raises(RepositoryError, match="file is not a directory"):
        Repository(str(tmp_path / "file"))


def test_a_directory_that_cannot_be_listed_is_one_problem(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.scandir

    def scandir(path: str) -> object:
        if path.endswith(f"/{REGISTRY}/project") and ".metadata" not in path:
            raise OSError(5, os.strerror(5), path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    (root / ".metadata").rename(root / ".hidden")
    images, problems = _images(root)
    assert not images
    assert [problem.path for problem in problems] == [f"{REGISTRY}/project"]
    assert "Input/output error" in problems[0].error.message


def test_a_manifest_is_found_below_many_later_indexes(tmp_path: Path) -> None:
    """An index is a new one whenever an image for any architecture is."""
    image = Digest.of(b"config")
    place = tmp_path / "podmanStore/overlay-images" / image.hex
    place.mkdir(parents=True)
    documents = [b"manifest", *(b"index %d" % number for number in range(1000))]
    for number, document in enumerate(documents):
        path = place / big_data_file(f"manifest-{Digest.of(document)}")
        path.write_bytes(document)
        os.utime(path, (number, number))
    found = Repository(str(tmp_path)).manifest_blobs(image)
    assert (found[0], found[-1]) == (documents[-1], b"manifest") and len(found) < 100
