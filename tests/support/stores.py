# SPDX-License-Identifier: Apache-2.0
"""Stores of small images, for tests to spoil."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.oci.big_data import big_data_file
from podman_cvmfs.settings.policy import DEFAULT_POLICY, Policy
from podman_cvmfs.store import layout
from podman_cvmfs.store.reader import read_store
from podman_cvmfs.store.records import StoreContent, StoredImage, StoredLayer
from podman_cvmfs.store.store import Store
from podman_cvmfs.sync.report import SyncReport
from podman_cvmfs.sync.request import SyncRequest
from podman_cvmfs.sync.run import sync
from tests.support.many import make_repository
from tests.support.released import LAYOUT_4, released

JSON = (
    layout.STATE,
    f"{layout.LAYERS}/{layout.LAYERS_JSON}",
    f"{layout.IMAGES}/{layout.IMAGES_JSON}",
)


def small_repository(root: Path, images: int = 3) -> Path:
    """A repository of ``images`` images of three layers, of which the upper two delete files."""
    make_repository(root, images, layers=3, shared=1)
    for number, layer in enumerate(sorted((root / ".layers").glob("*/*/layerfs"))):
        (layer / "etc").mkdir()
        (layer / "etc" / f"file{number}").touch()
    return root


def with_whiteouts(root: Path) -> Path:
    """The same repository, whose layers also have a whiteout and an opaque directory each."""
    for layer in (root / ".layers").glob("*/*/layerfs"):
        (layer / "etc/.wh.gone").touch()
        (layer / "opt").mkdir()
        (layer / "opt/.wh..wh..opq").touch()
    return root


class Spoilt:
    """A store of the images of ``repository``, and the means to spoil it."""

    def __init__(
        self,
        repository: Path,
        root: Path,
        policy: Policy = DEFAULT_POLICY,
        *,
        is_there: bool = False,
    ) -> None:
        self.repository = repository
        self.root = root
        self.policy = policy
        self.path = root / "store"
        if not is_there:
            self.sync()

    @classmethod
    def former(cls, root: Path, policy: Policy) -> Spoilt:
        """A store of layout 4, with its repository."""
        argv = [sys.executable, "-m", "podman_cvmfs", "sync", "--offline"]
        argv += ["--repository", str(small_repository(root / "repository"))]
        argv += ["--store", str(root / "store"), "--cache", str(root / "cache")]
        subprocess.run(
            [*argv, "--view", policy.view.value, "--reuse", policy.reuse.value],
            env={**os.environ, "PYTHONPATH": str(released(LAYOUT_4, root))},
            cwd=root,
            check=True,
        )
        return cls(root / "repository", root, policy, is_there=True)

    def sync(self, *names: str) -> SyncReport:
        """Sync the store, offline."""
        cache = BlobCache(str(self.root / "cache"))
        roots = [str(self.repository)]
        return sync(
            SyncRequest(roots, Store(str(self.path)), cache, None, names, policy=self.policy)
        )

    @property
    def content(self) -> StoreContent:
        """What the store holds."""
        content = read_store(str(self.path))
        assert content is not None
        return content

    @property
    def generation(self) -> Path:
        """The directory of the current generation."""
        return Path(os.path.realpath(self.path / layout.CURRENT))

    @property
    def image(self) -> StoredImage:
        """One of its images."""
        return next(iter(self.content.images.values()))

    @property
    def top(self) -> StoredLayer:
        """The top layer of that image."""
        assert self.image.top_layer is not None
        return self.content.layers[self.image.top_layer]

    @property
    def base(self) -> StoredLayer:
        """The base layer of all images."""
        return next(layer for layer in self.content.layers.values() if layer.parent is None)

    def layer_path(self, layer: StoredLayer) -> Path:
        """The directory of a layer in the pool."""
        return self.path / layout.POOL_LAYERS / layer.entry

    def pieces_of(self, layer: StoredLayer) -> list[Path]:
        """The directories in the pool of the pieces that a layer mounts, nearest first."""
        assert layer.lowers is not None
        pool = self.path / layout.POOL_LAYERS
        return [pool / layout.piece_entry(piece_id) for piece_id in layer.lowers]

    @property
    def linked(self) -> list[Path]:
        """Those of the top layer that link into the repository."""
        return [path for path in self.pieces_of(self.top) if (path / "diff").is_symlink()]

    @property
    def local(self) -> list[Path]:
        """Those of the top layer that are local: the skeleton first, then, of each layer with
        whiteouts, what hides its markers and what these mean."""
        return [path for path in self.pieces_of(self.top) if not (path / "diff").is_symlink()]

    def stand_in_path(self) -> Path:
        """The directory of a layer that mounts nothing."""
        empty = (layer for layer in self.content.layers.values() if layer.lowers == ())
        return self.layer_path(next(empty))

    def image_path(self, name: str) -> Path:
        """A file of the image in the pool: ``manifest`` or ``config``."""
        key = f"sha256:{self.image.image_id}" if name == "config" else name
        return self.path / layout.POOL_IMAGES / self.image.entry / big_data_file(key)

    def edit(self, name: str, change: Callable[[Any], Any]) -> None:
        """Change the document ``name`` as if it had been written so: checksums go with it."""
        path = self.generation / name
        document = json.loads(path.read_bytes())
        change(document)
        path.write_text(json.dumps(document, separators=(",", ":"), ensure_ascii=False))
        self.sum_up()

    def sum_up(self) -> None:
        """Make the checksums those of the files as they are."""
        files = {name: (self.generation / name).read_bytes() for name in JSON}
        (self.generation / layout.SUMS).write_bytes(layout.sums(files))


def flip(path: Path, position: int = 100) -> None:
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[position % len(data)] ^= 1
    path.write_bytes(data)


def retarget(path: Path, target: str) -> None:
    """Let a link lead elsewhere."""
    path.unlink()
    path.symlink_to(target)


def replaced(path: Path, make: Callable[[Path], object]) -> None:
    """Put what ``make`` makes in the place of what is at ``path``."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
    make(path)


def whiteout(path: Path) -> None:
    """Make an overlay whiteout."""
    os.mknod(path, 0o020600, os.makedev(0, 0))
