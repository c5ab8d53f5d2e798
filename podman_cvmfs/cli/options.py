# SPDX-License-Identifier: Apache-2.0
"""Options that several commands share, with the same names and help texts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from podman_cvmfs.errors import PodmanCvmfsError
from podman_cvmfs.settings import paths
from podman_cvmfs.settings.policy import Overlay, Reuse, View

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from podman_cvmfs.settings.files import Settings

log = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])

#: The context keeps the settings of the command line here, by key.
_GIVEN = "podman_cvmfs.settings"


class _Place(click.types.StringParamType):
    """A path as typed, with completion by the shell. The command itself checks whether it
    exists."""

    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self._kind = kind

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type=self._kind)]


DIRECTORY = _Place("DIR", "dir")
FILE = _Place("FILE", "file")


def stored_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The store's names with this beginning, for the shell's completion. No repository is read."""
    from podman_cvmfs.reports.sources import target_of
    from podman_cvmfs.settings.files import load_settings
    from podman_cvmfs.store.reader import read_store

    try:
        settings = target_of(load_settings(ctx.meta.get(_GIVEN)))
        content = read_store(settings.store)
    except (PodmanCvmfsError, OSError):
        # An error message would disturb the command line that is being typed.
        return []
    names = () if content is None else content.names
    return sorted(name for name in names if name.startswith(incomplete))


def setting(key: str, *names: str, **attributes: Any) -> Callable[[F], F]:
    """An option that sets the setting ``key``. It isn't a parameter of the command's function,
    which calls ``settings_given`` instead."""

    def keep(ctx: click.Context, param: click.Parameter, value: object) -> None:
        # A repeatable option that isn't given is ().
        if value is not None and value != ():
            ctx.meta.setdefault(_GIVEN, {})[key] = value

    return click.option(*names, expose_value=False, callback=keep, **attributes)


def settings_given() -> Settings:
    """The settings, with the options of the running command. Logs warnings about the files. Raises
    InputError."""
    from podman_cvmfs.settings.files import load_settings

    settings = load_settings(click.get_current_context().meta.get(_GIVEN))
    for warning in settings.warnings:
        log.warning("%s", warning)
    return settings


text_or_json = click.option(
    "--format",
    "output",
    type=click.Choice(["text", "json"]),
    default="text",
    help="Print text, or JSON on standard output.",
)


arch_option = setting(
    "arch",
    "--arch",
    metavar="ARCH",
    help="The architecture of the wanted images, for example amd64, arm64 or "
    "arm/v7. Default: the settings', otherwise this machine's.",
)


def store_options(function: F) -> F:
    """Where to read, where to write, and how images are laid out. A value that isn't given comes
    from the settings."""
    for option in reversed(
        [
            setting(
                "repositories",
                "--repository",
                type=DIRECTORY,
                multiple=True,
                help="The repository. Repeat it for more, in order of preference. Default: "
                f"the settings', otherwise {paths.REPOSITORY}.",
            ),
            setting(
                "store", "--store", type=DIRECTORY, help="The additional image store to write."
            ),
            setting(
                "cache",
                "--cache",
                type=DIRECTORY,
                help="The directory for configurations and manifests from registries.",
            ),
            setting(
                "view",
                "--view",
                type=click.Choice([each.value for each in View]),
                help="How containers see images: flat (by the merged root), layers, exact (as "
                "after a pull), or auto (exact if possible, otherwise flat, otherwise layers).",
            ),
            setting(
                "reuse",
                "--reuse",
                type=click.Choice([each.value for each in Reuse]),
                help="Which layers a pull may take from the store: base layers, all layers "
                "without whiteouts, or none.",
            ),
            setting(
                "overlay",
                "--overlay",
                type=click.Choice([each.value for each in Overlay]),
                help="What podman mounts the store's layers with.",
            ),
            setting(
                "shared",
                "--shared/--private",
                "shared",
                default=None,
                help="Let other users read the store, or only you.",
            ),
            arch_option,
        ]
    ):
        function = option(function)
    return function
