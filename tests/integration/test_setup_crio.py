# SPDX-License-Identifier: Apache-2.0
"""Set-up of a node of Kubernetes, by the command alone, on an /etc of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.many import REGISTRY, make_repository
from tests.support.namespace import Namespace
from tests.support.set_up import tree_of

DROP_IN = "/etc/crio/crio.conf.d/99-podman-cvmfs.conf"
CONF = """\
[crio]
root = "/var/lib/containers/crio"
[crio.image]
pinned_images = ["example.org/pinned:1"]
"""
#: Changes to /etc go into a directory of the test's.
_OWN_ETC = "mount -t overlay -o lowerdir=/etc,upperdir={0}/etc,workdir={0}/work overlay /etc"


class Node:
    """A machine with CRI-O's configuration and without podman."""

    def __init__(self, root: Path) -> None:
        self.etc = root / "etc"
        for name in ("etc/crio", "work", "var", "bin"):
            (root / name).mkdir(parents=True)
        (self.etc / "crio/crio.conf").write_text(CONF)
        self.repository = make_repository(root / "repository", 2)
        self.namespace = Namespace()
        self.namespace.run(["sh", "-c", _OWN_ETC.format(root)])
        self.namespace.run(["mount", "--bind", root / "var", "/var/lib"])
        self.namespace.run(["mkdir", "/var/lib/containers"])
        self.env = {"PATH": str(root / "bin"), "HOME": "/root", "LC_ALL": "C.UTF-8"}
        self.env["PYTHONPATH"] = os.pathsep.join(sys.path)

    def run(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``podman-cvmfs ARGS``; its messages are its standard error."""
        env = [f"{name}={value}" for name, value in self.env.items()]
        argv = ["env", "-i", *env, sys.executable, "-m", "podman_cvmfs", *args]
        return self.namespace.run(argv, check=check)

    def doctor(self) -> set[str]:
        """The names of the conditions that ``doctor`` finds."""
        options = ("--repository", str(self.repository), "--format", "json")
        done = self.run("doctor", *options, check=False)
        return {each["condition"] for each in json.loads(done.stdout)["findings"]}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    yield made
    made.namespace.close()


def test_a_node_without_podman_is_set_up_and_set_back(node: Node) -> None:
    before = tree_of(node.etc)
    assert "use --crio alone" in node.run("setup", check=False).stderr
    node.run("sync", "--offline", "--repository", str(node.repository))
    assert node.doctor() >= {"crio-not-configured"}
    assert tree_of(node.etc) == before
    done = node.run("setup", "--crio")
    assert f"made {DROP_IN}\n" in done.stderr and "systemctl restart crio" in done.stderr
    # The file is the only change.
    made = {path for path in tree_of(node.etc) if path not in before}
    assert made == {f"{node.etc}/crio/crio.conf.d", f"{node.etc}/{DROP_IN[len('/etc/') :]}"}
    text = Path(node.etc, DROP_IN[len("/etc/") :]).read_text()
    assert "example.org/pinned:1" in text and f"{REGISTRY}/project/*" in text
    findings = node.doctor()
    assert not [each for each in findings if each.startswith(("crio-", "podman-", "store-not"))]
    name = f"{REGISTRY}/project/app1:1"
    answer = node.run("why", name, "--repository", str(node.repository), check=False).stdout
    assert answer.startswith(f"{name}: ")
    assert "CRI-O doesn't use the store" not in answer and "imagePullPolicy" in answer
    assert "systemctl restart crio" in node.run("setup", "--undo").stderr
    assert tree_of(node.etc) == before


def test_layers_of_cri_o_s_own_root_stay(node: Node) -> None:
    """crio.conf alone names the directory in which a container stands on a layer of the store."""
    options = ("--offline", "--repository", str(node.repository))
    node.run("sync", *options)
    layers = node.namespace.outside("/var/lib/podman-cvmfs/store/overlay-layers/layers.json")
    top = json.loads(layers.read_text())[-1]["id"]
    root = node.namespace.outside("/var/lib/containers/crio")
    (root / "overlay-layers").mkdir(parents=True)
    (root / "overlay-containers").mkdir()
    record = [{"id": "c" * 64, "names": ["k8s_c_pod"], "layer": top}]
    (root / "overlay-containers/containers.json").write_text(json.dumps(record))
    settings = node.namespace.outside("/etc/podman-cvmfs/config.toml")
    settings.parent.mkdir(exist_ok=True)
    settings.write_text('exclude = ["*"]\n')
    node.run("sync", *options)
    planned = node.run("prune", "--grace", "0", "--dry-run").stdout
    assert f"layer {top[:12]}: kept: container k8s_c_pod in /var/lib/containers/crio\n" in planned
    assert ": would be removed\n" in planned
    node.run("prune", "--grace", "0")
    assert top in layers.read_text()
