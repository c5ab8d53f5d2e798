# SPDX-License-Identifier: Apache-2.0
"""Removing images from a repository: names at once, files after a grace, others' never."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support.cli import podman_cvmfs, succeed
from tests.support.cvmfs_publisher import NAME, Server
from tests.support.images import Built, Image, build, write_layout

#: Three images; the first two share a layer.
BUILT = [
    build(Image("t/one:1", ["base", "app"], {"Cmd": ["true"]})),
    build(Image("t/two:1", ["base", "links"], {"Cmd": ["true"]})),
    build(Image("t/three:1", ["other"], {"Cmd": ["true"]})),
]
HOST = "registry.example.org"


def names(count: int = 3) -> list[str]:
    return [f"{HOST}/{built.image.name}" for built in BUILT[:count]]


def layouts(tmp_path: Path) -> list[tuple[Path, str]]:
    made = []
    for number, built in enumerate(BUILT):
        path = tmp_path / f"layout{number}"
        if not path.exists():
            write_layout([built], path)
        made.append((path, f"{HOST}/{built.image.name}"))
    return made


def fill(tmp_path: Path) -> Path:
    repository = tmp_path / "repository"
    for path, name in layouts(tmp_path):
        succeed("publish", path, "--name", name, "--repository", repository)
    return repository


def unpublish(repository: Path, *words: str | Path) -> dict[str, list[str]]:
    done = succeed("unpublish", "--repository", repository, "--format", "json", *words)
    found = json.loads(done)
    assert isinstance(found, dict)
    return found


def layers(repository: Path) -> set[str]:
    return {f"sha256:{path.name}" for path in repository.glob(".layers/*/*")}


def roots(repository: Path) -> set[str]:
    return {path.name for path in repository.glob(".flat/*/*")}


def own_layers(built: Built) -> set[str]:
    others = {blob.digest for each in BUILT if each is not built for blob in each.blobs}
    return {blob.digest for blob in built.blobs} - others


def test_names_go_at_once_and_files_after_the_grace(tmp_path: Path) -> None:
    repository = fill(tmp_path)
    before = layers(repository)
    one = BUILT[0]
    dry = unpublish(repository, names()[0], "--dry-run", "--grace", "0")
    assert dry["names"] == [names()[0]] and set(dry["layers"]) == own_layers(one)
    assert (repository / names()[0]).is_symlink() and layers(repository) == before

    done = unpublish(repository, names()[0])
    assert (done["names"], done["images"], done["waiting"]) == ([names()[0]], [], [one.image_id])
    assert not os.path.lexists(repository / names()[0])
    assert not (repository / ".metadata" / names()[0]).exists()
    assert layers(repository) == before and one.image_id in roots(repository)
    # Published again in the grace, it is there at once, and its grace is forgotten.
    for path, name in layouts(tmp_path)[:1]:
        succeed("publish", path, "--name", name, "--repository", repository)
    assert unpublish(repository, "--grace", "0")["images"] == []

    done = unpublish(repository, names()[0], "--grace", "0")
    assert done["images"] == [one.image_id]
    assert layers(repository) == before - own_layers(one)
    assert roots(repository) == {built.image_id for built in BUILT[1:]}
    # The others are whole.
    for path, name in layouts(tmp_path)[1:]:
        said = podman_cvmfs("publish", path, "--name", name, "--repository", repository)
        assert f"{name}: unchanged" in said.stderr
    assert unpublish(repository, *names()[1:], "--grace", "0")["layers"]
    assert layers(repository) == set() == roots(repository)
    assert not (repository / HOST).exists()


def test_what_a_list_does_not_want_goes(tmp_path: Path) -> None:
    repository = fill(tmp_path)
    wishes = tmp_path / "wishes.txt"
    wishes.write_text(f"{HOST}/t/t*:1\n")
    bad = podman_cvmfs("unpublish", "--repository", repository, "--not-in", wishes)
    assert bad.returncode == 3 and (repository / names()[0]).is_symlink()
    wishes.write_text(f"{HOST}/t/two:*\n{HOST}/t/three:1\nnot an image\n")
    bad = podman_cvmfs("unpublish", "--repository", repository, "--not-in", wishes)
    assert bad.returncode == 3 and "nothing was removed" in bad.stderr
    assert (repository / names()[0]).is_symlink()
    wishes.write_text(f"{HOST}/t/two:*\n{HOST}/t/three:1\n")
    assert unpublish(repository, "--not-in", wishes)["names"] == names(1)


def test_what_others_published_stays(tmp_path: Path) -> None:
    repository = fill(tmp_path)
    one, two, three = names()
    # DUCC has another image on the first one's own layer, and a name for the second one.
    (top,) = own_layers(BUILT[0])
    origin = repository / f".layers/{top[7:9]}/{top[7:]}/.metadata/origin.json"
    document = json.loads(origin.read_text())
    document["origin"].append("sha256:" + "d" * 64)
    origin.write_text(json.dumps(document))
    ducc = repository / ".multiarch/amd64" / two
    ducc.parent.mkdir(parents=True)
    ducc.symlink_to(f"../../../../.flat/{BUILT[1].image_id[:2]}/{BUILT[1].image_id}")
    # Of the third one the record is missing, as if DUCC had published it.
    record = repository / f".podman-cvmfs/published/{BUILT[2].image_id[:2]}/{BUILT[2].image_id}"
    record.unlink()

    refused = podman_cvmfs("unpublish", "--repository", repository, three)
    assert refused.returncode == 3 and "was not published" in refused.stderr
    done = unpublish(repository, one, two, "--grace", "0")
    assert done["images"] == [BUILT[0].image_id] and done["layers"] == []
    assert roots(repository) == {BUILT[1].image_id, BUILT[2].image_id}
    assert json.loads(origin.read_text())["origin"] == ["sha256:" + "d" * 64]
    assert (repository / three).is_symlink() and ducc.is_symlink()


def test_no_record_leads_out_of_the_repository(tmp_path: Path) -> None:
    """Whoever may publish into the repository could write one."""
    repository = tmp_path / "outer/repository"
    repository.parent.mkdir(mode=0o755)
    fill(tmp_path).rename(repository)
    image = BUILT[0].image_id
    record = repository / f".podman-cvmfs/published/{image[:2]}/{image}"
    document = json.loads(record.read_text())
    # The manifest of an image is in a directory with the name of the image: "outer/victim".
    name = "../../victim"
    (tmp_path / "victim").symlink_to(f"x/{image}")
    victim = tmp_path / "outer/victim"
    victim.mkdir()
    (victim / "file").write_text("of somebody else")
    wishes = tmp_path / "wishes.txt"
    wishes.write_text(f"{HOST}/t/two:1\n")
    for names in ([name], [f"{HOST}/../../../victim:1"], ["no name"]):
        record.write_text(json.dumps({**document, "names": names}))
        done = podman_cvmfs("unpublish", "--repository", repository, "--not-in", wishes)
        assert done.returncode == 4 and image in done.stderr, done.stderr
        assert (victim / "file").exists() and (tmp_path / "victim").is_symlink()


def test_an_image_with_a_long_name_stays(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    name = f"{HOST}/{'group/' * 30}one:1"
    succeed("publish", layouts(tmp_path)[0][0], "--name", name, "--repository", repository)
    assert unpublish(repository, "--grace", "0")["images"] == []
    assert unpublish(repository, name, "--grace", "0")["images"] == [BUILT[0].image_id]


def test_a_publisher_does_not_lose_a_layer_that_is_removed(tmp_path: Path) -> None:
    """Each publishes or removes as a whole: an image that is named is complete."""
    repository = fill(tmp_path)
    path, name = layouts(tmp_path)[0]
    argv = ["publish", str(path), "--name", name, "--repository", str(repository)]
    for _ in range(4):
        succeed("unpublish", name, "--repository", repository)

        beside = [sys.executable, "-m", "podman_cvmfs", *argv, "--assume-nosuid"]
        with subprocess.Popen(beside, stderr=subprocess.PIPE) as publisher:
            podman_cvmfs("unpublish", "--repository", repository, "--grace", "0")
            publisher.communicate()
        succeed(*argv)
        said = podman_cvmfs(*argv)
        assert "unchanged" in said.stderr
        assert {blob.digest for blob in BUILT[0].blobs} <= layers(repository)


def test_cernvm_fs_is_changed_by_one_transaction(server: Server, tmp_path: Path) -> None:
    for path, name in layouts(tmp_path):
        done = server.publish(path, "--name", name)
        assert done.returncode == 0, done.stderr
    begun = server.transactions
    repository = f"/cvmfs/{NAME}"

    def remove(*words: str) -> subprocess.CompletedProcess[str]:
        return podman_cvmfs("unpublish", "--repository", repository, *words, within=server.within)

    done = remove(names()[0], "--grace", "0", "--dry-run")
    assert (done.returncode, server.transactions) == (0, begun), done.stderr
    (server.root / f"{NAME}.fails").touch()
    done = remove(names()[0], "--grace", "0")
    assert done.returncode == 4 and "Synchronization failed" in done.stderr
    (server.root / f"{NAME}.fails").unlink()
    done = remove("registry.example.org/t/no:1")
    assert done.returncode == 3
    assert not (server.root / f"{NAME}.transaction").exists()
    assert (server.tree / names()[0]).is_symlink()
    done = remove(names()[0], "--grace", "0")
    assert done.returncode == 0, done.stderr
    assert server.transactions == begun + 1
    assert roots(server.tree) == {built.image_id for built in BUILT[1:]}
    assert not [name for name in server.visible() if name.startswith(".podman-cvmfs-")]
