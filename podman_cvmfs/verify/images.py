# SPDX-License-Identifier: Apache-2.0
"""Examine the images of a store: files, digests, names, and the layers they need."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

from podman_cvmfs.errors import InputError
from podman_cvmfs.names.reference import ImageName, parse_repository_path, podman_names
from podman_cvmfs.oci.big_data import big_data_file
from podman_cvmfs.oci.documents import (
    Descriptor,
    Digest,
    ImageConfig,
    Manifest,
    layer_ids,
    parse_config,
    parse_manifest,
)
from podman_cvmfs.plan.lay_out import mount_bytes
from podman_cvmfs.plan.retirement import is_retired, retired_name
from podman_cvmfs.plan.shown_layer import stand_in_id
from podman_cvmfs.podman.features import SHORT_MOUNT_DATA, mount_data_limit
from podman_cvmfs.repository.osg_names import merged_root, merged_root_of_index, source_id
from podman_cvmfs.resolve.config import SYNTHESISED
from podman_cvmfs.resolve.manifest import is_readable
from podman_cvmfs.store import layout
from podman_cvmfs.store.records import (
    ImageFiles,
    Part,
    StoreContent,
    StoredImage,
    StoredLayer,
    chain_of,
    files_of_part,
)
from podman_cvmfs.verify.inspection import Inspection
from podman_cvmfs.verify.layers import Layers, shown_blobs
from podman_cvmfs.verify.pieces import TARGET
from podman_cvmfs.verify.record_reader import IMAGES_PATH, LAYERS_PATH


def check_images(
    look: Inspection, generation: str, content: StoreContent, layers: Layers
) -> dict[str, ImageFiles]:
    """Examine all images of ``content``; return the files of unchanged images.

    ``layers`` is the result of examining the layers.
    """
    genuine = {}
    for image_id, image in content.images.items():
        entry = f"{layout.POOL_IMAGES}/{image.entry}"
        look.link(f"{generation}/{layout.IMAGES}/{image_id}", f"../../../{entry}")
        files = _files(look, entry, image)
        if files is None:
            continue
        genuine[image_id] = files
        for path, what in _contradictions(content, layers, image, files):
            look.error(f"{generation}/{path}", f"image {image_id} {what}")
        _check_depth(look, entry, content, layers, image)
    for layer_id in _shown_for_nobody(content):
        what = f"says that layer {layer_id} shows an image without this layer"
        look.error(f"{generation}/{layout.STATE}", what)
    for what in _wrong_names(content):
        look.error(f"{generation}/{IMAGES_PATH}", what)
    return genuine


def _files(look: Inspection, entry: str, image: StoredImage) -> ImageFiles | None:
    """The image's files; None, and findings, if they have been changed."""
    names = look.names(entry)
    if names is None:
        return None
    config_name = big_data_file(f"sha256:{image.image_id}")
    index_name = big_data_file(f"manifest-{image.index_digest}")
    index = look.read(f"{entry}/{index_name}") if image.index_digest is not None else None
    if index is not None and str(Digest.of(index)) != image.index_digest:
        look.error(f"{entry}/{index_name}", f"doesn't have the digest {image.index_digest}")
    indexes = set() if image.index_digest is None else {index_name}
    look.no_others(entry, names, {"manifest", config_name} | indexes)
    manifest = look.read(f"{entry}/manifest")
    config = look.read(f"{entry}/{config_name}")
    is_whole = True
    for name, data, size in (
        ("manifest", manifest, image.manifest_size),
        (config_name, config, image.config_size),
        (index_name, index, image.index_size),
    ):
        if data is not None and len(data) != size:
            look.error(f"{entry}/{name}", f"has {len(data)} bytes, not {size}")
            is_whole = False
    if manifest is None or config is None:
        return None
    files = ImageFiles(image.image_id, manifest, config, index)
    if str(files.manifest_digest) != image.manifest_digest:
        look.error(f"{entry}/manifest", f"doesn't have the digest {image.manifest_digest}")
        is_whole = False
    if Digest.of(config).hex != image.image_id:
        look.error(f"{entry}/{config_name}", f"doesn't have the digest sha256:{image.image_id}")
        is_whole = False
    if is_whole and files.entry != image.entry:
        look.error(entry, "has been changed: its name has another checksum")
        is_whole = False
    return files if is_whole else None


def _contradictions(
    content: StoreContent, layers: Layers, image: StoredImage, files: ImageFiles
) -> Iterator[tuple[str, str]]:
    """The contradictions between an image's record, files and layers: the path of the record, and
    the fault as the end of a sentence."""
    try:
        config = parse_config(files.config, "the config")
        manifest = parse_manifest(files.manifest, "the manifest")
        can_be_read = is_readable(files.manifest)
    except InputError as err:
        yield IMAGES_PATH, f"can't be understood: {err.message}"
        return
    if not can_be_read:
        yield IMAGES_PATH, "has a manifest with zstd that only podman 5.7 and later can read"
    if config.created != image.created:
        yield IMAGES_PATH, f"was created {config.created}, not {image.created}"
    if str(config.platform) != image.platform:
        yield layout.STATE, f"is for {config.platform}, not for {image.platform}"
    if image.config_origin == SYNTHESISED:
        is_wrong = image.source_id == image.image_id
    else:
        # The former names of a retired image are not recorded.
        is_wrong = not is_retired(image) and image.source_id not in _sources(image, manifest)
    if is_wrong:
        yield layout.STATE, "has a source ID that contradicts the origin of its config"
    top = content.layers.get(image.top_layer or "")
    # A layer of layout 4 may be held for its users, with the files of a former repository.
    is_shown = top is not None and top.shows is not None and top.lowers is not None
    if top is not None and is_shown and top.repository != image.repository:
        yield layout.STATE, f"is from {image.repository}, but its files from {top.repository}"
    if (manifest.config.digest, manifest.config.size) != (config.digest, len(config.raw)):
        yield IMAGES_PATH, "has the manifest of another config"
    blobs = [blob for blob in manifest.layers if not blob.is_foreign]
    if len(blobs) != len(config.diff_ids):
        yield IMAGES_PATH, "has more or fewer layers in its manifest than in its config"
    if image.top_layer is not None and image.top_layer not in content.layers:
        yield IMAGES_PATH, f"has the top layer {image.top_layer}, which is missing"
    elif image.top_layer is None or image.top_layer in layers.sound:
        chain = chain_of(content, image.top_layer)[::-1]
        for what in _wrong_chain(chain, config, image):
            yield IMAGES_PATH, what
        for what in _wrong_files(chain, image, manifest, layers.shown):
            yield IMAGES_PATH, what
        for what in _wrong_blobs(chain, blobs):
            yield LAYERS_PATH, what


def _sources(image: StoredImage, manifest: Manifest) -> Iterator[str]:
    """The source IDs that an image with a genuine config may have: its own ID, or, if repositories
    have only its merged root, the IDs from that root and its names."""
    yield image.image_id
    roots = _roots(image, manifest)
    for path in image.published:
        with contextlib.suppress(InputError):
            name = parse_repository_path(path)
            yield from (source_id(root, name).hex for root in roots)


def _roots(image: StoredImage, manifest: Manifest) -> list[str]:
    """The possible places of the image's merged root in OSG's repository."""
    roots = [merged_root(manifest)]
    if image.index_digest is not None:
        roots.append(merged_root_of_index(Digest.parse(image.index_digest)))
    return roots


def _wrong_chain(
    chain: Sequence[StoredLayer], config: ImageConfig, image: StoredImage
) -> Iterator[str]:
    """Whether the layers, base first, have the IDs that follow from the config's diff IDs."""
    if len(chain) != len(config.diff_ids):
        yield f"has {len(chain)} layers in the store, but {len(config.diff_ids)} in its config"
        return
    parent = None
    for layer, genuine in zip(chain, layer_ids(config.diff_ids)):
        if layer.lowers is None:
            parent = layer.layer_id
            continue  # of layout 4, and there for its grace
        is_top = layer is chain[-1]
        allowed = set() if is_top else {stand_in_id(parent)}
        if parent is None or chain[-1].exact:
            allowed.add(genuine)
        if layer.layer_id not in allowed and not (is_top and layer.shows is not None):
            yield f"has the layer {layer.layer_id}, where its config wants {genuine}"
            return
        if layer.retired is not None and not is_retired(image):
            yield f"needs the layer {layer.layer_id}, which is retired"
        parent = layer.layer_id


def _wrong_files(
    chain: Sequence[StoredLayer], image: StoredImage, manifest: Manifest, shown: Mapping[str, Part]
) -> Iterator[str]:
    """Whether the top layer of ``chain`` (base first) shows the image's files. A top layer that
    pulls can find shows only its own files."""
    top = chain[-1] if chain else None
    if top is None or top.lowers is None or top.shows is None:
        return
    if not shown.keys() >= set(top.lowers):
        return
    if not top.merged:
        blobs = [blob.digest.hex for blob in manifest.layers if not blob.is_foreign]
        wanted = dict.fromkeys(reversed(blobs))
        if shown_blobs(top, shown) != list(wanted):
            yield f"is shown by the layer {top.layer_id}, which shows other layers than the image's"
        return
    parts = [shown[each] for each in top.lowers]
    links = [TARGET.match(files_of_part(part) or "") for part in parts]
    for link in filter(None, links):
        if link["merged"] is None:
            is_right = link["source"] in {image.image_id, *image.all_sources}
        else:
            # Without the registry's documents the layers of an image are unknown.
            is_right = image.config_origin == SYNTHESISED or link["merged"] in _roots(
                image, manifest
            )
        if not is_right:
            yield f"is shown by the layer {top.layer_id}, the merged root of another image"


def _shown_for_nobody(content: StoreContent) -> Iterator[str]:
    """The IDs of top layers that, by their records, show an image that doesn't have them. Images
    with the same files share one, and the former names of retired images are not recorded. A merged
    root's path tells its image."""
    sources: dict[str, set[str]] = {}
    skipped: set[str] = set()
    for image in content.images.values():
        if image.top_layer is not None:
            sources.setdefault(image.top_layer, set()).update(image.all_sources)
            if is_retired(image) or image.outdated:
                skipped.add(image.top_layer)
    for layer_id in sources.keys() - skipped:
        layer = content.layers.get(layer_id)
        if layer is None or layer.shows is None or layer.merged:
            continue
        if layer.shows not in sources[layer_id]:
            yield layer_id


def _wrong_blobs(chain: Sequence[StoredLayer], blobs: Sequence[Descriptor]) -> Iterator[str]:
    """Whether the sizes of advertised layers are the manifest's."""
    for layer, blob in zip(chain, blobs):
        # Another image may have the same layer with another compression.
        if layer.blob == blob.digest and layer.blob_size != blob.size:
            yield f"has the layer {layer.layer_id} packed in {blob.size} bytes, not as recorded"


def _check_depth(
    look: Inspection, entry: str, content: StoreContent, layers: Layers, image: StoredImage
) -> None:
    """Whether podman can mount the image."""
    top = content.layers.get(image.top_layer or "")
    if top is None or not top.lowers or top.layer_id not in layers.directories:
        return
    length = mount_bytes(len(top.lowers), look.store)
    limit = mount_data_limit() if length > SHORT_MOUNT_DATA else None
    if limit is not None and length > limit:
        look.error(
            entry,
            f"podman 4 can't mount this image: {length} bytes of options, where {limit} fit",
            "use podman 5, the flat view, or a store with a shorter path",
        )


def _wrong_names(content: StoreContent) -> Iterator[str]:
    """Names that don't come from the repositories, and names that podman wouldn't find."""
    offered: dict[str, set[str]] = {}
    for image_id, image in content.images.items():
        if is_retired(image):
            offered.setdefault(retired_name(image_id), set()).add(image_id)
        for path in image.published:
            try:
                name = parse_repository_path(path)
            except InputError as err:
                yield f"image {image_id} has a malformed name in the state: {err.message}"
                continue
            yield from _not_its_own(content, image_id, name)
            for each in podman_names(name):
                offered.setdefault(each, set()).add(image_id)
    for text, image_id in content.names.items():
        if image_id in content.images and image_id not in offered.get(text, ()):
            yield f"image {image_id} has the name {text[:300]!r}, which isn't one of its names"
    for missing in sorted(set(offered) - set(content.names)):
        yield f"no image has the name {missing!r}"


def _not_its_own(content: StoreContent, image_id: str, name: ImageName) -> Iterator[str]:
    holder = content.names.get(str(name))
    if holder is not None and holder != image_id:
        yield f"image {image_id} lacks its name {str(name)!r}, which {holder} has"
