# SPDX-License-Identifier: Apache-2.0
"""File lists that are made of layers' tars, held against what podman unpacks of the same layers."""

from __future__ import annotations

from podman_cvmfs.oci.documents import Digest, layer_ids
from tests.matrix.bench import Bench
from tests.support import nasty_layers
from tests.support.images import LAYERS, Image, image_of, push
from tests.support.layers import pack
from tests.support.unpacked_layer import assembled, listed, unlike


def test_lists_of_tars_are_what_podman_unpacks(bench: Bench) -> None:
    layers = [name for name in LAYERS if not name.startswith("deep-")]
    blobs = [pack(LAYERS[name], "zstd") for name in layers]
    blobs += [nasty_layers.blob(name) for name in nasty_layers.TARS]
    names = [*layers, *nasty_layers.TARS]
    image = image_of(Image("t/lists:1", names), tuple(blobs))
    ids = layer_ids([Digest.parse(blob.diff_id) for blob in blobs])
    with bench.fresh() as podman:
        podman.run("pull", "--quiet", push(image, bench.site.registry))
        for name, layer, blob in zip(names, ids, blobs):
            entries, split = listed(blob)
            unpacked = podman.graphroot / "overlay" / layer / "diff"
            assert [*unlike(entries, unpacked)] == [], name
            assert assembled(split, unpacked) == blob.diff_id, name
