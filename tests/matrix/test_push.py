# SPDX-License-Identifier: Apache-2.0
"""Exact images leave the store as they were published: push, save, copy, and pulls that share their
layers."""

from __future__ import annotations

import gzip
import hashlib
import json

import pytest
import requests

from tests.matrix import reuse
from tests.matrix.bench import Bench
from tests.matrix.cells import EXACT
from tests.matrix.run import compare, store_of

_MOUNT = EXACT[0]
#: Layers with deletions, odd names, links and setuid bits, one image's layer twice.
_IMAGES = ("t/app:1", "t/opaque:1", "v/alternating:1")
_NEWER = pytest.mark.parametrize("bench", ["trixie", "sid"], indirect=True)


@_NEWER
def test_push_and_copy_give_the_original_layers_and_config(bench: Bench) -> None:
    with bench.fresh(stores=[store_of(bench, _MOUNT)], mountopt=_MOUNT.mountopt) as podman:
        for image in _IMAGES:
            name, built = bench.site.name(image), bench.site.images[image]
            wanted = [blob.diff_id for blob in built.blobs]
            pushed = f"pushed/{bench.count()}"
            podman.run("push", "--quiet", name, f"{bench.site.registry.address}/{pushed}:1")
            assert _sent(bench, pushed) == (built.config, wanted)
            copied = f"copied/{bench.count()}"
            podman.tool(
                "skopeo",
                "copy",
                "--quiet",
                "--dest-tls-verify=false",
                f"containers-storage:{name}",
                f"docker://{bench.site.registry.address}/{copied}:1",
            )
            assert _sent(bench, copied) == (built.config, wanted)


def _sent(bench: Bench, repository: str) -> tuple[bytes, list[str]]:
    """The config of the image in the registry, and the diff IDs of the layers as they are there."""
    place = f"{bench.site.registry.url}/v2/{repository}"
    types = (
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
    found = requests.get(f"{place}/manifests/1", headers={"Accept": ",".join(types)}, timeout=20)
    manifest = json.loads(found.content)

    def blob(digest: str) -> bytes:
        return requests.get(f"{place}/blobs/{digest}", timeout=20).content

    tars = [gzip.decompress(blob(each["digest"])) for each in manifest["layers"]]
    return blob(manifest["config"]["digest"]), [
        f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in tars
    ]


@_NEWER
@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_saved_images_are_the_pulled_ones(bench: Bench, form: str) -> None:
    names = [bench.site.name(image) for image in _IMAGES]
    archive = bench.site.data / f"saved-{bench.count()}.tar"
    store = store_of(bench, _MOUNT)
    with bench.fresh(stores=[store], mountopt=_MOUNT.mountopt) as podman, bench.fresh() as other:
        for image, name in zip(_IMAGES, names):
            archive.unlink(missing_ok=True)
            podman.run("save", "--quiet", "--format", form, "--output", str(archive), name)
            other.run("load", "--quiet", "--input", str(archive))
            (found,) = json.loads(other.run("image", "inspect", name).stdout)
            built = bench.site.images[image]
            assert found["RootFS"]["Layers"] == [blob.diff_id for blob in built.blobs]
            # podman translates the config of another format, and then the ID is another.
            if form == "docker-archive":
                assert found["Id"] == built.image_id
        # With the same layers the other form has the same files.
        seen = other.listings(names) if form == "docker-archive" else {}
    pulled = bench.pulled(False, names=names) if seen else {}
    for name in seen:
        assert compare(pulled[name], seen[name], _MOUNT, 2, None) == []


@_NEWER
def test_pulls_share_layers_with_deletions(bench: Bench) -> None:
    """Also layers in other places, which podman then copies."""
    only = ("r/on-both:1", "r/moved-delete:1", "r/moved-opaque:1")
    outcome = reuse.pulls(bench, "exact", "base", mount=True, only=only)
    assert outcome.problems == []
    assert outcome.said == "3 same, 0 bytes again"
