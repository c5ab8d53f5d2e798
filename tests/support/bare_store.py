# SPDX-License-Identifier: Apache-2.0
"""An additional image store without directories of its own, as CernVM-FS's publisher and others
write them: what a container's start writes to is the repository's.

The format is containers/storage's; see ``podman_cvmfs.store.layout`` for where it is written down.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

from podman_cvmfs.store import layout


def write_bare_store(synced: Path, store: Path, repository: Path) -> Path:
    """Write ``store``, with the one image of the store ``synced``. Returns ``store``.

    The image's one layer is its merged root in ``repository``, linked as it is.
    """
    (record,) = json.loads((synced / layout.IMAGES / layout.IMAGES_JSON).read_text())
    layer_id = hashlib.sha256(b"a merged root").hexdigest()
    merged = repository / ".flat" / record["id"][:2] / record["id"]
    layer = store / layout.OVERLAY / layer_id
    for made in (layer, store / layout.OVERLAY / "l", store / layout.LAYERS):
        made.mkdir(parents=True)
    (layer / "link").write_text("merged")
    (layer / "diff").symlink_to(merged)
    (store / layout.OVERLAY / "l/merged").symlink_to(f"../{layer_id}/diff")
    shutil.copytree(synced / layout.IMAGES, store / layout.IMAGES)
    digest = layout.synthetic_diff_id(layer_id)
    described = {"id": layer_id, "created": record["created"], "diff-digest": digest}
    layers = [{**described, "diff-size": 1}]
    (store / layout.LAYERS / layout.LAYERS_JSON).write_text(json.dumps(layers))
    images = [{**record, "layer": layer_id}]
    (store / layout.IMAGES / layout.IMAGES_JSON).write_text(json.dumps(images))
    for lock_name, directory in layout.LOCK_FILES.items():
        lock = store / directory / lock_name
        lock.unlink(missing_ok=True)
        lock.write_bytes(os.urandom(layout.TOKEN_BYTES))
    return store
