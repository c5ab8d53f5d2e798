# SPDX-License-Identifier: Apache-2.0
"""What a store looks like: whether it is whole, and whether two stores are the same.

Written without the package under test, so that one mistake isn't made twice.
"""

from __future__ import annotations

import base64
import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.layers import sha256

_LOCKS = ("overlay-layers/layers.lock", "overlay-images/images.lock")
_GENERATION = re.compile(r"generations/(\d+)")


def picture(store: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return path -> (mode, number of hard links, content) of all in the store.

    Generations bear their rank instead of their number, and lock files their size: two stores with
    the same history but for interruptions have the same picture.
    """
    ranks = {name: f"{rank}" for rank, name in enumerate(_ranked(store))}

    def ranked(text: str) -> str:
        return _GENERATION.sub(lambda m: f"generations/{ranks.get(m[1], m[1])}", text)

    found = {}
    for directory, names, files in os.walk(store):
        for name in [*names, *files]:
            path = os.path.join(directory, name)
            attributes = os.lstat(path)
            links = 0 if stat.S_ISDIR(attributes.st_mode) else attributes.st_nlink
            if stat.S_ISLNK(attributes.st_mode):
                content = os.fsencode(ranked(os.readlink(path)))
            elif stat.S_ISREG(attributes.st_mode):
                content = Path(path).read_bytes()
                if name.endswith(".lock"):
                    content = b"%d bytes" % len(content)
            else:
                marks = [n for n in os.listxattr(path, follow_symlinks=False) if "overlay" in n]
                content = f"{attributes.st_rdev} {sorted(marks)}".encode()
            found[ranked(os.path.relpath(path, store))] = (attributes.st_mode, links, content)
    return found


def _ranked(store: Path) -> list[str]:
    """The numbers of the generations, lowest first."""
    try:
        return sorted(filter(str.isdecimal, os.listdir(store / "generations")), key=int)
    except FileNotFoundError:
        return []


def differences(
    wanted: Mapping[str, tuple[int, int, bytes]], seen: Mapping[str, tuple[int, int, bytes]]
) -> list[str]:
    """What differs between two pictures, one line each."""
    lines = [f"{path} is missing" for path in sorted(set(wanted) - set(seen))]
    lines += [f"{path} should not be there" for path in sorted(set(seen) - set(wanted))]
    for path in sorted(set(wanted) & set(seen)):
        if wanted[path] != seen[path]:
            lines.append(f"{path} is {seen[path]}, should be {wanted[path]}")
    return lines


def documents(store: Path) -> tuple[bytes, bytes]:
    """The store's images.json and layers.json, empty where there are none."""
    return (
        _read(store / "overlay-images/images.json"),
        _read(store / "overlay-layers/layers.json"),
    )


def tokens(store: Path) -> list[bytes]:
    """The last-writer tokens of layers and images."""
    return [_read(store / name) for name in _LOCKS]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def faults(store: Path) -> list[str]:
    """Everything about the store that would hurt podman, one line each."""
    # podman takes a store without images for an empty one, and makes their lock file itself.
    lines = [
        f"{path} is missing"
        for path in _LOCKS
        if os.path.lexists(store / os.path.dirname(path)) and len(_read(store / path)) != 64
    ]
    for name in ("overlay", "overlay-layers", "overlay-images"):
        if not (store / name).exists() and os.path.lexists(store / name):
            lines.append(f"{name} leads nowhere")
    images, layers = documents(store)
    try:
        records = {each["id"]: each for each in json.loads(layers or b"[]")}
        lines += _layer_faults(store, records)
        for image in json.loads(images or b"[]"):
            lines += _image_faults(store, image, records)
        names = [name for image in json.loads(images or b"[]") for name in image["names"]]
        lines += [f"{name} is there twice" for name in set(names) if names.count(name) > 1]
    except (OSError, ValueError, KeyError) as err:
        lines.append(f"{type(err).__name__}: {err}")
    return lines


def _layer_faults(store: Path, records: Mapping[str, Any]) -> list[str]:
    lines = []
    overlay = store / "overlay"
    there = set(os.listdir(overlay)) - {"l"} if overlay.exists() else set()
    # Pieces and retired directories have no record, for nobody pulls a layer of such an ID: they
    # have the names of their entries in the pool, or the beginnings of these.
    others = {
        name
        for name in there - set(records)
        if os.path.basename(os.readlink(overlay / name)) in (name, f"{name}-{name[:16]}")
    }
    lines += [f"orphan layer directory {name}" for name in there - set(records) - others]
    lines += [f"layer {name} has no directory" for name in set(records) - there]
    for layer_id, record in records.items():
        if record.get("parent", layer_id) not in records:
            lines.append(f"layer {layer_id}: no parent {record['parent']}")
        directory = overlay / layer_id
        link = (directory / "link").read_text()
        if os.readlink(overlay / "l" / link) != f"../{layer_id}/diff":
            lines.append(f"layer {layer_id}: {link} leads elsewhere")
        if not (directory / "diff").is_dir():
            lines.append(f"layer {layer_id}: no diff")
        below = directory / "lower"
        for lower in below.read_text().split(":") if below.exists() else []:
            if not (overlay / lower).is_dir():
                lines.append(f"layer {layer_id}: {lower} leads nowhere")
    return lines


def _image_faults(store: Path, image: Mapping[str, Any], records: Mapping[str, Any]) -> list[str]:
    lines = []
    if image.get("layer", next(iter(records), None)) not in records:
        lines.append(f"image {image['id']}: no top layer")
    for key in image["big-data-names"]:
        name = key if key == "manifest" else "=" + base64.b64encode(key.encode()).decode()
        data = (store / "overlay-images" / image["id"] / name).read_bytes()
        if (len(data), sha256(data)) != (
            image["big-data-sizes"][key],
            image["big-data-digests"][key],
        ):
            lines.append(f"image {image['id']}: {key} is damaged")
    return lines
