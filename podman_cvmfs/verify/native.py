# SPDX-License-Identifier: Apache-2.0
"""Compare the findings of the real containers/storage library with those of our reader."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from podman_cvmfs.oci.times import normal_time
from podman_cvmfs.storage_native import Image, Layer, StoreReport, judge
from podman_cvmfs.store.layout import synthetic_diff_id
from podman_cvmfs.store.reader import read_store
from podman_cvmfs.store.records import StoreContent, StoredImage, StoredLayer


def verify_native(store: str) -> tuple[StoreReport, list[str]]:
    """The library's verdict on the store in the directory ``store``, and a sentence for each fault.

    A fault is one that the library finds, or a difference between the library and our reader.
    Raises StoreError, and NativeError as ``judge`` does.
    """
    content = read_store(store) or StoreContent()
    report = judge(store)
    return report, [*report.errors, *differences(report, content)]


def differences(report: StoreReport, content: StoreContent) -> list[str]:
    """Where the library (``report``) and our reader (``content``) disagree, as sentences."""
    return [
        *_compare("images", sorted(report.images), sorted(content.images)),
        *_compare("layers", sorted(report.layers), sorted(content.layers)),
        *_compare("names", dict(report.names), dict(content.names)),
        *(
            line
            for image_id, image in sorted(content.images.items())
            if image_id in report.images
            for line in _image(image, report.images[image_id], report.sizes, content)
        ),
        *(
            line
            for layer_id, layer in sorted(content.layers.items())
            if layer_id in report.layers
            for line in _layer(layer, report.layers[layer_id])
        ),
    ]


def image_files(image: StoredImage) -> dict[str, int]:
    """The files that ``records.image_json`` says belong to an image: key -> size in bytes."""
    files = {f"sha256:{image.image_id}": image.config_size, "manifest": image.manifest_size}
    if image.index_digest is not None:
        files[f"manifest-{image.index_digest}"] = image.index_size
    return files


def image_size(image: StoredImage, layers: Mapping[str, StoredLayer]) -> int:
    """The size of an image as the library adds it up (``store.go``, ``ImageSize``), in bytes."""
    size = sum(image_files(image).values())
    chain: set[str] = set()
    layer_id = image.top_layer
    # A broken store may lack a layer, or have one that lies below itself.
    while layer_id is not None and layer_id in layers and layer_id not in chain:
        chain.add(layer_id)
        layer_id = layers[layer_id].parent
    return size + sum(layers[each].diff_size for each in chain)


def _image(
    ours: StoredImage, theirs: Image, sizes: Mapping[str, int], content: StoreContent
) -> Iterator[str]:
    subject = f"image {ours.image_id}: "
    yield from _compare(subject + "digest", theirs.digest, str(ours.manifest_digest))
    yield from _compare(subject + "top layer", theirs.layer, ours.top_layer or "")
    yield from _compare(subject + "time", normal_time(theirs.created), normal_time(ours.created))
    files = {item.key: item.size for item in theirs.big_data}
    yield from _compare(subject + "files", files, image_files(ours))
    size = image_size(ours, content.layers)
    yield from _compare(subject + "size", sizes.get(ours.image_id), size)


def _layer(ours: StoredLayer, theirs: Layer) -> Iterator[str]:
    subject = f"layer {ours.layer_id}: "
    diff_id = str(ours.diff_id) if ours.diff_id else synthetic_diff_id(ours.layer_id)
    yield from _compare(subject + "parent", theirs.parent, ours.parent or "")
    yield from _compare(subject + "diff digest", theirs.diff_digest, diff_id)
    yield from _compare(subject + "size", theirs.diff_size, ours.diff_size)
    blob = str(ours.blob) if ours.blob else ""
    yield from _compare(subject + "blob", theirs.compressed_digest, blob)
    yield from _compare(subject + "blob size", theirs.compressed_size, ours.blob_size)
    yield from _compare(subject + "compression", theirs.compression, ours.compression)


def _compare(what: str, theirs: object, ours: object) -> Iterator[str]:
    if theirs != ours:
        yield f"{what}: containers/storage finds {theirs}, podman-cvmfs {ours}"
