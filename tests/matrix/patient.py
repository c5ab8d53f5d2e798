# SPDX-License-Identifier: Apache-2.0
"""A podman of the matrix that falls ill, and is cured by what doctor prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.matrix.guest import Guest


class Patient:
    """A podman that has a store, root's or the user's own to read. ``repository`` is the one that
    the store is of, if not the one of the settings."""

    def __init__(
        self, podman: Guest, store: Path, tools: Path, image: str, repository: Path | None = None
    ) -> None:
        self.podman, self.store, self.tools, self.image = podman, store, tools, image
        self.of = f"--repository {repository}" if repository else ""
        self.conf = podman.root / "etc/storage.conf"

    def works(self) -> bool:
        """Whether podman runs the image from the store."""
        done = self.podman.run("run", "--rm", "--pull=never", self.image, check=False)
        print(done.stderr)  # pytest shows it if the test fails
        return done.stdout == "sh works\n"

    def sh(self, script: str) -> str:
        """What a shell script prints, that must work."""
        path = f"PATH={self.tools}:$PATH; "
        return self.podman.tool("sh", "-c", path + script).stdout

    def findings(self) -> dict[str, dict[str, Any]]:
        """What doctor finds, by condition."""
        command = f"podman-cvmfs doctor --format json {self.of} --store {self.store} || true"
        return {each["condition"]: each for each in json.loads(self.sh(command))["findings"]}

    def cured_of(self, condition: str) -> bool:
        """Whether doctor finds ``condition`` and its cure makes podman work."""
        assert not self.works()
        found = self.findings()
        assert condition in found, sorted(found)
        assert found[condition]["level"] == "error" and found[condition]["is_command"]
        self.sh(found[condition]["cure"])
        return self.works()
