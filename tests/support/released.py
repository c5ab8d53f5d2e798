# SPDX-License-Identifier: Apache-2.0
"""The code of earlier versions, to write what machines in the field have."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.required import required

#: Writes stores of layout 4: images shown by merged roots bear the chain IDs of pulls.
LAYOUT_4 = "1910b88"


def released(commit: str, directory: Path) -> Path:
    """The package as of ``commit``, unpacked below ``directory``: a directory for PYTHONPATH.

    It needs the project's history, which a shallow clone lacks.
    """
    place = directory / f"code-{commit}"
    if place.exists():
        return place
    checkout = Path(__file__).resolve().parents[2]
    archive = subprocess.run(
        ["git", "-C", checkout, "archive", "--format=tar", commit, "podman_cvmfs"],
        capture_output=True,
    )
    if archive.returncode:
        said = archive.stderr.decode(errors="replace").strip()
        required(f"the code of commit {commit} isn't there (get the whole history): {said}")
    place.mkdir(parents=True)
    subprocess.run(["tar", "-x", "-C", place], input=archive.stdout, check=True)
    return place
