# SPDX-License-Identifier: Apache-2.0
"""The ``podman-cvmfs`` command: finds the subcommand, shows errors, and sets the exit code."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from podman_cvmfs import __version__
from podman_cvmfs.cli import journal
from podman_cvmfs.errors import PodmanCvmfsError, printable

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

#: Subcommand -> what it does. Each is in the module of its name. Only the used one is imported, so
#: that no command loads another one's libraries.
COMMANDS = {
    "cache": "Carry configurations and manifests to another host.",
    "config": "Show each setting and where it comes from.",
    "doctor": "Find why podman fails or is slow with the store, and how to cure it.",
    "images": "List the images of the repository and of the store.",
    "inspect": "Show images of the store with their layers and files.",
    "lists": "Make exact lists of the files of images, from their registries.",
    "prefetch": "Read early what images open when they start.",
    "profile": "Record what an image opens when it starts.",
    "prune": "Remove old layers that nobody uses.",
    "publish": "Unpack images into a repository in DUCC's layout.",
    "registry": "Serve a registry whose push publishes into the repository.",
    "setup": "Make podman use the store, or undo that.",
    "status": "Show the last sync, counts, and the next change that is due.",
    "sync": "Write the store from the repository.",
    "unpublish": "Remove images from a repository that publish has filled.",
    "verify": "Check the store, and repair it.",
    "why": "Say what podman run will do with an image, and why.",
}

_EXIT_INTERRUPTED = 130


class LazyGroup(click.Group):
    """A click group that imports a subcommand's module when the subcommand is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"podman_cvmfs.cli.{cmd_name}")
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete subcommands from the table, too, and options as any command does."""
        from click.shell_completion import CompletionItem

        found = [
            CompletionItem(name, help=what)
            for name, what in sorted(COMMANDS.items())
            if name.startswith(incomplete)
        ]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the subcommands from the table, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failure, 2 wrong usage, 3 bad input, 4 repository, 5 store, "
    "6 registry, 7 some images failed, 130 interrupted.",
)
@click.version_option(__version__, prog_name="podman-cvmfs")
@click.option("-v", "--verbose", count=True, help="Print more. Twice: print everything.")
@click.option(
    "-q", "--quiet", count=True, help="Print warnings and errors only. Twice: errors only."
)
def cli(verbose: int, quiet: int) -> None:
    """Run container images unpacked in CernVM-FS with podman, without pulling them."""
    levels = [logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG]
    level = levels[max(0, min(3, 2 + verbose - quiet))]
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr, force=True)
    if journal.is_read():
        logging.getLogger().handlers[0].setFormatter(journal.JournalFormatter())
    # Messages of other libraries are shown only with -vv.
    for library in ("urllib3", "requests"):
        logging.getLogger(library).setLevel(logging.DEBUG if verbose > 1 else logging.WARNING)


def _leave(code: int) -> NoReturn:
    """Exit with ``code``. From here on interrupts are ignored."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(code)


def fail(message: str, hint: str | None, code: int) -> NoReturn:
    """Print one error, with its hint on a line of its own, and exit with ``code``."""
    text = f"podman-cvmfs: error: {message}" + (f"\n  hint: {hint}" if hint else "")
    click.echo(journal.tagged(text, logging.ERROR) if journal.is_read() else text, err=True)
    _leave(code)


def _flush() -> None:
    """Write out the buffered output. If that fails, the interpreter must not try again at its end:
    it would print several lines and set its own exit code (120)."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def main() -> NoReturn:
    """Run the command line; the only place that turns errors into exit codes."""
    # Every user's podman must be able to read our files, whatever the caller's umask is.
    os.umask(0o022)
    try:
        try:
            cli.main(prog_name="podman-cvmfs", standalone_mode=False)
        finally:
            _flush()
        _leave(0)
    except click.exceptions.Exit as err:
        _leave(err.exit_code)
    except click.ClickException as err:
        err.show()
        _leave(err.exit_code)
    except (KeyboardInterrupt, click.Abort):
        fail("interrupted", None, _EXIT_INTERRUPTED)
    except RuntimeError as err:
        # Python before 3.12 raises this for an interrupt in the middle of a class definition.
        if not isinstance(err.__cause__, KeyboardInterrupt):
            raise
        fail("interrupted", None, _EXIT_INTERRUPTED)
    except PodmanCvmfsError as err:
        fail(err.message, err.hint, err.exit_code)
    except BrokenPipeError:
        # The reader of our output has gone (podman-cvmfs ... | head), so there is nothing to print.
        _leave(1)
    except OSError as err:
        where = f" ({printable(os.fsdecode(err.filename))})" if err.filename else ""
        fail(f"{err.strerror or err}{where}", None, 1)
