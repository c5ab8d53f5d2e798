# SPDX-License-Identifier: Apache-2.0
"""Ways to spoil the JSON of a store, and what is to be said of each."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from podman_cvmfs.store import layout
from tests.support.stores import JSON, Spoilt, flip

STATE, LAYERS, IMAGES = JSON


def first(change: Callable[[dict[str, Any]], Any]) -> Callable[[list[dict[str, Any]]], None]:
    """Change the first record of a list."""

    def changed(records: list[dict[str, Any]]) -> None:
        change(records[0])

    return changed


def last(change: Callable[[dict[str, Any]], Any]) -> Callable[[list[dict[str, Any]]], None]:
    """Change the last record of a list."""

    def changed(records: list[dict[str, Any]]) -> None:
        change(records[-1])

    return changed


def put(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def changed(record: dict[str, Any]) -> None:
        record[key] = value

    return changed


def drop(key: str) -> Callable[[dict[str, Any]], None]:
    def changed(record: dict[str, Any]) -> None:
        del record[key]

    return changed


def state_of(kind: str, key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Change the state of the first layer or image."""

    def changed(state: dict[str, Any]) -> None:
        next(iter(state[kind].values()))[key] = value

    return changed


def same_name(records: list[dict[str, Any]]) -> None:
    records[1]["names"].append(records[0]["names"][0])


#: What is done to a store that shows layers; a part of a finding's path; words of the finding.
RECORDS: dict[str, tuple[Callable[[Spoilt], object], str, str]] = {
    # Records of layers
    "layers.json truncated": (
        lambda s: os.truncate(s.generation / LAYERS, 100),
        LAYERS,
        "not valid JSON",
    ),
    "layers.json of another kind": (
        lambda s: (s.generation / LAYERS).write_text("{}"),
        LAYERS,
        "the wrong kind of JSON",
    ),
    "layer record twice": (
        lambda s: s.edit(LAYERS, lambda d: d.append(d[0])),
        LAYERS,
        "twice",
    ),
    "layer record gone": (
        lambda s: s.edit(LAYERS, lambda d: d.pop()),
        STATE,
        "which is not in overlay-layers/layers.json",
    ),
    "layer record of no kind": (lambda s: s.edit(LAYERS, lambda d: d.append(7)), LAYERS, "object"),
    "parent missing": (
        lambda s: s.edit(LAYERS, last(put("parent", "e" * 64))),
        LAYERS,
        "which is missing",
    ),
    "parent malformed": (
        lambda s: s.edit(LAYERS, last(put("parent", "../x"))),
        LAYERS,
        "malformed parent",
    ),
    "parent of itself": (
        lambda s: s.edit(LAYERS, first(put("parent", s.base.layer_id))),
        LAYERS,
        "below itself",
    ),
    "parent forgotten": (lambda s: s.edit(LAYERS, last(drop("parent"))), IMAGES, "in its config"),
    "diff-digest missing": (
        lambda s: s.edit(LAYERS, last(drop("diff-digest"))),
        LAYERS,
        "has no diff-digest",
    ),
    "diff-digest malformed": (
        lambda s: s.edit(LAYERS, first(put("diff-digest", "sha256:x"))),
        LAYERS,
        "diff-digest",
    ),
    "diff-digest of another layer": (
        lambda s: s.edit(LAYERS, first(put("diff-digest", "sha256:" + "e" * 64))),
        LAYERS,
        "hasn't the ID",
    ),
    "a hidden layer advertised": (
        lambda s: s.edit(LAYERS, last(put("compressed-diff-digest", "sha256:" + "e" * 64))),
        LAYERS,
        "compressed-diff-digest",
    ),
    "blob of another layer": (
        lambda s: s.edit(LAYERS, first(put("compressed-diff-digest", "sha256:" + "e" * 64))),
        LAYERS,
        "is advertised as",
    ),
    "blob size": (
        lambda s: s.edit(LAYERS, first(put("compressed-size", 7))),
        LAYERS,
        "packed in 1000 bytes",
    ),
    "compression unknown": (
        lambda s: s.edit(LAYERS, first(put("compression", 3))),
        LAYERS,
        "has an unknown compression",
    ),
    "a stand-in advertised": (
        lambda s: s.edit(
            LAYERS,
            lambda d: next(each for each in d if each["diff-size"] == 0).update(
                {"diff-digest": "sha256:" + "e" * 64}
            ),
        ),
        LAYERS,
        "hasn't the ID",
    ),
    "negative size": (
        lambda s: s.edit(LAYERS, first(put("diff-size", -1))),
        LAYERS,
        "negative diff-size",
    ),
    "size of more than 63 bits": (
        lambda s: s.edit(LAYERS, first(put("diff-size", 1 << 63))),
        LAYERS,
        "diff-size too large",
    ),
    "size that is not a number": (
        lambda s: s.edit(LAYERS, first(put("diff-size", True))),
        LAYERS,
        "diff-size",
    ),
    "field more": (lambda s: s.edit(LAYERS, first(put("uidmap", []))), LAYERS, "'uidmap'"),
    # Records of images
    "images.json truncated": (
        lambda s: os.truncate(s.generation / IMAGES, 100),
        IMAGES,
        "not valid JSON",
    ),
    "images.json gone": (lambda s: (s.generation / IMAGES).unlink(), IMAGES, "is missing"),
    "images.json nested": (
        lambda s: (s.generation / IMAGES).write_text("[" * 100_000),
        IMAGES,
        "not valid JSON",
    ),
    "image record twice": (lambda s: s.edit(IMAGES, lambda d: d.append(d[0])), IMAGES, "twice"),
    "image record gone": (
        lambda s: s.edit(IMAGES, lambda d: d.pop()),
        STATE,
        "which is not in overlay-images/images.json",
    ),
    "image ID malformed": (
        lambda s: s.edit(IMAGES, first(put("id", "../../etc"))),
        IMAGES,
        "malformed id",
    ),
    "name on two images": (lambda s: s.edit(IMAGES, same_name), IMAGES, "has the name"),
    "name malformed": (
        lambda s: s.edit(IMAGES, first(put("names", ["\x1b[31mx"]))),
        IMAGES,
        "isn't one of its",
    ),
    "name not canonical": (
        lambda s: s.edit(IMAGES, first(put("names", ["debian"]))),
        IMAGES,
        "isn't one of its",
    ),
    "name gone": (
        lambda s: s.edit(IMAGES, first(put("names", []))),
        IMAGES,
        "no image has the name",
    ),
    "names no list": (lambda s: s.edit(IMAGES, first(put("names", "x"))), IMAGES, "names"),
    "name no text": (lambda s: s.edit(IMAGES, first(put("names", [7]))), IMAGES, "wrong names"),
    "digest of another manifest": (
        lambda s: s.edit(IMAGES, first(put("digest", "sha256:" + "e" * 64))),
        IMAGES,
        "wrong big-data-digests",
    ),
    "top layer missing": (
        lambda s: s.edit(IMAGES, first(put("layer", "e" * 64))),
        IMAGES,
        "which is missing",
    ),
    "top layer of another image": (
        lambda s: s.edit(IMAGES, lambda d: d[0].update(layer=d[1]["layer"])),
        IMAGES,
        "which shows other layers than the image's",
    ),
    "no top layer": (
        lambda s: s.edit(IMAGES, first(drop("layer"))),
        IMAGES,
        "has 0 layers in the store",
    ),
    "time not a time": (
        lambda s: s.edit(IMAGES, first(put("created", "yesterday"))),
        IMAGES,
        "time of creation",
    ),
    "time in other digits": (
        lambda s: s.edit(IMAGES, first(put("created", "2020-09-13T12:26:40.\u0663Z"))),
        IMAGES,
        "time of creation",
    ),
    "another time": (
        lambda s: s.edit(IMAGES, first(put("created", "2021-01-01T00:00:00Z"))),
        IMAGES,
        "was created",
    ),
    "big data forgotten": (
        lambda s: s.edit(IMAGES, first(put("big-data-names", []))),
        IMAGES,
        "wrong big-data-names",
    ),
    "size of the manifest": (
        lambda s: s.edit(IMAGES, first(lambda r: r["big-data-sizes"].update(manifest=7))),
        "/manifest",
        "bytes, not 7",
    ),
    # The state
    "misspelt key of a layer in the state": (
        lambda s: s.edit(STATE, state_of("layers", "repositori", "/r")),
        LAYERS,
        "has 'repositori' in state.json, which doesn't belong there",
    ),
    "misspelt key of an image in the state": (
        lambda s: s.edit(STATE, state_of("images", "outdatet", True)),
        IMAGES,
        "has 'outdatet' in state.json",
    ),
    "state.json gone": (lambda s: (s.generation / STATE).unlink(), STATE, "is missing"),
    "state.json truncated": (
        lambda s: os.truncate(s.generation / STATE, 100),
        STATE,
        "not valid JSON",
    ),
    "another format": (lambda s: s.edit(STATE, put("format", 99)), STATE, "has the format 99"),
    "layers no object": (lambda s: s.edit(STATE, put("layers", [])), STATE, "no object"),
    "entry leads out": (
        lambda s: s.edit(STATE, state_of("layers", "entry", "../x")),
        LAYERS,
        "malformed entry",
    ),
    "published malformed": (
        lambda s: s.edit(STATE, state_of("images", "published", ["x"])),
        IMAGES,
        "malformed name",
    ),
    "published nothing": (
        lambda s: s.edit(STATE, state_of("images", "published", [7])),
        IMAGES,
        "aren't texts",
    ),
    "view unknown": (
        lambda s: s.edit(STATE, state_of("images", "view", "x")),
        IMAGES,
        "the unknown view 'x'",
    ),
    "origin unknown": (
        lambda s: s.edit(STATE, state_of("images", "config", "x")),
        IMAGES,
        "the unknown config origin 'x'",
    ),
    "made up, allegedly": (
        lambda s: s.edit(STATE, state_of("images", "config", "synthesised")),
        STATE,
        "contradicts the origin of its config",
    ),
    "another repository": (
        lambda s: s.edit(
            STATE,
            lambda d: [
                each.update(repository="/elsewhere")
                for each in d["layers"].values()
                if "repository" in each
            ],
        ),
        LAYERS,
        "not of /elsewhere",
    ),
    "needed, but retired": (
        lambda s: s.edit(STATE, state_of("layers", "retired", 1_700_000_000)),
        IMAGES,
        "which is retired",
    ),
    "retired no object": (lambda s: s.edit(STATE, put("retired", [])), STATE, "retired"),
    "retired malformed": (
        lambda s: s.edit(STATE, put("retired", {"../x": 1})),
        STATE,
        "retired entry",
    ),
    "twin malformed": (
        lambda s: s.edit(STATE, state_of("layers", "twin", "../x")),
        LAYERS,
        "malformed twin",
    ),
    "twin of none": (
        lambda s: s.edit(STATE, lambda d: d["layers"][s.base.layer_id].update(twin="e" * 64)),
        LAYERS,
        "found by its own digests",
    ),
    "layers forgotten": (
        lambda s: s.edit(STATE, drop("layers")),
        STATE,
        "has no object with the key layers",
    ),
    "policy forgotten": (lambda s: s.edit(STATE, drop("policy")), STATE, "a malformed policy"),
    "policy unknown": (lambda s: s.edit(STATE, put("policy", "x")), STATE, "a malformed policy"),
    "checksums gone": (
        lambda s: (s.generation / layout.SUMS).unlink(),
        layout.SUMS,
        "is missing",
    ),
    "checksums flipped": (lambda s: flip(s.generation / layout.SUMS), LAYERS, "checksum"),
    "a space more": (
        lambda s: (s.generation / IMAGES).write_bytes((s.generation / IMAGES).read_bytes() + b" "),
        IMAGES,
        "another checksum",
    ),
}
