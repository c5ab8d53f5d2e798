# SPDX-License-Identifier: Apache-2.0
"""Configurations made up from a merged root."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest

from podman_cvmfs.errors import RepositoryError
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.repository.tree import Tree
from podman_cvmfs.resolve.synthesise import (
    SYNTHESISED_LABEL,
    architecture_of,
    environment_of,
    run_words,
    synthesise,
)

ID = Digest("c" * 64)


def test_environment_in_ducc_form() -> None:
    # As DUCC 2.12 wrote it for MODE=test "q" $x, read off its own repository.
    script = (
        "#!/bin/sh\n"
        'export PATH="/usr/local/bin:/usr/bin:/bin"\n'
        'export MODE="${MODE:-"test \\\\\\"q\\\\\\" \\\\$x"}"\n'
        'export EMPTY="${EMPTY:-}"\n'
        'export LINES="${LINES:-"a\\nb\\tc\\u00e9\\x00\\U000e0001"}"\n'
        "echo not an export\n"
    )
    assert environment_of(script) == [
        "PATH=/usr/local/bin:/usr/bin:/bin",
        'MODE=test "q" $x',
        "LINES=a\nb\tc\u00e9\x00\U000e0001",
    ]


def test_what_is_no_character_is_replaced() -> None:
    script = 'export A="x\\ud800y"\nexport B="\\udc80\\U0000dfff\\U00110000"\nexport C="\\xff"\n'
    assert environment_of(script) == ["A=x\ufffdy", "B=\ufffd\ufffd\ufffd", "C=\ufffd"]


def test_run_script_in_ducc_form() -> None:
    script = (
        "#!/bin/sh\n"
        'OCI_ENTRYPOINT=\'"/bin/sh" "-c"\'\n'
        'OCI_CMD=\'"echo \\"it\'s \\$MODE\\"" "two\nlines"\'\n'
        'CMDLINE_ARGS=""\n'
    )
    assert run_words(script) == (["/bin/sh", "-c"], ['echo "it\'s $MODE"', "two\nlines"])
    assert run_words("#!/bin/sh\nOCI_ENTRYPOINT=''\nOCI_CMD=''\n") == ([], [])
    # As our own publisher writes it, with the quote escaped and other lines after it.
    ours = "#!/bin/sh\nOCI_ENTRYPOINT=''\nOCI_CMD='\"it'\\''s\" \"b\"'\nif [ x ]; then\n"
    assert run_words(ours) == ([], ["it's", "b"])
    assert run_words("#!/bin/sh\nexec true\n") == ([], [])


def _elf(machine: int, little: bool = True) -> bytes:
    order = "<H" if little else ">H"
    return (
        b"\x7fELF\x02" + (b"\x01" if little else b"\x02") + bytes(12) + struct.pack(order, machine)
    )


@pytest.mark.parametrize(
    ("header", "architecture"),
    [
        (_elf(62), "amd64"),
        (_elf(183), "arm64"),
        (_elf(22, little=False), "s390x"),
        (b"#!/bin/false\n" + bytes(20), ""),
        (b"\x7fELF", ""),
    ],
)
def test_architecture_is_read_from_a_program(
    tmp_path: Path, header: bytes, architecture: str
) -> None:
    (tmp_path / "flat/usr/bin").mkdir(parents=True)
    (tmp_path / "flat/bin").symlink_to("usr/bin")
    (tmp_path / "flat/usr/bin/sh").symlink_to("/usr/bin/dash")
    (tmp_path / "flat/usr/bin/dash").write_bytes(header)
    assert architecture_of(Tree(str(tmp_path)), "flat", ()) == architecture


def test_links_in_the_root_never_lead_out_of_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "sh").write_bytes(_elf(183))
    for target in (str(outside / "sh"), "../../../../" + str(outside / "sh"), "sh"):
        flat = tmp_path / "repository/flat"
        (flat / "bin").mkdir(parents=True, exist_ok=True)
        (flat / "bin/sh").unlink(missing_ok=True)
        (flat / "bin/sh").symlink_to(target)
        assert architecture_of(Tree(str(tmp_path / "repository")), "flat", ()) == ""
    # A link to a directory outside, then a file in it.
    os.unlink(flat / "bin/sh")
    os.rmdir(flat / "bin")
    (flat / "bin").symlink_to(outside)
    assert architecture_of(Tree(str(tmp_path / "repository")), "flat", ()) == ""


def test_a_program_that_no_file_can_be_called(tmp_path: Path) -> None:
    (tmp_path / "flat/bin").mkdir(parents=True)
    (tmp_path / "flat/bin/sh").write_bytes(_elf(62))
    names = ("/bin/s\0h", "/\ud800/sh")
    assert architecture_of(Tree(str(tmp_path)), "flat", names) == "amd64"


def test_made_up_config_is_complete_marked_and_stable(tmp_path: Path) -> None:
    scripts = tmp_path / "flat/.singularity.d/env"
    scripts.mkdir(parents=True)
    (scripts / "10-docker2singularity.sh").write_text('#!/bin/sh\nexport PATH="/bin"\n')
    (scripts.parent / "runscript").write_text("#!/bin/sh\nOCI_ENTRYPOINT=''\nOCI_CMD='\"sh\"'\n")
    diff_ids = [Digest("a" * 64), Digest("b" * 64)]
    config = synthesise(Tree(str(tmp_path)), "flat", ID, diff_ids)
    assert config == synthesise(Tree(str(tmp_path)), "flat", ID, diff_ids)
    document = json.loads(config.raw)
    assert document["config"] == {
        "Env": ["PATH=/bin"],
        "Cmd": ["sh"],
        "Labels": {SYNTHESISED_LABEL: f"sha256:{ID.hex}"},
    }
    assert config.diff_ids == tuple(diff_ids)
    assert config.digest != ID and config.os == "linux"
    (tmp_path / "flat/Files").mkdir()
    assert synthesise(Tree(str(tmp_path)), "flat", ID, diff_ids).os == "linux"
    (tmp_path / "flat/Hives").mkdir()
    assert synthesise(Tree(str(tmp_path)), "flat", ID, diff_ids).os == "windows"
    (scripts.parent / "runscript").unlink()
    with pytest.raises(RepositoryError, match="runscript is missing"):
        synthesise(Tree(str(tmp_path)), "flat", ID, diff_ids)
