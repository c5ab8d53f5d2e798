# SPDX-License-Identifier: Apache-2.0
"""Ways to spoil the pieces that layers mount, and what the state says of them, and what is to be
said of each."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from podman_cvmfs.store.layout import link_name
from tests.support.stores import JSON, Spoilt, replaced, retarget, whiteout

STATE, LAYERS, IMAGES = JSON


def piece_id(path: Path) -> str:
    """The ID of the piece with the directory ``path`` in the pool."""
    return path.name.partition("-")[0]


def same_target(store: Spoilt) -> None:
    upper, lower = store.linked[0], store.linked[-1]
    retarget(upper / "diff", os.readlink(lower / "diff"))


def of_top(store: Spoilt, change: Callable[[list[str]], Any]) -> Callable[[dict[str, Any]], None]:
    """Change the state's list of the pieces that the top layer mounts."""
    layer_id = store.top.layer_id

    def changed(state: dict[str, Any]) -> None:
        state["layers"][layer_id]["lowers"] = change(state["layers"][layer_id]["lowers"])

    return changed


#: What is done to a store that shows layers; a part of a finding's path; words of the finding.
PIECES: dict[str, tuple[Callable[[Spoilt], object], str, str]] = {
    # Files and directories
    "piece gone": (lambda s: shutil.rmtree(s.linked[0]), "pool/layers/", "is missing"),
    "piece is a file": (
        lambda s: replaced(s.linked[0], Path.touch),
        "pool/layers/",
        "is a regular file, not a directory",
    ),
    "piece's link gone": (
        lambda s: (s.generation / "overlay" / piece_id(s.linked[0])).unlink(),
        "overlay/",
        "is missing",
    ),
    "piece's link elsewhere": (
        lambda s: retarget(
            s.generation / "overlay" / piece_id(s.linked[0]),
            f"../../../pool/layers/{s.linked[1].name}",
        ),
        "overlay/",
        "leads to",
    ),
    "piece's short link gone": (
        lambda s: (s.generation / "overlay/l" / link_name(piece_id(s.local[0]))).unlink(),
        "overlay/l/",
        "is missing",
    ),
    "piece's short link elsewhere": (
        lambda s: retarget(
            s.generation / "overlay/l" / link_name(piece_id(s.linked[0])),
            f"../{piece_id(s.linked[1])}/diff",
        ),
        "overlay/l/",
        "leads to",
    ),
    "piece's link file wrong": (
        lambda s: (s.linked[0] / "link").write_text("AAAAAAAAAAAAA"),
        "/link",
        "holds",
    ),
    "piece's link file gone": (
        lambda s: (s.local[0] / "link").unlink(),
        "/link",
        "is missing",
    ),
    "file in a piece": (lambda s: (s.linked[0] / "x").touch(), "/x", "doesn't belong here"),
    "lower in a piece": (
        lambda s: (s.linked[0] / "lower").write_text("l/AAAAAAAAAAAAA"),
        "/lower",
        "doesn't belong here",
    ),
    "piece under another ID": (
        lambda s: replaced(s.linked[0], lambda p: shutil.copytree(s.linked[1], p, symlinks=True)),
        "pool/layers/",
        "has been changed",
    ),
    "piece nobody mounts": (
        lambda s: (s.generation / "overlay" / piece_id(s.linked[0])).with_name("f" * 64).mkdir(),
        "overlay/" + "f" * 64,
        "without a record in layers.json",
    ),
    "same files twice": (same_target, "layers.json", "twice"),
    "diff elsewhere": (
        lambda s: retarget(s.linked[0] / "diff", "/etc"),
        "layers.json",
        "shows '/etc', which isn't a layer",
    ),
    "diff elsewhere, by its ID": (
        lambda s: retarget(s.linked[0] / "diff", "/etc"),
        "pool/layers/",
        "has been changed",
    ),
    "diff relative": (
        lambda s: retarget(s.linked[0] / "diff", "../../x"),
        "layers.json",
        "shows '../../x', which isn't a layer",
    ),
    "diff climbs out": (
        lambda s: retarget(
            s.linked[0] / "diff",
            os.readlink(s.linked[0] / "diff").replace("/.layers", "/x/../.layers"),
        ),
        "pool/layers/",
        "has been changed",
    ),
    "diff of another layer": (
        lambda s: retarget(s.linked[-1] / "diff", os.readlink(s.linked[0] / "diff")),
        "layers.json",
        "is advertised as",
    ),
    "diff gone": (lambda s: (s.linked[0] / "diff").unlink(), "/diff", "is missing"),
    "local diff gone": (lambda s: shutil.rmtree(s.local[0] / "diff"), "/diff", "is missing"),
    "diff is a file": (
        lambda s: replaced(s.linked[0] / "diff", Path.touch),
        "/diff",
        "neither a directory nor a link",
    ),
    "diff is a FIFO": (
        lambda s: replaced(s.local[0] / "diff", os.mkfifo),
        "/diff",
        "neither a directory nor a link",
    ),
    "diff is a directory": (
        lambda s: replaced(s.linked[0] / "diff", Path.mkdir),
        "pool/layers/",
        "has been changed",
    ),
    "local diff is a link": (
        lambda s: replaced(
            s.local[0] / "diff", lambda p: p.symlink_to(os.readlink(s.linked[0] / "diff"))
        ),
        "pool/layers/",
        "has been changed",
    ),
    "local directory gone": (
        lambda s: (s.local[0] / "diff/etc").rmdir(),
        "pool/layers/",
        "has been changed",
    ),
    "local directory more": (
        lambda s: (s.local[0] / "diff/etc/x").mkdir(),
        "pool/layers/",
        "has been changed",
    ),
    "file in a local directory": (
        lambda s: (s.local[0] / "diff/etc/x").touch(),
        "/diff/etc/x",
        "that no sync has put there",
    ),
    "link in a local directory": (
        lambda s: (s.local[0] / "diff/etc/x").symlink_to("/etc"),
        "/diff/etc/x",
        "that no sync has put there",
    ),
    "whiteout gone": (
        lambda s: (s.local[0] / "diff/.cvmfscatalog").unlink(),
        "pool/layers/",
        "has been changed",
    ),
    "whiteout more": (
        lambda s: whiteout(s.local[0] / "diff/etc/bin"),
        "pool/layers/",
        "has been changed",
    ),
    "whiteout is a device": (
        lambda s: replaced(
            s.local[0] / "diff/.cvmfscatalog", lambda p: os.mknod(p, 0o020600, os.makedev(1, 3))
        ),
        "/diff/.cvmfscatalog",
        "that no sync has put there",
    ),
    "local directory is opaque": (
        lambda s: os.setxattr(s.local[0] / "diff/etc", "user.overlay.opaque", b"y"),
        "pool/layers/",
        "has been changed",
    ),
    "mode of a local directory": (
        lambda s: (s.local[0] / "diff/etc").chmod(0o777),
        "pool/layers/",
        "has been changed",
    ),
    # The state
    "pieces forgotten": (
        lambda s: s.edit(STATE, lambda d: d["layers"][s.top.layer_id].pop("lowers")),
        LAYERS,
        "has no list of the pieces that it mounts",
    ),
    "pieces of the base forgotten": (
        lambda s: s.edit(STATE, lambda d: d["layers"][s.base.layer_id].pop("lowers")),
        LAYERS,
        "has no list of the pieces that it mounts",
    ),
    "pieces no list": (
        lambda s: s.edit(STATE, of_top(s, lambda pieces: "x")),
        LAYERS,
        "has a lowers that isn't a list",
    ),
    "piece malformed": (
        lambda s: s.edit(STATE, of_top(s, lambda pieces: ["../x", *pieces])),
        LAYERS,
        "malformed piece",
    ),
    "piece left out": (
        lambda s: s.edit(STATE, of_top(s, lambda pieces: pieces[:-1])),
        STATE,
        "than the layer's directory was written for",
    ),
    "piece twice": (
        lambda s: s.edit(STATE, of_top(s, lambda pieces: [*pieces, pieces[0]])),
        STATE,
        "than the layer's directory was written for",
    ),
    "piece that is nowhere": (
        lambda s: s.edit(STATE, of_top(s, lambda pieces: [*pieces, "e" * 64])),
        "overlay/" + "e" * 64,
        "is missing",
    ),
    "pieces in another order": (
        lambda s: s.edit(STATE, of_top(s, lambda pieces: pieces[::-1])),
        STATE,
        "than the layer's directory was written for",
    ),
    "no pieces": (
        lambda s: s.edit(STATE, of_top(s, lambda pieces: [])),
        LAYERS,
        "shows nothing, but isn't a stand-in",
    ),
    "shows no image": (
        lambda s: s.edit(STATE, lambda d: d["layers"][s.top.layer_id].pop("shows")),
        LAYERS,
        "has an ID that contradicts the state",
    ),
    "shows another image": (
        lambda s: s.edit(STATE, lambda d: d["layers"][s.top.layer_id].update(shows="e" * 64)),
        STATE,
        "shows an image without this layer",
    ),
    "base shows an image": (
        lambda s: s.edit(STATE, lambda d: d["layers"][s.base.layer_id].update(shows="e" * 64)),
        LAYERS,
        "has an ID that contradicts the state",
    ),
    "merged, allegedly": (
        lambda s: s.edit(STATE, lambda d: d["layers"][s.top.layer_id].update(merged=True)),
        LAYERS,
        "contradicts the state, which says whether",
    ),
    "another layer's directory": (
        lambda s: s.edit(
            STATE,
            lambda d: d["layers"][s.top.layer_id].update(entry=f"{s.top.layer_id}-{'e' * 16}"),
        ),
        STATE,
        "than the layer's directory was written for",
    ),
}
