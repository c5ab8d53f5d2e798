# SPDX-License-Identifier: Apache-2.0
"""Singularity's files: DUCC's form, working scripts, and no step outside the root."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from podman_cvmfs.oci.documents import parse_config
from podman_cvmfs.publish.singularity import add_files, environment, go_quote, runscript
from tests.support.trees import snapshot


def config(**settings: object) -> bytes:
    return json.dumps({"rootfs": {"diff_ids": []}, "config": settings}).encode()


def add(root: Path, raw: bytes) -> None:
    fd = os.open(root, os.O_RDONLY)
    try:
        add_files(fd, parse_config(raw))
    finally:
        os.close(fd)


def test_environment_is_ducc_s() -> None:
    """The expected text is what DUCC 2.12 wrote."""
    assert environment(["PATH=/usr/local/bin:/usr/bin:/bin", 'MODE=test "q" $x']) == (
        "#!/bin/sh\n"
        'export PATH="/usr/local/bin:/usr/bin:/bin"\n'
        'export MODE="${MODE:-"test \\\\\\"q\\\\\\" \\\\$x"}"\n'
    )


def test_environment_without_value_and_with_impossible_names() -> None:
    text = environment(["BARE", "A-B=1", "=x", "X;reboot=1", "OK="])
    assert text == '#!/bin/sh\nexport BARE="${BARE:-}"\nexport OK="${OK:-""}"\n'


def test_runscript_begins_as_ducc_s() -> None:
    text = runscript(["/bin/sh", "-c"], ['echo "hi $MODE"'])
    assert text.splitlines()[:3] == [
        "#!/bin/sh",
        """OCI_ENTRYPOINT='"/bin/sh" "-c"'""",
        """OCI_CMD='"echo \\"hi \\$MODE\\""'""",
    ]
    assert runscript([], []).splitlines()[1:3] == ["OCI_ENTRYPOINT=''", "OCI_CMD=''"]


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("a", '"a"'),
        ("\n\t\x01\x7f", '"\\n\\t\\x01\\x7f"'),
        ("\u00fc\u200b", '"\u00fc\\u200b"'),
        ("\U000e0001", '"\\U000e0001"'),
        ('\\"', '"\\\\\\""'),
    ],
)
def test_go_quote(text: str, quoted: str) -> None:
    assert go_quote(text) == quoted


@pytest.mark.parametrize(
    ("entrypoint", "command", "arguments", "said"),
    [
        (
            ["printf", "%s|"],
            ["a b", "$HOME", "it's", '"q"', "`x`", "\\n"],
            [],
            ["a b", "$HOME", "it's", '"q"', "`x`", "\\n"],
        ),
        ([], ["printf", "%s|", "x  y"], [], ["x  y"]),
        (["printf", "%s|"], ["default"], ["given one", "$x", "'"], ["given one", "$x", "'"]),
        ([], ["never"], ["printf", "%s|", "*"], ["*"]),
    ],
)
def test_runscript_runs(
    tmp_path: Path, entrypoint: list[str], command: list[str], arguments: list[str], said: list[str]
) -> None:
    script = tmp_path / "runscript"
    script.write_text(runscript(entrypoint, command))
    done = subprocess.run(["sh", script, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    assert done.stdout == "".join(f"{word}|" for word in said)


def test_files_links_and_modes(tmp_path: Path) -> None:
    add(tmp_path, config(Env=["A=1"], Cmd=["sh"]))
    d = tmp_path / ".singularity.d"
    scripts = sorted(str(p.relative_to(d)) for p in d.rglob("*") if p.is_file())
    assert scripts == sorted(
        [
            *(f"actions/{name}" for name in ("exec", "run", "shell", "start", "test")),
            *(
                f"env/{name}.sh"
                for name in (
                    "01-base",
                    "10-docker2singularity",
                    "90-environment",
                    "95-apps",
                    "99-base",
                    "99-runtimevars",
                )
            ),
            "runscript",
            "startscript",
        ]
    )
    assert {stat.S_IMODE(os.lstat(d / name).st_mode) for name in scripts} == {0o755}
    links = {p.name: os.readlink(p) for p in tmp_path.iterdir() if p.is_symlink()}
    assert links == {
        ".exec": ".singularity.d/actions/exec",
        ".run": ".singularity.d/actions/run",
        ".shell": ".singularity.d/actions/shell",
        ".test": ".singularity.d/actions/test",
        "environment": ".singularity.d/env/90-environment.sh",
        "singularity": ".singularity.d/runscript",
    }
    assert (tmp_path / "etc/hosts").read_text() == (tmp_path / "etc/resolv.conf").read_text() == ""
    assert stat.S_IMODE(os.lstat(tmp_path / "var/tmp").st_mode) == 0o1777
    for name in scripts:
        subprocess.run(["sh", "-n", d / name], check=True)


def test_the_image_s_own_files_stay(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/hosts").write_text("own")
    (tmp_path / "environment").write_text("own")
    (tmp_path / "tmp").mkdir(mode=0o700)
    add(tmp_path, config())
    assert (tmp_path / "etc/hosts").read_text() == "own"
    assert (tmp_path / "environment").read_text() == "own"
    assert stat.S_IMODE(os.lstat(tmp_path / "tmp").st_mode) == 0o700


@pytest.mark.parametrize(
    "name",
    [
        "etc",
        "var",
        "var/tmp",
        "etc/hosts",
        ".singularity.d",
        ".singularity.d/env",
        ".singularity.d/runscript",
        ".run",
        "dev",
    ],
)
@pytest.mark.parametrize("target", ["out", "out/file", "out/missing"])
def test_links_of_the_image_are_not_followed(tmp_path: Path, name: str, target: str) -> None:
    outside = tmp_path / "out"
    outside.mkdir()
    (outside / "file").write_text("untouched")
    root = tmp_path / "root"
    (root / name).parent.mkdir(parents=True)
    (root / name).symlink_to(tmp_path / target)
    before = snapshot(outside)
    add(root, config(Cmd=["sh"]))
    assert snapshot(outside) == before
    assert (root / ".singularity.d/runscript").is_file()
    assert not (root / ".singularity.d").is_symlink()


def test_odd_settings(tmp_path: Path) -> None:
    add(
        tmp_path,
        b'{"rootfs": {"diff_ids": []}, "config": {"ENV": [null, "A=\\ud800"], "Cmd": ["a", null]}}',
    )
    assert 'OCI_CMD=\'"a" ""\'' in (tmp_path / ".singularity.d/runscript").read_text()
    script = (tmp_path / ".singularity.d/env/10-docker2singularity.sh").read_text()
    assert 'export A="${A:-"\\ud800"}"' in script
