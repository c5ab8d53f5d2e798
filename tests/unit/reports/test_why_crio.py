# SPDX-License-Identifier: Apache-2.0
"""What ``podman-cvmfs why --crio`` concludes, and from what."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from podman_cvmfs.oci.platform import Platform
from podman_cvmfs.reports.configured import CRIO, Configured, configured_in_crio
from podman_cvmfs.reports.evidence import Evidence, gather
from podman_cvmfs.reports.why import Answer, Code, judge
from podman_cvmfs.settings.files import Settings
from tests.support.cli import Target
from tests.support.many import REGISTRY, make_repository

NAME = f"{REGISTRY}/project/app1:1"


class Node:
    """A node of Kubernetes with CRI-O and a synced store, without podman."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.target = Target(make_repository(root / "repo", 2), root / "store", root / "cache")
        self.target.sync()
        self.directory = root / "crio"
        self.configure(f'storage_option = ["overlay.imagestore={self.target.store}"]')

    def configure(self, *lines: str) -> None:
        self.directory.mkdir(exist_ok=True)
        text = "\n".join(["[crio]", f'root = "{self.root}/graph"', *lines, ""])
        (self.directory / "crio.conf").write_text(text)

    def configured(self) -> Configured:
        return configured_in_crio(str(self.target.store), str(self.directory))

    def ask(self, text: str) -> Answer:
        target = self.target
        settings = Settings(repositories=(str(target.repository),), store=str(target.store))
        return judge(gather(text, settings, self.configured()))


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    (tmp_path / "config.toml").write_text("offline = true\n")
    (tmp_path / "registries.conf").touch()
    monkeypatch.setenv("PODMAN_CVMFS_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(tmp_path / "registries.conf"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(Platform, "of_host", lambda: Platform("amd64"))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return Node(tmp_path)


def codes(answer: Answer) -> list[Code]:
    return [reason.code for reason in answer.reasons]


def test_an_image_of_the_store_is_a_hit_unless_the_pod_asks_for_pulls(node: Node) -> None:
    answer = node.ask(NAME)
    assert answer.hit
    assert codes(answer) == [Code.IN_STORE, Code.PULL_POLICY]
    assert "imagePullPolicy: Always" in answer.reasons[1].text
    assert answer.image_id is not None
    assert answer.podman_run == f"starts {answer.image_id[:12]} from the store, without a pull"


def test_short_names_are_not_found_without_a_registry(node: Node) -> None:
    """podman would look for them in localhost and Docker Hub."""
    answer = node.ask("project/app1:1")
    assert not answer.hit
    assert Code.SHORT_NAME in codes(answer)
    assert answer.reasons[-1].cure == "use the full name, docker.io/project/app1:1"
    assert answer.podman_run == "fails: it can't tell which image is meant"
    (node.root / "registries.conf").write_text(f'unqualified-search-registries = ["{REGISTRY}"]\n')
    assert node.ask("project/app1:1").hit


def test_a_store_that_cri_o_lacks(node: Node) -> None:
    node.configure()
    answer = node.ask(NAME)
    assert not answer.hit
    assert answer.reasons[1].text == "CRI-O doesn't use the store"
    assert (answer.reasons[1].cure or "").startswith("podman-cvmfs setup --crio --store ")
    assert answer.podman_run == f"pulls it from {NAME}"


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda node: node.configure("root = 1"), "CRI-O can't start: "),
        (
            lambda node: node.configure('storage_option = ["overlay.imagestore=/no-such"]'),
            "CRI-O fails because its configuration names the store /no-such: No such file",
        ),
        (lambda node: (node.directory / "crio.conf").unlink(), "CRI-O is not on this machine"),
    ],
)
def test_what_stops_cri_o_is_told(node: Node, spoil: Callable[[Node], object], why: str) -> None:
    spoil(node)
    if not (node.directory / "crio.conf").exists():
        node.directory.rmdir()
    assert node.ask(NAME).podman_run.startswith(f"fails: {why}")


def test_an_own_image_and_another_store_count_first(node: Node) -> None:
    records = node.root / "graph/overlay-images"
    records.mkdir(parents=True)
    record = {"id": "e" * 64, "names": [NAME], "layer": "f" * 64}
    (records / "images.json").write_text(json.dumps([record]))
    answer = node.ask(NAME)
    assert not answer.hit
    assert answer.reasons[1].text.startswith("CRI-O finds another image of this name first")
    assert answer.reasons[1].cure == f"crictl rmi {NAME}"
    stores = f"overlay.imagestore={node.root},{node.target.store}"
    node.configure(f'storage_option = ["{stores}"]', f'imagestore = "{node.root}/images"')
    found = node.configured()
    assert (found.before, found.after) == ((str(node.root),), ())
    assert found.graphroots == (f"{node.root}/graph", f"{node.root}/images")


def test_an_image_that_nobody_has_is_pulled(node: Node) -> None:
    answer = node.ask("docker.io/library/none:1")
    assert codes(answer) == [Code.NOT_IN_REPOSITORY]
    assert answer.podman_run == "pulls it from docker.io/library/none:1"


def test_podman_is_never_told_of_pods() -> None:
    evidence = Evidence("x", "/s", (), Configured(True), is_too_short=True, no_pull="no")
    assert Code.SHORT_NAME not in codes(judge(evidence))
    assert Code.SHORT_NAME in codes(
        judge(Evidence("x", "/s", (), Configured(True, engine=CRIO), is_too_short=True))
    )
