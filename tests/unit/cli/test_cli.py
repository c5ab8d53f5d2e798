# SPDX-License-Identifier: Apache-2.0
"""What all commands have in common: interrupts, colours, and what a start costs."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from podman_cvmfs.cli.main import COMMANDS
from podman_cvmfs.errors import InputError, StoreError
from podman_cvmfs.verify.store import verify
from tests.support.cli import Target
from tests.support.images import IMAGES, build, write_layout
from tests.support.many import REGISTRY, make_repository

_INTERRUPTED = 130
#: Runs the command line and sends it, and all that it has started, a SIGINT after so many seconds
#: of computing, as a terminal does; computing time, since the machine may be busy.
_INTERRUPTING = """
import os, signal, sys
from podman_cvmfs.cli.main import main
def interrupt(*_):
    print("sent", file=sys.stderr, flush=True)
    os.killpg(0, signal.SIGINT)
# Ignored in what a script starts in the background, such as all tests.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGALRM, interrupt)
signal.setitimer(signal.ITIMER_REAL, float(sys.argv.pop(1)))
main()
"""
#: SGR sequences that set a colour.
_COLOUR = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[0-9;]*m")


@dataclass
class Site:
    """A repository of 30 images, a store of them, and command lines that do something there."""

    target: Target
    root: Path

    def argv(self, command: str) -> list[str]:
        """Arguments with which ``command`` is at work for a while, and ends well or not."""
        places = self.target.argv()[1:]
        store = ["--store", str(self.target.store)]
        only = [*store, "--repository", str(self.target.repository)]
        name = f"{REGISTRY}/project/app1:1"
        return [
            command,
            *{
                "cache": ["export", "--cache", str(self.target.cache), str(self.root / "blobs")],
                "config": [],
                "doctor": only,
                "images": only,
                "inspect": [name, *store],
                "lists": [name, *store, "--cache", str(self.target.cache)],
                "prefetch": [name, *store],
                "profile": [name, *store, "--trace", str(self.root / "trace")],
                "prune": store,
                "publish": [f"oci:{self.root}/layout", "--repository", str(self.root / "new")],
                # There is no such place, or it would run until it is ended.
                "registry": ["--upstream", "http://127.0.0.1:1", "--repository", "/none/none"],
                "setup": ["--dry-run", *store],
                "status": places,
                "sync": [*places, "--view", "layers"],
                "unpublish": ["--repository", str(self.root / "new"), "--dry-run"],
                "verify": [*store, "--repair", *only[2:]],
                "why": [name, *only],
            }[command],
        ]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    root = tmp_path_factory.mktemp("site")
    make_repository(root / "repository", 30)
    write_layout([build(image) for image in IMAGES[:2]], root / "layout")
    (root / "config.toml").write_text("offline = true\n")
    (root / "trace").write_text("")
    (root / "home").mkdir()
    target = Target(root / "repository", root / "store", root / "cache")
    site = Site(target, root)
    done = subprocess.run([sys.executable, "-m", "podman_cvmfs", *target.argv()], env=env(site))
    assert done.returncode == 0
    return site


def env(site: Site, **more: str) -> dict[str, str]:
    return {
        **os.environ,
        "PODMAN_CVMFS_CONFIG": str(site.root / "config.toml"),
        "HOME": str(site.root / "home"),
        "LC_ALL": "C.UTF-8",
        "TERM": "xterm-256color",
        "COLUMNS": "200",
        **more,
    }


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_interrupt(site: Site, command: str) -> None:
    """Wherever it comes: one line, exit code 130, and a store that is valid."""
    if command in ("sync", "verify"):
        # Something to do: the store has been laid out otherwise.
        again = [sys.executable, "-m", "podman_cvmfs", "-qq", *site.target.argv()]
        subprocess.run(again, env=env(site), check=True)
    interrupted = 0
    for step in range(10):
        # A processor's time would be told in steps longer than a short command takes.
        seconds = 0.002 * 2**step
        done = subprocess.run(
            [sys.executable, "-c", _INTERRUPTING, str(seconds), *site.argv(command)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            env=env(site),
            timeout=120,
            start_new_session=True,
        )
        if "sent\n" not in done.stderr:
            break
        # One that falls into a callback of Python's imports goes by, and Python says so itself.
        assert "Traceback" not in done.stderr or "Exception ignored in: " in done.stderr
        assert verify(str(site.target.store)).errors == 0
        # The last moments of a command that is done already don't count.
        if done.returncode == _INTERRUPTED:
            interrupted += 1
            assert done.stderr.splitlines()[-1] == "podman-cvmfs: error: interrupted"
    assert interrupted > 0


@pytest.mark.parametrize("arguments", [["--version"], ["no-such-command"], ["sync", "bad name"]])
def test_interrupt_when_all_is_over(arguments: list[str]) -> None:
    code = """
import atexit, os, signal
from podman_cvmfs.cli.main import main
signal.signal(signal.SIGINT, signal.default_int_handler)
atexit.register(os.kill, os.getpid(), signal.SIGINT)
main()
"""
    argv = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(argv, capture_output=True, encoding="utf-8")
    assert done.returncode == -signal.SIGINT
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_no_colour_where_nobody_looks(site: Site, command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "podman_cvmfs", *site.argv(command)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=env(site),
    )
    assert b"\x1b" not in done.stdout


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_no_color_is_honoured_at_a_terminal(site: Site, command: str) -> None:
    assert not _COLOUR.search(at_a_terminal(site, command, NO_COLOR="1"))


def test_colours_at_a_terminal(site: Site) -> None:
    """So that the test above can fail."""
    assert _COLOUR.search(at_a_terminal(site, "images"))


def at_a_terminal(site: Site, command: str, **more: str) -> str:
    """All that ``command`` shows at a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "podman_cvmfs", *site.argv(command)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=env(site, **more),
    )
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:  # what Linux says when the other side has gone
        pass
    finally:
        os.close(ours)
        process.wait()
    assert shown, command
    return shown.decode(errors="replace")


@pytest.mark.parametrize("command", ["images", "inspect", "prune", "status", "why"])
def test_a_store_that_cannot_be_read_is_not_taken_for_none(site: Site, command: str) -> None:
    store = site.root / "config.toml"
    argv = [word.replace(str(site.target.store), str(store)) for word in site.argv(command)]
    argv = [word for word in argv if word not in ("--cache", str(site.target.cache))]
    done = subprocess.run(
        [sys.executable, "-m", "podman_cvmfs", *argv],
        capture_output=True,
        encoding="utf-8",
        env=env(site),
    )
    assert done.returncode == StoreError.exit_code, done.stderr
    assert f"error: can't read the store {store}: Not a directory" in done.stderr


@pytest.mark.parametrize("command", ["cache export -", "cache import -", "images", "sync"])
def test_closed_streams(site: Site, command: str) -> None:
    argv = site.argv(command) if command in COMMANDS else command.split()
    log = site.root / "log"
    with log.open("w") as errors:
        subprocess.run(
            ["sh", "-c", 'exec "$@" <&- >&-', "sh", sys.executable, "-m", "podman_cvmfs", *argv],
            stderr=errors,
            env=env(site),
        )
    assert "Traceback" not in log.read_text()
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-m", "podman_cvmfs", *argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env=env(site),
    )
    assert done.returncode in (0, InputError.exit_code)


def test_version_imports_nothing_it_does_not_need() -> None:
    script = (
        "import sys\nimport click\nbefore = set(sys.modules)\n"
        "from podman_cvmfs.cli.main import main\nsys.argv = ['podman-cvmfs', '--version']\n"
        "try:\n    main()\nexcept SystemExit:\n    print(*sorted(set(sys.modules) - before))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, encoding="utf-8", check=True
    )
    imported = set(done.stdout.splitlines()[1].split())
    ours = {name for name in imported if name.startswith("podman_cvmfs")}
    assert ours == {
        *("podman_cvmfs", "podman_cvmfs.cli", "podman_cvmfs.cli.main"),
        *("podman_cvmfs.errors", "podman_cvmfs.cli.journal"),
    }
    heavy = {"json", "requests", "rich", "ssl", "subprocess", "tomlkit", "yaml"}
    assert not heavy & imported


@pytest.mark.parametrize("words", [["config"], ["--help"]])
def test_output_onto_a_full_disk_is_one_line_and_a_known_code(words: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "podman_cvmfs", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
            encoding="utf-8",
        )
    assert done.returncode == 1
    assert done.stderr == "podman-cvmfs: error: No space left on device\n"
