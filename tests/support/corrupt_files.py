# SPDX-License-Identifier: Apache-2.0
"""Ways to spoil the files, links and directories of a store, and what is to be said of each."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from podman_cvmfs.store.records import StoredLayer
from tests.support.stores import JSON, Spoilt, flip, replaced, retarget, whiteout

STATE, LAYERS, IMAGES = JSON
#: The ID of another user.
STRANGER = 4242


def rewrite_lower(
    store: Spoilt, change: Callable[[list[str]], list[str]], layer: StoredLayer | None = None
) -> None:
    """Change the list in the ``lower`` of ``layer``, by default the top layer."""
    lower = store.layer_path(layer or store.top) / "lower"
    lower.write_text(":".join(change(lower.read_text().split(":"))))


def foreign_lower(store: Spoilt) -> None:
    """Let the base mount a piece of another layer as well."""
    top = (store.layer_path(store.top) / "lower").read_text().split(":")
    rewrite_lower(store, lambda links: [*links, *(set(top) - set(links))], store.base)


def plant(path: Path, make: Callable[[Path], object] = Path.touch) -> None:
    """Make something as another user."""
    make(path)
    os.chown(path, STRANGER, STRANGER, follow_symlinks=False)


#: What is done to a store that shows layers; a part of a finding's path; words of the finding.
FILES: dict[str, tuple[Callable[[Spoilt], object], str, str]] = {
    # Files and directories of images
    "manifest flipped": (lambda s: flip(s.image_path("manifest")), "/manifest", "digest"),
    "config flipped": (lambda s: flip(s.image_path("config")), "/=", "digest sha256:"),
    "manifest gone": (lambda s: s.image_path("manifest").unlink(), "/manifest", "is missing"),
    "config gone": (lambda s: s.image_path("config").unlink(), "/=", "is missing"),
    "manifest longer": (
        lambda s: s.image_path("manifest").write_bytes(
            s.image_path("manifest").read_bytes() + b" "
        ),
        "/manifest",
        "bytes, not",
    ),
    "manifest empty": (
        lambda s: s.image_path("manifest").write_bytes(b""),
        "/manifest",
        "has 0 bytes",
    ),
    "manifest is a link": (
        lambda s: replaced(s.image_path("manifest"), lambda p: p.symlink_to("/etc/passwd")),
        "/manifest",
        "is a symbolic link, not a regular file",
    ),
    "config is a FIFO": (
        lambda s: replaced(s.image_path("config"), os.mkfifo),
        "/=",
        "is a FIFO",
    ),
    "config is a directory": (
        lambda s: replaced(s.image_path("config"), os.mkdir),
        "/=",
        "is a directory",
    ),
    "image directory gone": (
        lambda s: shutil.rmtree(s.image_path("manifest").parent),
        "pool/images/",
        "is missing",
    ),
    "image directory is a file": (
        lambda s: replaced(s.image_path("manifest").parent, Path.touch),
        "pool/images/",
        "not a directory",
    ),
    "image link gone": (
        lambda s: (s.generation / "overlay-images" / s.image.image_id).unlink(),
        "overlay-images/",
        "is missing",
    ),
    "image link elsewhere": (
        lambda s: retarget(s.generation / "overlay-images" / s.image.image_id, "/tmp"),
        "overlay-images/",
        "leads to '/tmp'",
    ),
    "file in an image directory": (
        lambda s: (s.image_path("manifest").parent / "x").touch(),
        "/x",
        "doesn't belong here",
    ),
    "image directory unknown": (
        lambda s: (s.generation / "overlay-images" / ("e" * 64)).mkdir(),
        "overlay-images/" + "e" * 64,
        "doesn't belong here",
    ),
    # Files and directories of layers
    "orphan layer": (
        lambda s: (s.generation / "overlay" / ("e" * 64)).mkdir(),
        "overlay/" + "e" * 64,
        "without a record in layers.json",
    ),
    "file in overlay": (
        lambda s: (s.generation / "overlay/x").touch(),
        "overlay/x",
        "doesn't belong here",
    ),
    "layer link gone": (
        lambda s: (s.generation / "overlay" / s.top.layer_id).unlink(),
        "overlay/",
        "is missing",
    ),
    "layer link elsewhere": (
        lambda s: retarget(
            s.generation / "overlay" / s.top.layer_id, f"../../../pool/layers/{s.base.entry}"
        ),
        "overlay/",
        "leads to",
    ),
    "layer gone": (
        lambda s: shutil.rmtree(s.layer_path(s.top)),
        "pool/layers/",
        "is missing",
    ),
    "short link gone": (
        lambda s: (s.generation / "overlay/l" / s.top.link).unlink(),
        "overlay/l/",
        "is missing",
    ),
    "short link elsewhere": (
        lambda s: retarget(
            s.generation / "overlay/l" / s.top.link,
            f"../{s.base.layer_id}/diff",
        ),
        "overlay/l/",
        "leads to",
    ),
    "short link unknown": (
        lambda s: (s.generation / "overlay/l/AAAAAAAAAAAAA").symlink_to("../x/diff"),
        "overlay/l/AAAAAAAAAAAAA",
        "doesn't belong here",
    ),
    "link file wrong": (
        lambda s: (s.layer_path(s.top) / "link").write_text("AAAAAAAAAAAAA"),
        "/link",
        "holds",
    ),
    "link file gone": (lambda s: (s.layer_path(s.top) / "link").unlink(), "/link", "is missing"),
    "link file with a newline": (
        lambda s: (s.layer_path(s.top) / "link").write_text(s.top.link + "\n"),
        "/link",
        "holds",
    ),
    "lower gone": (
        lambda s: (s.layer_path(s.top) / "lower").unlink(),
        "/lower",
        "is missing",
    ),
    "lower empty": (
        lambda s: (s.layer_path(s.top) / "lower").write_text(""),
        "/lower",
        "isn't a list",
    ),
    "lower not text": (
        lambda s: (s.layer_path(s.top) / "lower").write_bytes(b"\xff"),
        "/lower",
        "isn't a list",
    ),
    "lower of nothing": (
        lambda s: (s.layer_path(s.top) / "lower").write_text("l/AAAAAAAAAAAAA"),
        "/lower",
        "names l/AAAAAAAAAAAAA, which isn't a piece",
    ),
    "lower leaves out a piece": (
        lambda s: rewrite_lower(s, lambda links: links[:-1]),
        "/lower",
        "leaves out the piece",
    ),
    "lower names another layer's piece": (foreign_lower, "/lower", "which isn't the layer's"),
    "lower reversed": (
        lambda s: rewrite_lower(s, lambda links: links[::-1]),
        "/lower",
        "nearest first",
    ),
    "lower repeats": (
        lambda s: rewrite_lower(s, lambda links: [*links, links[0]]),
        "/lower",
        "twice",
    ),
    "lower names the layer": (
        lambda s: rewrite_lower(s, lambda links: [f"l/{s.top.link}", *links]),
        "/lower",
        "which isn't a piece",
    ),
    "lower beside nothing": (
        lambda s: (s.stand_in_path() / "lower").write_text("l/AAAAAAAAAAAAA"),
        "/lower",
        "doesn't belong here",
    ),
    "layer's diff gone": (
        lambda s: (s.layer_path(s.top) / "diff").rmdir(),
        "/diff",
        "is missing",
    ),
    "layer's diff is a link": (
        lambda s: replaced(
            s.layer_path(s.top) / "diff", lambda p: p.symlink_to(os.readlink(s.linked[0] / "diff"))
        ),
        "/diff",
        "should be an empty directory",
    ),
    "layer's diff is a file": (
        lambda s: replaced(s.layer_path(s.top) / "diff", Path.touch),
        "/diff",
        "neither a directory nor a link",
    ),
    "directory in a layer's diff": (
        lambda s: (s.layer_path(s.top) / "diff/etc").mkdir(),
        "/diff",
        "should be an empty directory",
    ),
    "file in a layer's diff": (
        lambda s: (s.layer_path(s.top) / "diff/x").touch(),
        "/diff/x",
        "no sync has put there",
    ),
    "mode of a layer's diff": (
        lambda s: (s.layer_path(s.top) / "diff").chmod(0o755),
        "/diff",
        "should be an empty directory",
    ),
    "mode of a stand-in's diff": (
        lambda s: (s.stand_in_path() / "diff").chmod(0o777),
        "/diff",
        "should be an empty directory",
    ),
    "part more": (
        lambda s: (s.layer_path(s.top) / "diff1").mkdir(),
        "/diff1",
        "doesn't belong here",
    ),
    "empty gone": (lambda s: (s.stand_in_path() / "empty").rmdir(), "/empty", "is missing"),
    "empty not empty": (
        lambda s: (s.stand_in_path() / "empty/x").touch(),
        "/empty/x",
        "doesn't belong here",
    ),
    "empty is a link": (
        lambda s: replaced(s.stand_in_path() / "empty", lambda p: p.symlink_to("/")),
        "/empty",
        "not a directory",
    ),
    "file in a layer": (
        lambda s: (s.layer_path(s.top) / "merged").mkdir(),
        "/merged",
        "doesn't belong here",
    ),
    # Modes and owners
    "mode of the top": (lambda s: s.path.chmod(0o755), "/store", "has the mode 0755, not 0700"),
    "mode of the top, closed": (lambda s: s.path.chmod(0o500), "/store", "has the mode 0500"),
    "mode of a piece": (lambda s: s.linked[0].chmod(0o777), "pool/layers/", "mode 0777"),
    "mode of the JSON": (lambda s: (s.generation / IMAGES).chmod(0o600), IMAGES, "mode 0600"),
    "mode of a layer": (lambda s: s.layer_path(s.top).chmod(0o777), "pool/layers/", "mode 0777"),
    "mode of a config": (lambda s: s.image_path("config").chmod(0o4755), "/=", "mode 4755"),
    "mode of the locks": (
        lambda s: (s.path / "locks/images.lock").chmod(0o600),
        "locks/images.lock",
        "mode 0600",
    ),
    # Locks, generations, and what else there is
    "lock empty": (
        lambda s: os.truncate(s.path / "locks/images.lock", 0),
        "images.lock",
        "has 0 bytes",
    ),
    "lock gone": (
        lambda s: (s.generation / "overlay-layers/layers.lock").unlink(),
        "overlay-layers/layers.lock",
        "is missing",
    ),
    "lock of its own": (
        lambda s: replaced(
            s.generation / "overlay-images/images.lock", lambda p: p.write_bytes(b"x" * 64)
        ),
        "overlay-images/images.lock",
        "not the same file",
    ),
    "kept lock gone": (
        lambda s: (s.path / "locks/layers.lock").unlink(),
        "locks/layers.lock",
        "is missing",
    ),
    "file at the top": (lambda s: (s.path / "x").touch(), "store/x", "doesn't belong here"),
    "file among generations": (
        lambda s: (s.path / "generations/x").touch(),
        "generations/x",
        "doesn't belong here",
    ),
    "file in a generation": (
        lambda s: (s.generation / "x").touch(),
        "/x",
        "doesn't belong here",
    ),
    "file beside layers.json": (
        lambda s: (s.generation / "overlay-layers/x").touch(),
        "overlay-layers/x",
        "belong",
    ),
    "file in the pool": (
        lambda s: (s.path / "pool/layers/x").touch(),
        "pool/layers/x",
        "doesn't belong here",
    ),
    "pool more": (lambda s: (s.path / "pool/x").mkdir(), "pool/x", "doesn't belong here"),
    "locks more": (lambda s: (s.path / "locks/x").touch(), "locks/x", "doesn't belong here"),
    "pool gone": (lambda s: shutil.rmtree(s.path / "pool"), "/pool", "is missing"),
    "name of podman's gone": (
        lambda s: (s.path / "overlay-images").unlink(),
        "store/overlay-images",
        "is missing",
    ),
    "name of podman's elsewhere": (
        lambda s: retarget(s.path / "overlay", "generations/1/overlay"),
        "store/overlay",
        "leads",
    ),
    "name of podman's is a file": (
        lambda s: replaced(s.path / "overlay", Path.touch),
        "store/overlay",
        "not a symbolic link",
    ),
    "current elsewhere": (
        lambda s: retarget(s.path / ".current", "/tmp"),
        "store/.current",
        "is not a generation",
    ),
    "current gone": (lambda s: (s.path / ".current").unlink(), "store", "an empty one"),
    "current is a file": (
        lambda s: replaced(s.path / ".current", Path.touch),
        "store/.current",
        "not a symbolic link",
    ),
    "generation gone": (
        lambda s: shutil.rmtree(s.generation),
        "generations/1",
        "is missing",
    ),
    # Strangers
    "stranger's file": (
        lambda s: plant(s.local[0] / "diff/etc/x"),
        "/diff/etc/x",
        "is a file of user 4242 that no sync has put there",
    ),
    "stranger's whiteout": (
        lambda s: plant(s.local[0] / "diff/etc/x", whiteout),
        "/diff/etc/x",
        "is a file of user 4242 that no sync has put there",
    ),
    "stranger's directory": (
        lambda s: plant(s.local[0] / "diff/etc/x", Path.mkdir),
        "pool/layers/",
        "has been changed: its name has another checksum; it holds etc/x of user 4242",
    ),
    "stranger's file in a layer": (
        lambda s: plant(s.stand_in_path() / "diff/x"),
        "/diff/x",
        "is a file of user 4242",
    ),
    "stranger owns a local directory": (
        lambda s: os.chown(s.local[0] / "diff/etc", STRANGER, -1),
        "pool/layers/",
        "has been changed: its name has another checksum; it holds etc of user 4242",
    ),
    "stranger owns a piece": (
        lambda s: os.chown(s.linked[0], STRANGER, -1),
        "pool/layers/",
        f"is owned by uid {STRANGER}",
    ),
    "stranger owns a piece's diff": (
        lambda s: os.chown(s.linked[0] / "diff", STRANGER, -1, follow_symlinks=False),
        "/diff",
        f"is owned by uid {STRANGER}",
    ),
    "stranger owns a layer's diff": (
        lambda s: os.chown(s.layer_path(s.top) / "diff", STRANGER, -1),
        "/diff",
        f"is owned by uid {STRANGER}",
    ),
    "store gone": (lambda s: shutil.rmtree(s.path), "/store", "there is no store"),
    "store is a file": (lambda s: replaced(s.path, Path.touch), "/store", "not a directory"),
}
