# SPDX-License-Identifier: Apache-2.0
"""``podman-cvmfs publish``: its output and its exit codes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from podman_cvmfs.cli import publish as cli
from podman_cvmfs.errors import (
    InputError,
    PartialError,
    PodmanCvmfsError,
    RegistryError,
    RepositoryError,
)
from podman_cvmfs.profiles.profile import Profile, Use, render_profile
from podman_cvmfs.repository.layout import profile_file
from tests.support.layers import Blob, file, pack, sha256
from tests.support.layouts import LAYERS, NAME, Layout, config, images_of


def run(*arguments: str | Path) -> tuple[list[dict[str, Any]], PodmanCvmfsError | None]:
    """Run the command with JSON output; return it and the error the command ended with."""
    done = CliRunner().invoke(cli.command, [*map(str, arguments), "--format", "json"])
    if done.exception is not None and not isinstance(done.exception, PodmanCvmfsError):
        raise done.exception
    return json.loads(done.stdout or "[]"), done.exception


def test_command(layout: Layout, tmp_path: Path) -> None:
    layout.add(layout.image(config()), NAME)
    repository = tmp_path / "repository"
    said, error = run(layout.path, "--repository", repository)
    assert error is None
    image_id = sha256(config())[7:]
    wanted = {
        "source": str(layout.path),
        "name": NAME,
        "image_id": image_id,
        "layers": 2,
        "new_layers": 2,
        "status": "published",
    }
    assert said == [wanted]
    assert (repository / NAME / "top").read_text() == "top"
    said, _ = run(layout.path, "--repository", repository)
    assert said == [{**wanted, "new_layers": 0, "status": "unchanged"}]


def test_a_profile_is_published_with_its_image(layout: Layout, tmp_path: Path) -> None:
    layout.add(layout.image(config()), NAME)
    repository, file = tmp_path / "repository", tmp_path / "profile"
    image_id = sha256(config())[7:]
    data = render_profile(Profile(image_id, (Use("top"),)))
    file.write_bytes(data)
    run(layout.path, "--repository", repository)
    for status in ("published", "unchanged"):
        said, error = run(layout.path, "--repository", repository, "--profile", file)
        assert (error, said[0]["status"]) == (None, status)
    assert (repository / profile_file(image_id)).read_bytes() == data
    # It stays without being given again.
    assert run(layout.path, "--repository", repository)[0][0]["status"] == "unchanged"
    file.write_bytes(data.replace(b"top", b"../top"))
    assert isinstance(
        run(layout.path, "--repository", repository, "--profile", file)[1], InputError
    )
    assert (repository / profile_file(image_id)).read_bytes() == data


def test_one_failure_stops_nobody(layout: Layout, tmp_path: Path) -> None:
    layout.add(layout.image(config()), NAME)
    said, error = run("nosuch", layout.path, "oci:/nosuch", "--repository", tmp_path / "r")
    assert isinstance(error, PartialError)
    assert [entry["status"] for entry in said] == ["failed", "published", "failed"]
    assert said[0]["error"] == "there is no such source: nosuch"


def test_failures_end_with_their_own_error(tmp_path: Path) -> None:
    said, error = run("nosuch", "--repository", tmp_path / "r")
    assert isinstance(error, InputError) and len(said) == 1
    _, error = run("nosuch", "nosuch2", "--repository", tmp_path / "r")
    assert isinstance(error, InputError)
    _, error = run("http://127.0.0.1:1/a:1", "--repository", tmp_path / "r")
    assert isinstance(error, RegistryError)
    (tmp_path / "file").touch()
    _, error = run("nosuch", "--repository", tmp_path / "file")
    assert isinstance(error, RepositoryError)
    assert os.listdir(tmp_path) == ["file"]


def test_one_name_for_several_sources(tmp_path: Path) -> None:
    _, error = run("a", "b", "--name", NAME, "--repository", tmp_path / "r")
    assert isinstance(error, InputError)


def test_a_bad_layer_is_told_with_its_image(layout: Layout, tmp_path: Path) -> None:
    bad = Blob(pack([file("../../evil")]).data, pack([file("../../evil")]).diff_id, "gzip")
    layout.add(layout.image(config([bad]), [bad]), NAME)
    said, error = run(layout.path, "--repository", tmp_path / "r")
    assert isinstance(error, InputError)
    assert said[0]["name"] == NAME and NAME in said[0]["error"] and ".." in said[0]["error"]
    assert not (tmp_path / "evil").exists()


def test_a_damaged_blob_is_told_as_such(layout: Layout, tmp_path: Path) -> None:
    """Not by what its bytes happen to look like."""
    layout.add(layout.image(config()), NAME)
    blob = layout.path / "blobs/sha256" / LAYERS[0].digest[7:]
    blob.write_bytes(b"\x1f\x8b" + b"x" * (len(LAYERS[0].data) - 2))
    said, error = run(layout.path, "--repository", tmp_path / "r")
    assert isinstance(error, InputError)
    begin = f"{NAME}: layer {LAYERS[0].digest}: the blob is damaged: it has another digest"
    assert said[0]["error"] == begin
    blob.unlink()
    said, error = run(layout.path, "--repository", tmp_path / "r")
    assert isinstance(error, InputError) and "No such file" in said[0]["error"]


@pytest.mark.parametrize("part", [".layers", ".flat"])
def test_no_link_in_the_place_of_the_repository_s_directories(
    layout: Layout, tmp_path: Path, part: str
) -> None:
    """A sync would take every image out of the store."""
    layout.add(layout.image(config()), NAME)
    (tmp_path / "repository").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "repository" / part).symlink_to(tmp_path / "elsewhere")
    _, error = run(layout.path, "--repository", tmp_path / "repository")
    assert isinstance(error, RepositoryError)
    assert f"{tmp_path}/repository/{part} is a symbolic link" in error.message
    assert os.listdir(tmp_path / "repository") == [part]
    (tmp_path / "link").symlink_to("new")
    (tmp_path / "new").mkdir()
    _, error = run(layout.path, "--repository", tmp_path / "link")
    assert error is None


@pytest.mark.parametrize("name", [None, "latest"])
def test_images_of_a_layout_that_nothing_tells_apart(layout: Layout, name: str | None) -> None:
    """What skopeo copies to oci:PATH twice are two images, of which none is taken for the other."""
    layout.add(layout.image(config(Cmd=["a"])), name)
    layout.add(layout.image(config(Cmd=["b"])), name)
    with pytest.raises(InputError, match="2 images in it without different names"):
        images_of(str(layout.path), NAME)
