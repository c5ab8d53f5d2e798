# SPDX-License-Identifier: Apache-2.0
"""What a hostile publisher can put into a repository, one thing at a time."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from podman_cvmfs.oci.big_data import big_data_file
from tests.support.many import REGISTRY

#: Which image of the repository is spoiled; the others must come to no harm.
VICTIM = 2
NAME = f"{REGISTRY}/project/app{VICTIM}:{VICTIM}"

Spoil = Callable[["Scene"], None]


class Scene:
    """A repository to be spoiled, with places outside that must not be touched or shown."""

    def __init__(self, repository: Path, outside: Path) -> None:
        self.repository = repository
        self.outside = outside
        self.link = repository / NAME
        self.flat = self.link.parent / os.readlink(self.link)
        self.manifest = repository / ".metadata" / NAME / "manifest.json"
        document = json.loads(self.manifest.read_text())
        top = document["Layers"][-1]["Digest"][7:]
        self.layer = repository / ".layers" / top[:2] / top
        self.description = self.layer / ".metadata/layers.json"
        digest = document["Config"]["Digest"]
        self.config = repository / "podmanStore/overlay-images" / digest[7:] / big_data_file(digest)

    def without_flat(self) -> Scene:
        """Take the merged root away, so that the layers are shown."""
        shutil.rmtree(self.flat)
        return self


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    os.mknod(path, stat.S_IFSOCK | 0o666)


def _zeros(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR | 0o644, os.makedev(1, 5))


def _sparse(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(1 << 33)


def _deep(path: Path) -> None:
    path.write_bytes(b"[" * 2_000_000)


def _deep_objects(path: Path) -> None:
    path.write_bytes(b'{"a":' * 500_000 + b"1" + b"}" * 500_000)


def _long_number(path: Path) -> None:
    path.write_bytes(b'{"SchemaVersion": ' + b"9" * 3_000_000 + b"}")


def _binary(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 100)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _directory(path: Path) -> None:
    path.mkdir()


def _to_outside(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def _to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere")


_KINDS = [_fifo, _socket, _zeros, _sparse, _deep, _deep_objects, _long_number, _binary, _empty]
_KINDS += [_directory, _to_outside, _to_itself, _dangling]


def _instead(place: str, kind: Callable[[Path], None]) -> Spoil:
    def spoil(scene: Scene) -> None:
        path: Path = getattr(scene, place)
        path.unlink()
        kind(path)

    return spoil


def _edited(place: str, edit: Callable[[object], object]) -> Spoil:
    def spoil(scene: Scene) -> None:
        path: Path = getattr(scene, place)
        path.write_text(json.dumps(edit(json.loads(path.read_text()))))

    return spoil


def _with(key: str, value: object) -> Callable[[object], object]:
    """Set ``a.b`` or ``a.0.b`` in a document."""

    def edit(document: object) -> object:
        *way, last = (int(part) if part.isdecimal() else part for part in key.split("."))
        holder: object = document
        for part in way:
            holder = holder[part]  # type: ignore[index]
        holder[last] = value  # type: ignore[index]
        return document

    return edit


def _many_layers(document: object) -> object:
    document["Layers"] *= 10_000  # type: ignore[index]
    return document


#: Directories on the way to what a store shows, or a sync reads.
_DIRECTORIES: dict[str, Callable[[Scene], Path]] = {
    **{
        top: lambda scene, top=top: scene.repository / top  # type: ignore[misc]
        for top in (".layers", ".flat", ".metadata", "podmanStore")
    },
    "layers' two digits": lambda scene: scene.layer.parent,
    "layer": lambda scene: scene.layer,
    "layer's description": lambda scene: scene.description.parent,
    "merged roots' two digits": lambda scene: scene.flat.parent,
    "merged root": lambda scene: scene.flat,
    "registry": lambda scene: scene.repository / REGISTRY,
    "names": lambda scene: scene.link.parent,
    "manifests": lambda scene: scene.manifest.parent.parent,
    "manifest's directory": lambda scene: scene.manifest.parent,
    "config's directory": lambda scene: scene.config.parent,
}

_OUT = "../../../../../../etc"
_DIGESTS = [_OUT, f"sha256:{_OUT}", "sha256:" + "/" * 64, "sha256:" + "A" * 64, "", 7, None, []]


def _flat_to(target: str) -> Spoil:
    def spoil(scene: Scene) -> None:
        shutil.rmtree(scene.flat)
        scene.flat.symlink_to(target)

    return spoil


def _layer_to(target: str) -> Spoil:
    def spoil(scene: Scene) -> None:
        shutil.rmtree(scene.layer / "layerfs")
        (scene.layer / "layerfs").symlink_to(target)
        scene.without_flat()

    return spoil


def _link_to(target: str) -> Spoil:
    def spoil(scene: Scene) -> None:
        scene.link.unlink()
        scene.link.symlink_to(target)

    return spoil


def _named(name: bytes) -> Spoil:
    """The image under another name, too."""

    def spoil(scene: Scene) -> None:
        parent = os.fsencode(scene.link.parent)
        os.symlink(os.readlink(scene.link), os.path.join(parent, name))

    return spoil


def _moved_out(place: Callable[[Scene], Path]) -> Spoil:
    """A directory of the repository is a link to one outside, with all that is needed in it."""

    def spoil(scene: Scene) -> None:
        path = place(scene)
        moved = scene.outside / "moved"
        path.rename(moved)
        path.symlink_to(moved)

    return spoil


def _in_root(make: Callable[[Path, Scene], None]) -> Spoil:
    """Something odd in the merged root."""

    def spoil(scene: Scene) -> None:
        make(scene.flat, scene)

    return spoil


def _in_layer(make: Callable[[Path, Scene], None]) -> Spoil:
    """Something odd in a layer that is shown by itself."""

    def spoil(scene: Scene) -> None:
        make(scene.without_flat().layer / "layerfs", scene)

    return spoil


def _tmp_outside(root: Path, scene: Scene) -> None:
    if (root / "tmp").exists():
        (root / "tmp").rmdir()
    (root / "tmp").symlink_to(scene.outside)


def _tmp_fifo(root: Path, scene: Scene) -> None:
    if (root / "tmp").exists():
        (root / "tmp").rmdir()
    _fifo(root / "tmp")


def _closed(root: Path, scene: Scene) -> None:
    (root / "inner").mkdir()
    (root / "inner").chmod(0)


def _markers(root: Path, scene: Scene) -> None:
    for name in (
        ".wh.",
        ".wh..",
        ".wh...",
        ".wh..wh.",
        ".wh..wh..opq",
        ".wh..wh.plnk",
        ".wh.\x1b[2J",
    ):
        (root / name).touch()
    (root / "a").mkdir()
    (root / "a/.wh...").touch()
    (root / "a/.wh..wh..opq").mkdir()
    (root / ".wh.directory").mkdir()
    (root / ".wh.link").symlink_to(scene.outside)
    _fifo(root / ".wh.fifo")
    (root / (".wh." + "x" * 251)).touch()
    (root / ".wh.both").touch()
    (root / "both").touch()


def _linked_out(root: Path, scene: Scene) -> None:
    (scene.outside / ".wh.victim").touch()
    (root / "out").symlink_to(scene.outside)
    (root / "up").symlink_to("..")
    (root / ".wh.out").touch()


def _deep_tree(root: Path, scene: Scene) -> None:
    # Deeper than a path may be long.
    descriptor = os.open(root, os.O_PATH)
    for _ in range(1500):
        os.mkdir("deep", dir_fd=descriptor)
        inner = os.open("deep", os.O_PATH, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    os.close(os.open(".wh.x", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
    os.close(descriptor)


def _whiteout_devices(root: Path, scene: Scene) -> None:
    os.mknod(root / "gone", stat.S_IFCHR | 0o600, os.makedev(0, 0))
    os.mknod(root / ".wh.device", stat.S_IFCHR | 0o600, os.makedev(0, 0))
    os.mknod(root / "disk", stat.S_IFBLK | 0o666, os.makedev(8, 0))


def _deep_names(scene: Scene) -> None:
    place = scene.link.parent
    for _ in range(60):
        place = place / "d"
    place.mkdir(parents=True)
    (place / "image:1").symlink_to(scene.flat)


def _circle(scene: Scene) -> None:
    (scene.link.parent / "circle").symlink_to(".")
    (scene.repository / ".metadata/circle").symlink_to("..")


def _many_links(scene: Scene) -> None:
    for number in range(3000):
        (scene.link.parent / f"n:{number}").symlink_to("/etc")


_NAMES = [
    *(
        b"\x1b]0;title\x07:1",
        b"new\nline:1",
        b"\xff\xfe:1",
        b"-rf:1",
        b".wh.x:1",
        b"a:b:c",
        b"x" * 240 + b":1",
    ),
    *(
        b'q",\\x:1',
        b"..:1",
        b".:1",
        b":1",
        b"UPPER:1",
        b"a@sha256:0:1",
        "\u202egpj:1".encode(),
        b"%2e%2e:1",
    ),
    *(b"app:" + b"t" * 200, b"retired:\t"),
]


def spoils() -> Iterator[tuple[str, Spoil]]:
    """Everything to try, each with a name."""
    for place in ("manifest", "description", "config"):
        for kind in _KINDS:
            yield f"{place} {kind.__name__.strip('_')}", _instead(place, kind)
    for value in _DIGESTS:
        yield f"config digest {value!r:.30}", _edited("manifest", _with("Config.Digest", value))
        yield f"layer digest {value!r:.30}", _edited("manifest", _with("Layers.1.Digest", value))
        yield f"diff ID {value!r:.30}", _edited("description", _with("0.diff-digest", value))
    for number in (-1, 1 << 64, 1 << 2000, 1e300, "9", None):
        yield f"size {number!r:.20}", _edited("manifest", _with("Layers.0.Size", number))
        yield f"diff size {number!r:.20}", _edited("description", _with("0.diff-size", number))
    yield "30,000 layers", _edited("manifest", _many_layers)
    yield "no layers", _edited("manifest", _with("Layers", []))
    for target in ("/", "/etc", _OUT, ".", "..", "/proc/self/root", "/dev"):
        yield f"merged root to {target}", _flat_to(target)
        yield f"layer to {target}", _layer_to(target)
        yield f"public link to {target}", _link_to(target)
    yield "public link around", _link_to(f"../../.flat/../.flat/{_OUT}")
    yield "public link to another place", _link_to(f"../../.flat/aa/{'a' * 64}/../../../../etc")
    for name in _NAMES:
        yield f"name {name!r:.30}", _named(name)
    for what, where in _DIRECTORIES.items():
        yield f"{what} outside", _moved_out(where)
    for make in (
        _tmp_outside,
        _tmp_fifo,
        _closed,
        _markers,
        _linked_out,
        _deep_tree,
        _whiteout_devices,
    ):
        yield f"root with {make.__name__.strip('_')}", _in_root(make)
        yield f"layer with {make.__name__.strip('_')}", _in_layer(make)
    for each in (_deep_names, _circle, _many_links):
        yield each.__name__.strip("_"), each
