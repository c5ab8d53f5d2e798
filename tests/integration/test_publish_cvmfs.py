# SPDX-License-Identifier: Apache-2.0
"""Publishing into a CernVM-FS repository: one transaction, or nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.cli import podman_cvmfs
from tests.support.cvmfs_publisher import NAME, Server
from tests.support.images import Image, build, push, renamed
from tests.support.layers import sha256
from tests.support.registry import Registry

LAYERS = ["base", "app", "odd-names", "links", "modes", "delete", "opaque"]
IMAGE = Image("t/app:1.0", LAYERS, {"Cmd": ["true"]})


def wish_list(tmp_path: Path, names: list[str]) -> Path:
    path = tmp_path / "wishes.txt"
    path.write_text("".join(f"{name}\n" for name in names))
    return path


def test_a_list_is_one_transaction(server: Server, registry: Registry, tmp_path: Path) -> None:
    names = [push(renamed(build(IMAGE), f"t/app:{number}"), registry) for number in range(5)]
    command = ("--wish-list", wish_list(tmp_path, names))
    done = server.publish(*command)
    assert done.returncode == 0, done.stderr
    assert "publishing 5 images by one transaction" in done.stderr
    assert server.transactions == 1
    assert server.staged() == []
    # As a plain directory, but for the catalogues.
    plain = tmp_path / "plain"
    assert podman_cvmfs("publish", *command, "--repository", plain).returncode == 0
    assert tree(server.tree) == tree(plain)
    catalogues = {path.parent.relative_to(server.tree) for path in found(server.tree, True)}
    assert catalogues == {
        path.relative_to(plain)
        for path in [*plain.glob(".flat/*/*"), *plain.glob(".layers/*/*/layerfs")]
    }

    done = server.publish(*command)
    assert done.returncode == 0, done.stderr
    assert done.stderr.endswith("0 published, 5 unchanged, 0 failed\n")
    assert server.transactions == 1

    # A tag moves, and the image shares a layer that is in the repository alone.
    names[0] = push(
        renamed(build(Image("t/app:0", ["base"], {"Cmd": ["true"]})), "t/app:0"), registry
    )
    done = server.publish(*command)
    assert done.returncode == 0, done.stderr
    assert server.transactions == 2
    assert podman_cvmfs("publish", *command, "--repository", plain).returncode == 0
    assert tree(server.tree) == tree(plain)


def found(root: Path, catalogues: bool) -> Iterator[Path]:
    for path in sorted(root.rglob("*")):
        if path.name.startswith(".podman-cvmfs") or (path.is_dir() and not path.is_symlink()):
            continue
        if (path.name == ".cvmfscatalog") == catalogues:
            yield path


def tree(root: Path) -> dict[str, tuple[object, ...]]:
    """All files with what a container could see of them."""
    return {str(path.relative_to(root)): _look(path) for path in found(root, False)}


def _look(path: Path) -> tuple[object, ...]:
    status = path.lstat()
    content = os.readlink(path) if path.is_symlink() else None
    if path.is_file() and not path.is_symlink():
        content = path.read_bytes().hex()
    attributes = [
        (key, os.getxattr(path, key, follow_symlinks=False))
        for key in os.listxattr(path, follow_symlinks=False)
    ]
    is_of_image = "/.flat/" in str(path) or "/layerfs/" in str(path)
    # The stand-in doesn't give links their time.
    time_of_file = int(status.st_mtime) if is_of_image and not path.is_symlink() else 0
    return status.st_mode, status.st_uid, status.st_gid, time_of_file, content, attributes


def test_a_failure_shows_nothing(server: Server, registry: Registry) -> None:
    name = push(build(IMAGE), registry)
    (server.root / f"{NAME}.fails").touch()
    done = server.publish(f"http://{name}")
    assert done.returncode == 4
    assert (
        "cvmfs_server can't publish into images.example.org: Synchronization failed" in done.stderr
    )
    assert server.visible() == []
    (server.root / f"{NAME}.fails").unlink()
    # What was unpacked isn't fetched again.
    mark = len(registry.requests())
    done = server.publish(f"http://{name}")
    assert done.returncode == 0, done.stderr
    assert server.transactions == 1
    layers = [sha256(blob.data) for blob in build(IMAGE).blobs]
    assert not [each for each in registry.since(mark) if each.path.endswith(tuple(layers))]


def test_a_stranger_s_transaction_is_left_alone(server: Server, registry: Registry) -> None:
    name = push(build(IMAGE), registry)
    (server.root / f"{NAME}.transaction").touch()
    done = server.publish(f"http://{name}")
    assert done.returncode == 4
    assert "another transaction is already open" in done.stderr
    assert (server.root / f"{NAME}.transaction").exists()
    assert server.visible() == []


def test_what_was_staged_fits_the_repository_as_it_is_now(
    server: Server, registry: Registry
) -> None:
    first = push(build(Image("t/first:1", ["base", "app"], {"Cmd": ["true"]})), registry)
    second = push(build(Image("t/second:1", ["base", "links"], {"Cmd": ["true"]})), registry)
    assert server.publish(f"http://{first}").returncode == 0
    fails = server.root / f"{NAME}.fails"
    fails.touch()
    assert server.publish(f"http://{second}").returncode == 4
    fails.unlink()
    # Meanwhile DUCC has an image on their common layer.
    (origin,) = (
        path
        for path in server.tree.glob(".layers/*/*/.metadata/origin.json")
        if (server.staging / NAME / path.relative_to(server.tree)).exists()
    )
    ducc = "sha256:" + "d" * 64
    origin.write_text(json.dumps({"origin": [*json.loads(origin.read_text())["origin"], ducc]}))
    assert server.publish(f"http://{second}").returncode == 0
    assert len(json.loads(origin.read_text())["origin"]) == 3

    # Or the layer has left it: what is staged is of no use.
    remove = ["unpublish", "--repository", f"/cvmfs/{NAME}", "--grace", "0"]
    assert podman_cvmfs(*remove, second, within=server.within).returncode == 0
    fails.touch()
    assert server.publish(f"http://{second}").returncode == 4
    fails.unlink()
    origin.write_text(json.dumps({"origin": [json.loads(origin.read_text())["origin"][0]]}))
    assert podman_cvmfs(*remove, first, within=server.within).returncode == 0
    assert not origin.exists()
    done = server.publish(f"http://{second}")
    assert done.returncode == 0, done.stderr
    assert "has left images.example.org: all images are unpacked anew" in done.stderr
    assert (origin.parents[1] / "layerfs").is_dir() and (server.tree / second).is_symlink()


def test_a_killed_publisher_leaves_nothing_visible(
    server: Server, registry: Registry, tmp_path: Path
) -> None:
    names = [push(renamed(build(IMAGE), f"t/app:{number}"), registry) for number in range(4)]
    command = ("--wish-list", wish_list(tmp_path, names))
    argv = [sys.executable, "-m", "podman_cvmfs", *server.argv(*command)]
    for pause in (0.5, 0.7, 0.9, 1.1, 1.3):
        with subprocess.Popen(server.within.command(argv), stderr=subprocess.DEVNULL) as process:
            time.sleep(pause)
            process.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + 20
        while (server.root / f"{NAME}.transaction").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        shown = [name for name in names if (server.tree / name).is_symlink()]
        assert shown in ([], names)
    done = server.publish(*command)
    assert done.returncode == 0, done.stderr
    assert all((server.tree / name).is_symlink() for name in names)
