# SPDX-License-Identifier: Apache-2.0
"""registries.conf as skopeo and podman, built on containers/image, understand it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from podman_cvmfs.errors import InputError, RegistryError
from podman_cvmfs.names.reference import parse_name
from podman_cvmfs.podman.registries_rules import RegistriesRules, registries_rules
from podman_cvmfs.podman.storage_conf.ask import ask_version, environment, major_of
from podman_cvmfs.registry import registries_files
from podman_cvmfs.registry.registries_conf import load_registries_conf, merged
from podman_cvmfs.util.toml import parse_toml
from tests.matrix.host import Machine
from tests.support.registries_cases import ALIASED, BLOCKED, CASES, FAILS, NOTHING, Case
from tests.support.required import required
from tests.support.roots import GENERATIONS, default_directory, host_codename, present
from tests.support.set_up import write

#: No name in it exists, so that all places are tried.
CONF = """\
[[registry]]
prefix = "example.invalid/foo"
location = "internal.invalid/bar"
[[registry.mirror]]
location = "mirror-0.invalid/mirror-for-foo"
[[registry.mirror]]
location = "mirror-1.invalid:5000/mirrors/foo"
[[registry.mirror]]
location = "mirror-2.invalid/digests"
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "mirror-3.invalid/tags"
pull-from-mirror = "tag-only"

[[registry]]
prefix = "*.sub.example.invalid"
[[registry.mirror]]
location = "cache.invalid/sub"

[[registry]]
prefix = "*.example.invalid"
location = "all.invalid"

[[registry]]
prefix = "docker.io/library"
location = "hub.invalid/official"

[[registry]]
prefix = "one.invalid/image:1"
location = "other.invalid/image:one"

[[registry]]
location = "bad.invalid"
blocked = true

[[registry]]
prefix = "bad.invalid/good"
location = "good.invalid"
"""

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    "name",
    [
        "example.invalid/foo/image:1",
        f"example.invalid/foo/image@sha256:{HEX}",
        "example.invalid/foo:1",
        "example.invalid/food/image:1",
        "example.invalid:5000/foo/image:1",
        "a.b.sub.example.invalid/x:1",
        "a.example.invalid:5000/x/y:1",
        "sub.example.invalid/x:1",
        "docker.io/library/debian:12",
        "debian:12",
        "one.invalid/image:1",
        "bad.invalid/a:1",
        "bad.invalid:5000/a:1",
        "bad.invalid/good/a:1",
        "notbad.invalid/a:1",
    ],
)
def test_the_same_places_in_the_same_order(tmp_path: Path, name: str) -> None:
    conf = tmp_path / "registries.conf"
    conf.write_text(CONF)
    done = subprocess.run(
        ["skopeo", "--registries-conf", conf, "--debug", "inspect", f"docker://{name}"],
        capture_output=True,
        text=True,
        timeout=120,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
    )
    try:
        endpoints = merged(parse_toml(CONF.encode(), "x")).endpoints(parse_name(name))
    except RegistryError as err:
        assert "is blocked" in err.message
        assert re.search("is blocked in", done.stderr), done.stderr
        return
    asked = re.findall(r'Trying to access \\"([^"\\]+)\\"', done.stderr)
    assert asked == [str(endpoint.name) for endpoint in endpoints], done.stderr


#: What stands at these places of a machine counts, and nothing else.
_BINDINGS = {"etc": "/etc/containers", "share": "/usr/share/containers", "home": "/home"}
_XDG = "XDG_CONFIG_HOME"
_POLICY = '{"default": [{"type": "insecureAcceptAnything"}]}'


@dataclass(frozen=True)
class _Podman:
    """A podman on a machine of its own. ``tree`` has the files that it reads."""

    machine: Machine
    tree: Path

    def run(self, *args: str, **more: str) -> subprocess.CompletedProcess[str]:
        return self.machine.run([*self.command(**more), *args], check=False)

    def command(self, **more: str) -> list[str]:
        """What starts it, without a network."""
        environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/home", **more}
        words = [f"{name}={value}" for name, value in environ.items()]
        return ["unshare", "--net", "env", "-i", *words, "podman"]

    def place(self, case: Case) -> dict[str, str]:
        """Put the files of a case in place; return its environment."""
        # The directories themselves are mounted.
        for each in [*self.tree.iterdir(), *self.tree.glob("*/*")]:
            if each.parent != self.tree and each.is_dir():
                shutil.rmtree(each)
            elif each.is_file():
                each.unlink()
        for path, text in {**case.files, "etc/policy.json": _POLICY}.items():
            write(self.tree / path, text.encode())
        return {name: str(self.tree / path) for name, path in case.environ.items()}

    @property
    def is_oldest(self) -> bool:
        done = self.run("--version")
        assert done.returncode == 0, done.stderr
        return done.stdout.split()[-1].startswith("4.")


@pytest.fixture(params=[each.codename for each in GENERATIONS])
def podman(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[_Podman]:
    is_here = request.param == host_codename()
    root = Path("/") if is_here else present(default_directory(), request.param)
    if root is None:
        required(f"there is no Debian {request.param} in {default_directory()}")
    machine = Machine(root, tmp_path)
    try:
        for name, place in _BINDINGS.items():
            (tmp_path / "tree" / name).mkdir(parents=True)
            machine.run(["mkdir", "-p", place])
            machine.run(["mount", "--bind", tmp_path / "tree" / name, place])
        yield _Podman(machine, tmp_path / "tree")
    finally:
        machine.close()


def test_podman_pulls_from_where_we_say(podman: _Podman) -> None:
    """The short name of each case is pulled by the older rules. Nothing is reached, but podman
    names what it tries. The unit tests compare our reading with the same table."""
    is_oldest = podman.is_oldest
    wrong = {}
    for name, case in CASES.items():
        environ = podman.place(case)
        said = podman.run("pull", "lab/new:1", **environ).stderr
        expected = FAILS if is_oldest and name == "T byte order mark" else case.old
        if _outcome(said) != expected:
            wrong[name] = (expected, said)
    assert not wrong


def _outcome(said: str) -> str:
    """What podman makes of lab/new, in a case's words."""
    if "did not resolve to an alias" in said:
        return NOTHING
    if " is blocked in " in said:
        return BLOCKED
    if 'Resolved "lab/new" as an alias' in said:
        return ALIASED
    tried = re.findall(r"pinging container registry ([^:]+):", said)
    return " ".join(dict.fromkeys(tried)) or FAILS


def test_podman_reads_the_same_files(podman: _Podman) -> None:
    """Each podman names the registries to search, for root, of the files that count for it.

    podman 4 ignores the environment's names for the files when it completes a command.
    """
    is_oldest = podman.is_oldest
    rules = RegistriesRules(everywhere=False, skips_bom=not is_oldest)
    cases = {
        name: case
        for name, case in CASES.items()
        if case.uid == 0 and not (case.environ and is_oldest)
    }
    assert len(cases) > 20
    wrong = {}
    for name, case in cases.items():
        environ = podman.place(case)
        said = podman.run("__complete", "login", "", **environ)
        theirs = None if "[Error]" in said.stderr else [*said.stdout.split()[:-1]]
        ours = _search_list(podman.tree, rules, environ)
        if theirs != ours:
            wrong[name] = (theirs, ours, said.stderr)
    assert not wrong


def _search_list(
    tree: Path, rules: RegistriesRules, environ: Mapping[str, str]
) -> list[str] | None:
    """The registries that we find for the same files; None for an error."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registries_files, "ADMIN", str(tree / "etc"))
        patch.setattr(registries_files, "VENDOR", str(tree / "share"))
        patch.setattr(registries_files, "CACHE", str(tree / "cache"))
        for variable in (*registries_files.VARIABLES, registries_files.OVERRIDE, _XDG):
            patch.delenv(variable, raising=False)
        patch.setenv("HOME", str(tree / "home"))
        for variable, value in environ.items():
            patch.setenv(variable, value)
        try:
            return [*load_registries_conf(rules).search_registries]
        except InputError:
            return None


def test_each_podman_is_asked_for_its_rules(
    podman: _Podman, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of writing, Debian has no podman that reads by the new rules."""
    inside = shlex.join(podman.machine.command(["/usr/bin/podman"]))
    script = f'#!/bin/sh\nexec {inside} "$@"\n'
    write(tmp_path / "bin/podman", script.encode()).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    major = major_of(ask_version(environment()))
    monkeypatch.setattr("podman_cvmfs.podman.registries_rules.podman_major", lambda: major)
    assert major in (4, 5)
    assert registries_rules.__wrapped__() == RegistriesRules(False, skips_bom=major == 5)
