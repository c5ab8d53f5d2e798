# SPDX-License-Identifier: Apache-2.0
"""What README and the manual show is typed, and what they say comes of it comes.

``tests.support.console`` says which blocks these are. Each document has a machine of its own, with
a small repository mounted at /cvmfs/unpacked.cern.ch as by CernVM-FS's client; its blocks are typed
one after the other.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from manual.pages import TEXTS, text_of
from podman_cvmfs.settings.paths import REPOSITORY
from tests.support.cli import succeed
from tests.support.console import Command, blocks_of_markdown, blocks_of_page
from tests.support.images import LAYERS, Image, build, push_index, write_layout
from tests.support.layers import file
from tests.support.mounted import mounted
from tests.support.one_user import HOME, Machine, python_path
from tests.support.podman import Host, running
from tests.support.registry import Registry

CHECKOUT = Path(__file__).resolve().parents[2]
#: Document -> its blocks.
BLOCKS = {"README.md": blocks_of_markdown((CHECKOUT / "README.md").read_text())}
for _path in sorted(TEXTS.glob("*.rst")):
    _name, _, _section = _path.stem.rpartition(".")
    BLOCKS[_path.stem] = blocks_of_page(text_of(_name, int(_section)))
#: How many blocks no test runs. Each says in the document why.
NOT_RUN = {
    "README.md": 1,
    "podman-cvmfs-cache-export.1": 1,
    "podman-cvmfs-crio.7": 2,
    "podman-cvmfs-images.1": 1,
    "podman-cvmfs-lists.1": 1,
    "podman-cvmfs-publish.1": 2,
    "podman-cvmfs-registry.1": 1,
    "podman-cvmfs-setup.1": 1,
    "podman-cvmfs-sync.1": 1,
    "podman-cvmfs-unpublish.1": 2,
    "podman-cvmfs-verify.1": 1,
    "podman-cvmfs.toml.5": 1,
}
#: Their first block makes podman use the store; before the others that has been done, and synced.
FRESH = ("README.md", "podman-cvmfs.1", "podman-cvmfs-setup.1")

#: What may differ between the shown output and the real one: pattern -> what stands for it.
DIFFERS = {
    # podman has no plug-ins for networks here.
    r'(?m)^time="[^"]*" level=warning msg="Error validating CNI config file .*\n': "",
    r"\b[0-9a-f]{12,64}\b": "ID",
    r"\d+(\.\d+)? ?(kB|KB|MB|GB|bytes)\b": "SIZE",
    r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?(Z| UTC)?": "TIME",
    r"(\d+|less than a) (seconds?|minutes?|hours?|days?)( ago)?": "TIME",
    r"podman \d+\.\d+\.\d+": "podman VERSION",
    r"127\.0\.0\.1:\d{4,5}": "registry.example.org",
    # Tables are as wide as what is in them.
    r"[ \t]+": " ",
}
#: Their exit code is an answer, too.
_ANSWERS = ("podman-cvmfs doctor", "podman-cvmfs why")
#: What is typed in the place of what is shown: the test has a registry on this machine only.
_REGISTRY = "https://registry.example.org"
#: Directories that documents speak of; the last is what podman leaves in a graphroot.
_PLACES = ("cvmfs/atlas.cern.ch", "cvmfs/sft.cern.ch", "srv/containers/overlay-layers")
DEBIAN = Image("library/debian:12", ["debian"], {"Env": ["PATH=/bin"], "Cmd": ["sh"]})
APP = Image("group/app:1", ["debian", "app"], {"Env": ["PATH=/bin"], "Cmd": ["/opt/app/run"]})
LAYERS["debian"] = [
    *LAYERS["base"],
    file("etc/os-release", 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n'),
]
_COMMAND = """\
#!/bin/sh
export PYTHONPATH={path} PYTHONDONTWRITEBYTECODE=1 LC_ALL=C.UTF-8
exec /usr/bin/python3 -m podman_cvmfs "$@"
"""


class Reader:
    """Types what a document shows, on a machine of its own."""

    def __init__(self, machine: Machine, registry: Registry) -> None:
        self._machine = machine
        self._registry = registry

    def type(self, line: str, *, user: bool = False) -> subprocess.CompletedProcess[str]:
        """Run a shell's line, with what it prints all on standard output."""
        line = line.replace(_REGISTRY, self._registry.url)
        place = HOME if user else "/home/work"
        script = f"PATH=/home/bin:$PATH; cd {place}; exec 2>&1; {line}"
        if user:
            return self._machine.user(script)
        return self._machine.root("sh", "-c", script, check=False)

    def try_out(self, command: Command) -> None:
        """Type a command and compare what it prints."""
        done = self.type(command.line, user=command.user)
        if not command.line.startswith(_ANSWERS):
            assert done.returncode == 0, f"{command.line}: {done.returncode}\n{done.stdout}"
        if command.output is not None and not is_as_shown(command.output, done.stdout):
            text = f"{command.line}\nis shown with\n{command.output}\nand prints\n{done.stdout}"
            pytest.fail(text, pytrace=False)


def is_as_shown(shown: str, real: str) -> bool:
    """Whether the output ``real`` is what is ``shown``, in which a line ``...`` stands for lines
    that are left out."""
    pieces = [".*" if line == "..." else re.escape(line + "\n") for line in plain(shown)]
    text = "".join(line + "\n" for line in plain(real))
    return re.fullmatch("".join(pieces), text, re.DOTALL) is not None


def plain(text: str) -> list[str]:
    """The lines of ``text`` without what may differ."""
    for pattern, instead in DIFFERS.items():
        text = re.sub(pattern, instead, text)
    return [line.strip() for line in text.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, registry_process: Registry) -> Path:
    """Two images, in DUCC's layout; one of them is in the registry too, for two architectures."""
    root = tmp_path_factory.mktemp("readme")
    for number, (image, name) in enumerate(
        [(DEBIAN, "docker.io/library/debian:12"), (APP, "registry.example.org/group/app:1")]
    ):
        write_layout([build(image)], root / str(number))
        source = f"oci:{root / str(number)}"
        succeed("publish", source, "--name", name, "--repository", root / "repository")
    registry_process.start()
    push_index({each: build(APP, each) for each in ("amd64", "arm64")}, registry_process)
    return root / "repository"


@pytest.fixture
def reader(
    repository: Path, tmp_path: Path, podman_host: Host, registry: Registry
) -> Iterator[Reader]:
    """A machine with the repository mounted and nothing set up."""
    made = not Path("/cvmfs").exists()
    if made:
        Path("/cvmfs").mkdir()
    with (
        mounted(repository, tmp_path / "mount", tmp_path / "client") as client,
        running(tmp_path / "podman", stores=[], on=podman_host) as podman,
    ):
        machine = Machine(podman, tmp_path)
        try:
            machine.bind(tmp_path / "cvmfs", "/cvmfs")
            machine.bind(tmp_path / "srv", "/srv")
            machine.bind(tmp_path / "cache", "/var/cache")
            for name in ("cvmfs/unpacked.cern.ch", *_PLACES):
                (tmp_path / name).mkdir(parents=True)
            machine.namespace.run(["mount", "--bind", client.mountpoint, REPOSITORY])
            for name, text in {
                "/home/bin/podman-cvmfs": _COMMAND.format(path=python_path()),
                "/home/work/.keep": "",
            }.items():
                path = machine.namespace.outside(name)
                path.parent.mkdir(parents=True)
                path.write_text(text)
                path.chmod(0o755)
            yield Reader(machine, registry)
        finally:
            machine.close()
            if made:
                # Another session may have seen to it.
                with contextlib.suppress(OSError):
                    Path("/cvmfs").rmdir()


@pytest.mark.parametrize("document", [name for name, blocks in BLOCKS.items() if blocks])
def test_what_is_shown_comes(document: str, reader: Reader) -> None:
    if document not in FRESH:
        reader.try_out(Command("podman-cvmfs -q setup && podman-cvmfs -q sync"))
    for block in BLOCKS[document]:
        for command in () if block.not_run else block.commands:
            reader.try_out(command)


def test_blocks_that_are_not_run_are_counted() -> None:
    """Each says why. Change the number with the document."""
    left_out = {name: [each for each in blocks if each.not_run] for name, blocks in BLOCKS.items()}
    assert {name: len(each) for name, each in left_out.items() if each} == NOT_RUN


def test_no_block_of_the_manual_is_overlooked() -> None:
    for name, blocks in BLOCKS.items():
        if name != "README.md":
            page, _, section = name.rpartition(".")
            text = text_of(page, int(section)).partition("EXAMPLES\n")[2]
            examples = re.split(r"^[A-Z ]+\n=+$", text, maxsplit=1, flags=re.M)[0]
            assert len(re.findall(r"::$", examples, re.M)) == len(blocks), name
    assert all(block.commands for blocks in BLOCKS.values() for block in blocks)


@pytest.mark.parametrize(
    "change",
    [("3 in store", "2 in store"), ("85cc28b15d85", "no ID"), ("\n...", "\nmore\n..."),
     ("why", "how")],
)  # fmt: skip
def test_a_line_that_is_wrong_is_found(change: tuple[str, str]) -> None:
    shown = "a 85cc28b15d85 2.1 MB\n  - why\n...\n3 in store\n"
    real = "a  0966d76cc72b 17 MB\n  - why\nsome\nlines\n3 in store\n"
    assert is_as_shown(shown, real)
    assert not is_as_shown(shown.replace(*change), real)
