# SPDX-License-Identifier: Apache-2.0
"""Options that several commands share, so that they are spelt and explained alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from podman_cvmfs import paths
from podman_cvmfs.policy import Overlay, Reuse, View

F = TypeVar("F", bound=Callable[..., Any])

text_or_json = click.option(
    "--format",
    "output",
    type=click.Choice(["text", "json"]),
    default="text",
    help="Print data as JSON on standard output.",
)


def store_options(function: F) -> F:
    """Where to read, where to write, and how images are laid out. A value that isn't given comes
    from the settings."""
    for option in reversed(
        [
            click.option(
                "--repository",
                metavar="DIR",
                multiple=True,
                help=f"The unpacked repository, {paths.REPOSITORY} if nothing is set; again for "
                "others, in order of preference.",
            ),
            click.option("--store", metavar="DIR", help="The additional image store to write."),
            click.option(
                "--cache", metavar="DIR", help="Where blobs fetched from registries are kept."
            ),
            click.option(
                "--view",
                type=click.Choice([each.value for each in View]),
                help="Show images by the merged root, by their layers, or by what there is.",
            ),
            click.option(
                "--reuse",
                type=click.Choice([each.value for each in Reuse]),
                help="Which layers pulls of other images may take from the store.",
            ),
            click.option(
                "--overlay",
                type=click.Choice([each.value for each in Overlay]),
                help="What podman mounts the store's layers with.",
            ),
        ]
    ):
        function = option(function)
    return function
