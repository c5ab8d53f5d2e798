# SPDX-License-Identifier: Apache-2.0
"""What we say of images, held against what a real podman says and does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Gallery
from tests.support.cli import podman_cvmfs
from tests.support.images import build, push, renamed
from tests.support.podman import Podman, running
from tests.support.registry import Registry


@pytest.fixture
def podman(gallery: Gallery, no_registry: Registry, tmp_path: Path) -> Iterator[Podman]:
    """A podman with nothing of its own that uses the gallery's store."""
    aliases = {"the-app": f"{gallery.registry}/t/app"}
    with running(
        tmp_path / "podman",
        stores=[gallery.target.store],
        insecure=[gallery.registry],
        aliases=aliases,
    ) as podman:
        yield podman


def ask(gallery: Gallery, podman: Podman, *args: str) -> tuple[int, Any]:
    """Run podman-cvmfs with podman's configuration; its exit code and the JSON it prints."""
    target = gallery.target
    settings = podman.root / "settings.toml"
    settings.write_text(
        f'repositories = ["{target.repository}"]\nstore = "{target.store}"\noffline = true\n'
    )
    env = {**podman.env, "PODMAN_CVMFS_CONFIG": str(settings)}
    prefix = ["env", "-i", *(f"{key}={value}" for key, value in env.items())]
    done = podman_cvmfs(*args, "--format", "json", within=podman.namespace, prefix=prefix)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def codes(answer: Any) -> list[str]:
    return [reason["code"] for reason in answer["reasons"]]


@pytest.mark.parametrize("text", ["full", "t/app:1", "the-app:1", "id", "digest"])
def test_a_hit_runs_without_a_pull(gallery: Gallery, podman: Podman, text: str) -> None:
    built = gallery.images["t/app:1"]
    name = {
        "full": gallery.name("t/app:1"),
        "id": built.image_id[:12],
        "digest": f"{gallery.registry}/t/app@{built.digest}",
    }.get(text, text)
    status, answer = ask(gallery, podman, "why", name)
    assert (status, codes(answer), answer["id"]) == (0, ["in-store"], built.image_id)
    assert podman.run("run", "--rm", "--pull=never", name).stdout == built.image.prints


def test_a_miss_does_not(gallery: Gallery, podman: Podman) -> None:
    name = gallery.name("t/app:other")
    status, answer = ask(gallery, podman, "why", name)
    assert (status, codes(answer)) == (1, ["not-in-repository"])
    assert answer["podman_run"] == f"pulls it from {name}"
    assert podman.run("run", "--rm", "--pull=never", name, check=False).returncode != 0


def test_without_the_store_in_storage_conf(gallery: Gallery, tmp_path: Path) -> None:
    name = gallery.name("t/app:1")
    with running(tmp_path / "bare", stores=[], insecure=[gallery.registry]) as podman:
        status, answer = ask(gallery, podman, "why", name)
        assert (status, codes(answer)) == (1, ["in-store", "store-not-configured"])
        assert podman.run("run", "--rm", "--pull=never", name, check=False).returncode != 0


@pytest.mark.parametrize("fault", ["missing store", "broken file"])
def test_where_podman_itself_fails(gallery: Gallery, podman: Podman, fault: str) -> None:
    name, conf = gallery.name("t/app:1"), Path(podman.env["CONTAINERS_STORAGE_CONF"])
    text = conf.read_text()
    ours = f'"{gallery.target.store}"'
    assert ours in text
    spoilt = text.replace(ours, f'{ours}, "/nowhere"') if fault == "missing store" else f"{text}["
    conf.write_text(spoilt)
    status, answer = ask(gallery, podman, "why", name)
    assert (status, codes(answer)) == (1, ["in-store", "podman-fails"])
    assert answer["podman_run"].startswith("fails: ")
    assert podman.run("images", check=False).returncode != 0


def test_a_tag_of_ones_own_stands_on_our_layers(gallery: Gallery, podman: Podman) -> None:
    name = gallery.name("t/app:1")
    podman.run("tag", name, "localhost/mine:1")
    status, answer = ask(gallery, podman, "why", name)
    assert (status, codes(answer)) == (0, ["in-store", "own-copy"])
    status, answer = ask(gallery, podman, "why", "mine:1")
    assert status == 1
    assert answer["podman_run"].startswith(f"starts {gallery.images['t/app:1'].image_id[:12]}")
    assert podman.run("run", "--rm", "--pull=never", "mine:1").returncode == 0


def test_an_image_of_ones_own_wins(gallery: Gallery, podman: Podman, tmp_path: Path) -> None:
    name = gallery.name("t/plain:1")
    context = tmp_path / "context"
    context.mkdir()
    (context / "mark").write_text("own\n")
    (context / "Containerfile").write_text(f"FROM {name}\nCOPY mark /mark\n")
    podman.run("build", "--quiet", "--pull=never", f"--tag={name}", str(context))
    status, answer = ask(gallery, podman, "why", name)
    assert (status, codes(answer)) == (1, ["in-store", "shadowed"])
    own = podman.inspect(name)["Id"]
    assert answer["podman_run"].startswith(f"starts {own[:12]} from ")
    assert podman.run("run", "--rm", "--pull=never", name, "cat", "/mark").stdout == "own\n"


def test_images_are_those_of_podman_images(gallery: Gallery, podman: Podman) -> None:
    _, rows = ask(gallery, podman, "images")
    listed = podman.json("images", "--format", "json")
    theirs = {name: image["Id"] for image in listed for name in image["Names"]}
    assert {row["name"]: row["id"] for row in rows} == theirs
    assert {row["state"] for row in rows} == {"in store"}


def test_inspect_agrees_with_podman_inspect(gallery: Gallery, podman: Podman) -> None:
    for key in gallery.images:
        _, (ours,) = ask(gallery, podman, "inspect", gallery.name(key))
        theirs = podman.inspect(gallery.name(key))
        for field in ("Id", "Digest", "Architecture", "Os"):
            assert ours[field] == theirs[field]
        assert [layer["DiffId"] for layer in ours["Layers"]] == (theirs["RootFS"]["Layers"] or [])
        top = ours["Layers"][-1]["Id"] if ours["Layers"] else None
        assert top is None or f"/{top}/" in json.dumps(theirs["GraphDriver"])


def test_status_counts_what_podman_lists(gallery: Gallery, podman: Podman) -> None:
    _, status = ask(gallery, podman, "status")
    listed = podman.json("images", "--format", "json")
    assert status["counts"]["names"] == sum(len(image["Names"]) for image in listed)
    assert status["counts"]["images"] == len({image["Id"] for image in listed})


def test_images_ask_the_registry(gallery: Gallery, registry: Registry, tmp_path: Path) -> None:
    moved = renamed(build(gallery.images["t/app:1"].image), "t/plain:1")
    before = gallery.images["t/plain:1"]
    with running(tmp_path / "podman", stores=[], insecure=[gallery.registry]) as podman:
        push(moved, registry)
        try:
            _, rows = ask(gallery, podman, "images", "--registry")
        finally:
            push(before, registry)
        states = {row["name"]: row["registry"] for row in rows}
        assert states.pop(gallery.name("t/plain:1")) == "moved"
        assert set(states.values()) == {"same"}
        registry.stop()
        _, rows = ask(gallery, podman, "images", "--registry", "*/app:1")
        assert {row["registry"] for row in rows} == {"no answer"}
