# SPDX-License-Identifier: Apache-2.0
"""``podman-cvmfs inspect``."""

from __future__ import annotations

import json

import click

from podman_cvmfs.cli.options import DIRECTORY, setting, settings_given, stored_names
from podman_cvmfs.errors import printable
from podman_cvmfs.reports.find import names_of, required
from podman_cvmfs.reports.image import Anatomy, LayerAnatomy, anatomy_of
from podman_cvmfs.reports.sources import content_of, target_of
from podman_cvmfs.store.records import StoreContent


@click.command("inspect")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, shell_complete=stored_names)
@setting("store", "--store", type=DIRECTORY, help="The additional image store.")
@click.option(
    "--format",
    "output",
    type=click.Choice(["json", "text"]),
    default="json",
    help="Print a JSON array of objects, or text.",
)
def command(images: tuple[str, ...], output: str) -> None:
    """Show images of the store, by name or ID, with their layers, base first.

    For each layer it shows: its ID; its diff ID in the image's configuration; whether it is
    that layer, or an empty one in its place (genuine); whether pulls can find it by its digests
    (advertised); and the directories of its files, in the repository or in the store.
    """
    settings = target_of(settings_given())
    content = content_of(settings)
    found = [
        anatomy_of(settings.store, content, required(content, settings.store, text))
        for text in images
    ]
    data = [_as_data(content, each) for each in found]
    if output == "json":
        click.echo(json.dumps(data, indent=4))
    else:
        click.echo("\n\n".join(_as_text(each) for each in data))


def _as_data(content: StoreContent, anatomy: Anatomy) -> dict[str, object]:
    image, config = anatomy.image, anatomy.config
    return {
        "Id": image.image_id,
        "Names": names_of(content, image),
        "Digest": image.manifest_digest,
        "IndexDigest": image.index_digest,
        "Repository": image.repository,
        "SourceId": image.source_id,
        "Published": sorted(image.published),
        "Retired": not image.published,
        "View": image.view,
        "ConfigOrigin": image.config_origin,
        "ManifestOrigin": image.manifest_origin,
        "Architecture": config.architecture,
        "Os": config.os,
        "Created": image.created,
        "Size": sum(each.layer.diff_size for each in anatomy.layers),
        "Layers": [_layer(each) for each in anatomy.layers],
    }


def _layer(anatomy: LayerAnatomy) -> dict[str, object]:
    layer = anatomy.layer
    return {
        "Id": layer.layer_id,
        "DiffId": None if anatomy.diff_id is None else str(anatomy.diff_id),
        "Genuine": anatomy.is_genuine,
        "Advertised": layer.diff_id is not None,
        "Blob": None if layer.blob is None else str(layer.blob),
        "BlobSize": layer.blob_size,
        "Size": layer.diff_size,
        "MergedRoot": layer.merged,
        "Places": [
            {"Name": place.name, "Path": place.path, "InStore": place.in_store}
            for place in anatomy.places
        ],
    }


def _as_text(data: dict[str, object]) -> str:
    lines = []
    for key, value in data.items():
        if key == "Layers" or value is None:
            continue
        shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        lines.append(f"{key}: {printable(shown)}")
    layers = data["Layers"]
    assert isinstance(layers, list)
    for number, layer in enumerate(layers, 1):
        marks = [key for key in ("Genuine", "Advertised", "MergedRoot") if layer[key]]
        lines.append(f"Layer {number}: {layer['Id']} {layer['Size']} bytes {' '.join(marks)}")
        lines += [f"  {each['Name']}: {printable(each['Path'])}" for each in layer["Places"]]
    return "\n".join(line.rstrip() for line in lines)
