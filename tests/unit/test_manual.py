# SPDX-License-Identifier: Apache-2.0
"""The manual pages and README.md against what the commands, errors and settings really are."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import tomlkit

from manual.commands import Command, commands
from manual.pages import TEXTS, Page, pages
from podman_cvmfs import errors
from podman_cvmfs.cli.main import COMMANDS, cli
from podman_cvmfs.doctor.conditions import CONDITIONS
from podman_cvmfs.settings.files import Settings
from tests.support.comparison import ADDED, MADE
from tests.support.required import required

CHECKOUT = Path(__file__).resolve().parents[2]
README = (CHECKOUT / "README.md").read_text()
PAGES = {f"{page.name}.{page.section}": page for page in pages()}
EACH_PAGE = pytest.mark.parametrize("page", PAGES.values(), ids=list(PAGES))
MAIN, CONCEPTS = PAGES["podman-cvmfs.1"], PAGES["podman-cvmfs-concepts.7"]

#: A line on which a command may be, indented or after a prompt.
_SHOWN = r"^(?: {4}[#$] | {4}|[#$] )(.*\bpodman-cvmfs .*)$"
#: What ends a command on a shell's line.
_ENDS = {"|", "||", "&&", ";", ">", "<", "&"}


@EACH_PAGE
def test_man_shows_the_page_without_a_warning(page: Page, tmp_path: Path) -> None:
    if shutil.which("man") is None:
        required("man is not installed")
    file = tmp_path / page.name
    file.write_text(page.roff())
    done = subprocess.run(
        ["man", "--warnings", "--local-file", file],
        env={**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "200"},
        capture_output=True,
        encoding="utf-8",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{page.name} - {page.summary}" in " ".join(done.stdout.split())


@EACH_PAGE
def test_no_section_comes_twice_and_no_address_is_a_link(page: Page) -> None:
    text = page.roff()
    headings = re.findall(r"^\.SH (.*)$", text, re.MULTILINE)
    assert len(headings) == len(set(headings))
    assert "<http" not in text.replace("\\", "") and ".UR" not in text


def test_each_text_belongs_to_a_page() -> None:
    """And each page has one: add packaging/manual/NAME.1.rst for a new command."""
    assert {path.stem for path in TEXTS.glob("*.rst")} == set(PAGES)


@pytest.mark.parametrize("command", list(commands()), ids=lambda command: command.page)
def test_a_command_s_page_has_its_options_and_what_administrators_expect(
    command: Command,
) -> None:
    text = PAGES[f"{command.page}.1"].roff().replace("\\-", "-")
    for param in command.context.command.get_params(command.context):
        for name in (*param.opts, *param.secondary_opts):
            assert name in text or isinstance(param, click.Argument), f"{name} is missing"
    headings = re.findall(r"^\.SH (.*)$", text, re.MULTILINE)
    wanted = ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES", "EXIT STATUS", "SEE ALSO"]
    if isinstance(command.context.command, click.Group):
        wanted.remove("EXIT STATUS")
    assert [each for each in wanted if each not in headings] == []


@EACH_PAGE
def test_pages_name_only_pages_that_exist(page: Page) -> None:
    ours = [each for each in page.references if each.startswith("podman-cvmfs")]
    assert {f"{name[:-3]}.{name[-2]}" for name in ours} <= set(PAGES)


def test_the_page_has_all_exit_codes() -> None:
    kinds = [each for each in vars(errors).values() if isinstance(each, type)]
    codes = {each.exit_code for each in kinds if issubclass(each, errors.PodmanCvmfsError)}
    # click's own, and an interrupt.
    codes |= {0, 2, 130}
    section = MAIN.body.partition("EXIT STATUS\n")[2].partition("\nFILES\n")[0]
    assert {int(code) for code in re.findall(r"^(\d+)$", section, re.MULTILINE)} == codes
    epilog = " ".join((cli.epilog or "").split())
    assert {int(code) for code in re.findall(r"\b(\d+) ", epilog)} == codes


def test_the_settings_page_has_every_key_with_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    # The page tells root's.
    monkeypatch.setattr("os.geteuid", lambda: 0)
    section = PAGES["podman-cvmfs.toml.5"].body.partition("\nSETTINGS\n")[2]
    top, _, table = section.partition("\nEXAMPLES\n")[0].partition("In the table ``[registries]``")
    told = dict(_told(top))
    told.update({f"registries.{key}": value for key, value in _told(table)})
    assert told == Settings().values()


def _told(section: str) -> Iterator[tuple[str, object]]:
    lines = re.findall(r"^\w+ = .*$", section, re.MULTILINE)
    yield from tomlkit.parse("\n".join(lines)).unwrap().items()


def test_the_main_page_has_our_environment_variables() -> None:
    used = set()
    for path in (CHECKOUT / "podman_cvmfs").rglob("*.py"):
        used |= set(re.findall(r'"(PODMAN_CVMFS_[A-Z_]+)"', path.read_text()))
    section = MAIN.body.partition("\nENVIRONMENT\n")[2]
    assert used == set(re.findall(r"^PODMAN_CVMFS_[A-Z_]+(?=$|,)", section, re.MULTILINE))


def test_the_concepts_page_names_what_a_merged_root_has_besides() -> None:
    """The exceptions that the comparison with podman's own pull makes."""
    for path in ADDED:
        assert f"``{path.decode()}``" in CONCEPTS.body
    for path in MADE:
        assert f"``/{path.decode()}``" in CONCEPTS.body


def shown_commands(text: str) -> Iterator[tuple[list[str], bool]]:
    """The command lines of podman-cvmfs in ``text`` without their first word, and whether each
    stands on a line of its own, as one to be typed; in a sentence it may lack arguments."""
    for line in re.findall(_SHOWN, text, re.MULTILINE):
        words = _shell_words(line)
        for number, word in enumerate(words):
            before = words[max(0, number - 2) : number]
            starts = not before or before[-1] in _ENDS or before[0] == "ssh"
            if word == "podman-cvmfs" and starts:
                rest = words[number + 1 :]
                end = [i for i, each in enumerate(rest) if each in _ENDS]
                yield rest[: min(end, default=len(rest))], True
    for quoted in re.findall(r"(?<!`)``?([^`\n]+)``?(?!`)", text):
        words = quoted.split()
        if words[0] == "podman-cvmfs":
            yield words[1:], False
        elif words[0] in COMMANDS and len(words) > 1:
            yield words, False


def _shell_words(line: str) -> list[str]:
    try:
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        return list(lexer)
    except ValueError:
        # A sentence with an apostrophe.
        return []


def parse(words: list[str], complete: bool) -> None:
    """Have click parse a command line without doing it. Raises click.UsageError."""
    command: click.Command = cli
    context = click.Context(cli, info_name="podman-cvmfs", **cli.context_settings)
    flags = {opt for param in cli.params for opt in param.opts}
    words = list(itertools.dropwhile(flags.__contains__, words))
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name = words.pop(0)
        found = command.get_command(context, name)
        if found is None:
            raise click.UsageError(f"no command {name}")
        command = found
        context = click.Context(command, context, name, **command.context_settings)
    if isinstance(command, click.Group):
        known = {opt for param in command.get_params(context) for opt in param.opts}
        if not set(words) <= known:
            raise click.UsageError(f"no such option among {words}")
        return
    try:
        command.parse_args(context, words)
    except click.MissingParameter:
        if complete:
            raise


DOCUMENTS = ["README.md", "CHANGELOG.md", "packaging/PACKAGES.md"]
UNITS = sorted((CHECKOUT / "packaging/systemd").rglob("*.service"))


@pytest.mark.parametrize("where", [*DOCUMENTS, *PAGES])
def test_every_command_that_is_shown_can_be_typed(where: str) -> None:
    text = PAGES[where].body if where in PAGES else (CHECKOUT / where).read_text()
    for words, complete in shown_commands(text):
        try:
            parse(words, complete)
        except click.UsageError as err:
            pytest.fail(f"podman-cvmfs {' '.join(words)}: {err.format_message()}", pytrace=False)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: f"{unit.parent.name}-{unit.name}")
def test_units_run_commands_that_are_there(unit: Path) -> None:
    (line,) = re.findall(r"^ExecStart=\S*podman-cvmfs (.*)$", unit.read_text(), re.MULTILINE)
    # The options of some are the administrator's.
    words = [word for word in line.split() if word != "$OPTIONS"]
    parse(words, "$OPTIONS" not in line)


def test_commands_that_cannot_be_typed_are_found() -> None:
    shown = list(
        shown_commands(
            "    podman-cvmfs synk\n$ a | podman-cvmfs sync --no > f\n"
            "    # podman-cvmfs stat\n`sync --never`"
        )
    )
    typed = [["synk"], ["sync", "--no"], ["stat"]]
    assert shown == [*((words, True) for words in typed), (["sync", "--never"], False)]
    for words, complete in shown:
        with pytest.raises(click.UsageError):
            parse(words, complete)
    with pytest.raises(click.UsageError):
        parse(["publish"], True)
    parse(["publish"], False)


def test_the_page_of_doctor_has_all_that_it_may_find() -> None:
    text = PAGES["podman-cvmfs-doctor.1"].body
    for each in CONDITIONS.values():
        assert f"\n{each.name} ({each.level.value})\n" in text


def test_readme_is_short_and_has_every_command() -> None:
    assert len(README.splitlines()) < 150
    table = "".join(re.findall(r"^\| (`.*?) \|", README, re.MULTILINE))
    assert set(COMMANDS) <= {quoted.split()[0] for quoted in re.findall(r"`(.+?)`", table)}
    assert "    bash packaging/demo.sh " in README and "    bash tests/run.sh " in README
