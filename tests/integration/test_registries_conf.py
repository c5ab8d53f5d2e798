# SPDX-License-Identifier: Apache-2.0
"""registries.conf as skopeo and podman, built on containers/image, understand it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tempfile
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
from tests.support.namespace import Namespace
from tests.support.registries_cases import CASES
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


@dataclass(frozen=True)
class _Machine:
    """A podman in a namespace. ``tree`` has the files that it reads."""

    root: Path
    tree: Path
    namespace: Namespace

    def podman(self, *args: str, **more: str) -> subprocess.CompletedProcess[str]:
        environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/home", **more}
        words = [f"{name}={value}" for name, value in environ.items()]
        argv = ["chroot", str(self.root), "env", "-i", *words, "podman", *args]
        return self.namespace.run(argv, check=False)


@pytest.fixture(params=[each.codename for each in GENERATIONS])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[_Machine]:
    is_here = request.param == host_codename()
    root = Path("/") if is_here else present(default_directory(), request.param)
    if root is None:
        required(f"there is no Debian {request.param} in {default_directory()}")
    tree = tmp_path / "tree"
    namespace = Namespace()
    try:
        if root != Path("/"):
            namespace.run(["mount", "-t", "proc", "proc", root / "proc"])
            namespace.run(["mount", "--rbind", "/dev", root / "dev"])
            scratch = tempfile.gettempdir()
            namespace.run(["mount", "--bind", scratch, f"{root}{scratch}"])
        for name, place in _BINDINGS.items():
            (tree / name).mkdir(parents=True)
            target = Path(root, place.lstrip("/"))
            namespace.run(["mkdir", "-p", target])
            namespace.run(["mount", "--bind", tree / name, target])
        yield _Machine(root, tree, namespace)
    finally:
        namespace.close()


def test_podman_reads_the_same_files(machine: _Machine) -> None:
    """Each podman names the registries to search, for root, of the files that count for it.

    podman 4 ignores the environment's names for the files when it completes a command.
    """
    done = machine.podman("--version")
    assert done.returncode == 0, done.stderr
    is_oldest = done.stdout.split()[-1].startswith("4.")
    rules = RegistriesRules(everywhere=False, skips_bom=not is_oldest)
    cases = {
        name: case
        for name, case in CASES.items()
        if case.uid == 0 and not (case.environ and is_oldest)
    }
    assert len(cases) > 20
    wrong = {}
    for name, case in cases.items():
        # The directories themselves are mounted.
        for each in [*machine.tree.iterdir(), *machine.tree.glob("*/*")]:
            if each.parent != machine.tree and each.is_dir():
                shutil.rmtree(each)
            elif each.is_file():
                each.unlink()
        for path, text in case.files.items():
            write(machine.tree / path, text.encode())
        environ = {name: str(machine.tree / path) for name, path in case.environ.items()}
        said = machine.podman("__complete", "login", "", **environ)
        theirs = None if "[Error]" in said.stderr else [*said.stdout.split()[:-1]]
        ours = _search_list(machine.tree, rules, environ)
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
    machine: _Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of writing, Debian has no podman that reads by the new rules."""
    inside = shlex.join(machine.namespace.command(["chroot", machine.root, "/usr/bin/podman"]))
    script = f'#!/bin/sh\nexec {inside} "$@"\n'
    write(tmp_path / "bin/podman", script.encode()).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    major = major_of(ask_version(environment()))
    monkeypatch.setattr("podman_cvmfs.podman.registries_rules.podman_major", lambda: major)
    assert major in (4, 5)
    assert registries_rules.__wrapped__() == RegistriesRules(False, skips_bom=major == 5)
