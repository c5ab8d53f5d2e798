# SPDX-License-Identifier: Apache-2.0
"""``podman-cvmfs config``: the settings in force, and where each comes from."""

from __future__ import annotations

import json

import click

from podman_cvmfs.cli.options import settings_given
from podman_cvmfs.settings.files import Settings


@click.command("config")
@click.option(
    "--format",
    "output",
    type=click.Choice(["text", "json"]),
    default="text",
    help="With json: print an object on standard output.",
)
def command(output: str) -> None:
    """Show each setting and where it comes from.

    The output is itself a valid settings file. Settings are read from /etc/podman-
    cvmfs/config.toml and config.d/*.toml. For ordinary users the files in
    $XDG_CONFIG_HOME/podman-cvmfs come after these. If $PODMAN_CVMFS_CONFIG names a file, only
    that file is read.
    """
    settings = settings_given()
    if output == "json":
        click.echo(json.dumps(_as_data(settings), indent=2))
        return
    lines = [(f"{key} = {_toml(value)}", key) for key, value in settings.values().items()]
    width = max(len(line) for line, _ in lines if len(line) < 60)
    for line, key in lines:
        click.echo(f"{line:<{width}}  # {settings.source(key)}")


def _as_data(settings: Settings) -> dict[str, object]:
    return {
        "files": list(settings.files),
        "settings": {
            key: {"value": value, "source": settings.source(key)}
            for key, value in settings.values().items()
        },
    }


def _toml(value: object) -> str:
    """A value as TOML has it; JSON's form of texts, numbers and lists of them is TOML's too."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value)
