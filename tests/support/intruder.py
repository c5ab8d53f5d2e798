# SPDX-License-Identifier: Apache-2.0
"""A local user who tries to change what is in a directory tree: everything that can be tried."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

_SCRIPT = r"""
import json, os, sys

top = sys.argv[1]
done, seen = [], 0

def attempt(what, path, act):
    try:
        act()
    except OSError:
        return False
    done.append(f"{what} {path}")
    return True

def undone(act):
    try:
        act()
    except OSError:
        pass

def try_in(directory):
    new = f"{directory}/intruder"
    if attempt("creates a file in", directory, lambda: open(new, "x").close()):
        undone(lambda: os.unlink(new))
    if attempt("makes a directory in", directory, lambda: os.mkdir(new)):
        undone(lambda: os.rmdir(new))
    if attempt("makes a link in", directory, lambda: os.symlink("/etc/passwd", new)):
        undone(lambda: os.unlink(new))
    mode = os.stat(directory).st_mode & 0o7777
    attempt("changes the mode of", directory, lambda: os.chmod(directory, mode))
    attempt("changes the times of", directory, lambda: os.utime(directory, (0, 0)))
    if hasattr(os, "setxattr"):
        attempt("makes opaque", directory, lambda: os.setxattr(directory, "user.intruder", b"y"))
    try:
        names = os.listdir(directory)
    except OSError:
        return
    for name in names:
        path = f"{directory}/{name}"
        other = f"{path}-by-intruder"
        if attempt("renames", path, lambda: os.rename(path, other)):
            undone(lambda: os.rename(other, path))
        if os.path.isfile(path) and not os.path.islink(path):
            attempt("writes", path, lambda: os.close(os.open(path, os.O_WRONLY)))

for directory, directories, files in os.walk(top):
    seen += 1
    try_in(directory)
print(json.dumps([seen, done]))
"""


@dataclass(frozen=True)
class Intruder:
    """An ordinary user of this machine, ``uid``, with no other group than that of this number."""

    uid: int

    def argv(self, *argv: str) -> list[str]:
        """The command line with which root runs a command as this user."""
        ids = [f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups", "--inh-caps=-all"]
        return ["setpriv", *ids, "--", *argv]

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run a command as this user; no exit status is an error here."""
        return subprocess.run(
            self.argv(*argv),
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=120,
        )

    def sh(self, script: str) -> bool:
        """Whether a shell script works."""
        return self.run("sh", "-ec", script).returncode == 0

    def attack(self, top: Path) -> tuple[int, list[str]]:
        """Walk the tree and try everything: how many directories could be reached, and what could
        be changed there. Links aren't followed; what is done is undone where that can be."""
        tried = self.run("/usr/bin/python3", "-c", _SCRIPT, str(top))
        assert tried.returncode == 0, tried.stderr
        seen, done = json.loads(tried.stdout)
        return seen, done
