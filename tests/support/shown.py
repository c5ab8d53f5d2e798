# SPDX-License-Identifier: Apache-2.0
"""The files that layers of a world's store show, and repositories that are hard to show."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from podman_cvmfs.store.records import StoredLayer
from tests.support.many import make_repository
from tests.support.world import World, app


def hex_of(text: str) -> str:
    """The digest that ``make_repository`` gives to a blob or diff of this name, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def whiteout(repository: Path, blob: str) -> None:
    """Give a layer a marker file."""
    digest = hex_of(blob)
    (repository / ".layers" / digest[:2] / digest / "layerfs/.wh.gone").touch()


def hides_markers(world: World, layer: StoredLayer) -> bool:
    """Whether a marker file doesn't show through a layer."""
    for each in world.pieces(layer):
        if (each / ".wh.gone").is_char_device():
            return True
        if (each / ".wh.gone").exists():
            return False
    raise AssertionError("there is no marker")


def nested(world: World, layers: int = 2) -> Path:
    """A repository of app0, whose top layer lies below that of app1, which has no merged root."""
    repository = make_repository(world.root / "nested", 1, layers=layers, shared=layers)
    other = make_repository(world.root / "other", 2, layers=layers + 1, shared=layers)
    (other / app(0)).unlink()
    shutil.rmtree(other / ".metadata" / app(0))
    (other / app(1)).unlink()
    shutil.rmtree(other / ".flat")
    shutil.copytree(other, repository, symlinks=True, dirs_exist_ok=True)
    return repository


def mounted(world: World, number: int) -> list[Path]:
    """What podman would mount below an image's top, in which nothing may be missing."""
    return lowers(world, world.layers(number)[0].layer_id)


def lowers(world: World, layer_id: str) -> list[Path]:
    """The same below a layer."""
    lower = Path(world.store.path, "overlay", layer_id, "lower")
    places = [Path(world.store.path, "overlay", each) for each in lower.read_text().split(":")]
    return [place.resolve(strict=True) for place in places]
