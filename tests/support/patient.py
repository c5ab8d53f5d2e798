# SPDX-License-Identifier: Apache-2.0
"""A machine that falls ill: doctor gives its opinion, and podman works or fails."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.one_user import Machine, python_path

#: Where the repository is mounted.
REPOSITORY = "/home/repository"
_COMMAND = """\
#!/bin/sh
export PYTHONPATH={path} PYTHONDONTWRITEBYTECODE=1 PODMAN_CVMFS_CONFIG=/home/config.toml
export LC_ALL=C.UTF-8
exec /usr/bin/python3 -m podman_cvmfs "$@"
"""
SETTINGS = f'repositories = ["{REPOSITORY}"]\noffline = true\n'


@dataclass
class Opinion:
    """What doctor said: its exit code, and its findings by condition."""

    code: int
    findings: dict[str, dict[str, Any]] = field(default_factory=dict)

    def cure(self, condition: str) -> str:
        """The command that cures ``condition``, which must have been found."""
        assert condition in self.findings, sorted(self.findings)
        found = self.findings[condition]
        assert found["is_command"], found
        return str(found["cure"])

    @property
    def errors(self) -> list[str]:
        """The conditions that are errors."""
        return [name for name, each in self.findings.items() if each["level"] == "error"]


class Patient:
    """A machine with a repository of one image that runs, set up for root and an ordinary user."""

    def __init__(self, machine: Machine, repository: Path, image: str) -> None:
        self.machine = machine
        self.image = image
        self.inside = machine.namespace
        command = self.path("/home/bin/podman-cvmfs")
        command.parent.mkdir()
        command.write_text(_COMMAND.format(path=python_path()))
        command.chmod(0o755)
        self.path("/home/config.toml").write_text(SETTINGS)
        self.path(REPOSITORY).mkdir()
        self.inside.run(["mount", "--bind", repository, REPOSITORY])
        fstab = machine.podman.root / "fstab"
        fstab.write_text(f"{repository} {REPOSITORY} none bind 0 0\n")
        if not os.path.exists("/etc/fstab"):
            Path("/etc/fstab").touch()
        self.inside.run(["mount", "--bind", fstab, "/etc/fstab"])

    def path(self, path: str) -> Path:
        """Where the tests find a path of the machine."""
        return self.inside.outside(path)

    def run(self, script: str, *, user: bool = False) -> subprocess.CompletedProcess[str]:
        """Run a shell script as root, or as the user after a login."""
        script = f"PATH=/home/bin:$PATH; cd /; {script}"
        if user:
            return self.machine.user(script)
        return self.machine.root("sh", "-c", script, check=False)

    def do(self, script: str, *, user: bool = False) -> str:
        """The same, which must work; what it printed."""
        done = self.run(script, user=user)
        assert done.returncode == 0, f"{script}: {done.stdout}{done.stderr}"
        return done.stdout

    def doctor(self, *args: str, user: bool = False, before: str = "") -> Opinion:
        """Ask doctor, after the commands ``before`` in the same shell."""
        command = " ".join(["podman-cvmfs", "-q", "doctor", "--format", "json", *args])
        done = self.run(f"{before} {command}", user=user)
        assert "Traceback" not in done.stderr and done.stdout, done.stderr
        found = json.loads(done.stdout)["findings"]
        return Opinion(done.returncode, {each["condition"]: each for each in found})

    def works(self, *, user: bool = False, before: str = "") -> bool:
        """Whether podman runs the image from the store."""
        script = f"{before} podman run --rm --pull=never {self.image} echo fine"
        done = self.run(script, user=user)
        print(done.stderr)  # pytest shows it if the test fails
        print(done.returncode, repr(done.stdout))
        return (done.returncode, done.stdout) == (0, "fine\n")

    def seconds(self, command: str) -> float:
        """How long root's ``command`` computes, at best of three; the machine may be busy."""
        timed = f"bash -c 'TIMEFORMAT=%U; time {command} >/dev/null'"
        return min(float(self.run(timed).stderr.splitlines()[-1]) for _ in range(3))

    def lists(self, *, user: bool = False, before: str = "") -> bool:
        """Whether podman lists the image."""
        done = self.run(f"{before} podman images --format '{{{{.Repository}}}}'", user=user)
        return done.returncode == 0 and self.image.rpartition(":")[0] in done.stdout.splitlines()
