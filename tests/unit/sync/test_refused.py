# SPDX-License-Identifier: Apache-2.0
"""Images that podman's policy.json refuses never get into a store."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from podman_cvmfs.podman.storage_conf.generation import Generation
from podman_cvmfs.reports import configured
from podman_cvmfs.reports.evidence import gather
from podman_cvmfs.reports.images import State, catalogue
from podman_cvmfs.reports.sources import selection_of
from podman_cvmfs.reports.why import Code, judge
from podman_cvmfs.repository.collect import collect
from podman_cvmfs.settings.files import Settings, Signatures
from podman_cvmfs.sync.from_settings import request_of
from podman_cvmfs.sync.report import SyncReport
from podman_cvmfs.sync.run import sync
from podman_cvmfs.sync.selection import Selection
from podman_cvmfs.sync.stamp import wishes_text
from tests.support.many import REGISTRY
from tests.support.set_up import write
from tests.support.world import World, app

REPOSITORY = app(2).rpartition(":")[0]
SIGNED = {"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/etc/pki/key"}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("CONTAINERS_POLICY_JSON", raising=False)
    made = World(tmp_path)
    made.make("repository", 3)
    return made


def settings_of(world: World, signatures: Signatures = Signatures.REQUIRED) -> Settings:
    return Settings(
        repositories=(str(world.repository),),
        store=world.store.path,
        cache=str(world.root / "cache"),
        arch="amd64",
        offline=True,
        signatures=signatures,
    )


def refuse(world: World, requirement: dict[str, str]) -> str:
    """Refuse the second image; the path of the file that does so."""
    accept = [{"type": "insecureAcceptAnything"}]
    document = {"default": accept, "transports": {"docker": {REPOSITORY: [requirement]}}}
    data = json.dumps(document).encode()
    return str(write(world.root / "home/.config/containers/policy.json", data))


def run(settings: Settings, *images: str) -> SyncReport:
    return sync(request_of(settings, images)[0])


@pytest.mark.parametrize("signatures", Signatures)
def test_a_rejected_image_is_left_out(world: World, signatures: Signatures) -> None:
    settings = settings_of(world, signatures)
    path = refuse(world, {"type": "reject"})
    report = run(settings)
    assert set(world.names) == {app(0), app(1)}
    assert list(report.left_out) == [app(2)] and not report.failed
    assert report.left_out[app(2)].message == f"{app(2)}: {path} rejects images of {REPOSITORY}"


def test_an_image_that_needs_a_signature(world: World) -> None:
    refuse(world, SIGNED)
    report = run(settings_of(world))
    assert "demands a signature" in report.left_out[app(2)].message
    assert app(2) not in world.names
    report = run(settings_of(world, Signatures.IGNORED))
    assert app(2) in world.names and not report.left_out


def test_it_leaves_the_store(world: World) -> None:
    settings = settings_of(world)
    run(settings)
    assert app(2) in world.names
    before = wishes_text(settings)
    refuse(world, {"type": "reject"})
    assert wishes_text(settings) != before, "a sync looks again after a change of policy.json"
    report = run(settings)
    assert list(report.removed) == [app(2)] and app(2) not in world.names


def test_whoever_names_it_is_told(world: World) -> None:
    settings = settings_of(world)
    run(settings)
    refuse(world, {"type": "reject"})
    report = run(settings, app(2))
    assert "rejects" in report.failed[app(2)].message
    assert set(world.names) == {app(0), app(1)}


def test_a_short_name_goes_on_to_the_next_meaning(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """podman tries the next registry in its list when it may not take the image of the first."""
    other = "other.example.org"
    for directory in (world.repository, world.repository / ".metadata"):
        shutil.copytree(directory / REGISTRY, directory / other, symlinks=True)
    conf = world.root / "registries.conf"
    conf.write_text(f'unqualified-search-registries = ["{REGISTRY}", "{other}"]\n')
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(conf))
    refuse(world, {"type": "reject"})
    second = app(2).replace(REGISTRY, other)
    settings = settings_of(world)
    evidence = gather("project/app2:2", settings)
    assert evidence.offer is not None and str(evidence.offer.image.name) == second
    assert not evidence.refusal and evidence.pulls_from == (second,)
    report = run(settings, "project/app2:2")
    assert list(report.added) == [second] and not report.failed


def test_images_says_which_rule(world: World) -> None:
    settings = settings_of(world)
    path = refuse(world, {"type": "reject"})
    run(settings)
    selection = selection_of(settings)
    offers = collect([str(world.repository)], [], settings.platform, ())
    rows = {row.name: row for row in catalogue(world.content, offers, selection)}
    assert rows[app(2)].state is State.REFUSED
    assert rows[app(2)].refusal == f"{path} rejects images of {REPOSITORY}"
    assert rows[app(1)].state is State.IN_STORE and not rows[app(1)].refusal
    excluded = Selection(None, (), ["*app2*"], selection.refusal)
    rows = {row.name: row for row in catalogue(world.content, offers, excluded)}
    assert rows[app(2)].state is State.NOT_WISHED


def test_a_broken_policy_changes_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    settings = settings_of(world)
    run(settings)
    before = world.names
    write(world.root / "home/.config/containers/policy.json", b"{")
    with pytest.raises(Exception, match=r"policy\.json: not valid"):
        run(settings)
    assert world.names == before
    assert selection_of(replace(settings)).refusal is not None
    assert "policy.json: not valid" in caplog.text


@pytest.fixture
def podman(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A podman that has nothing of its own but uses the store."""
    root = world.root
    storage = f'[storage]\ndriver = "overlay"\ngraphroot = "{root}/graph"\n[storage.options]\n'
    storage += f'additionalimagestores = ["{world.store.path}"]\n'
    write(root / "storage.conf", storage.encode())
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", f"{root}/storage.conf")
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(write(root / "registries.conf", b"")))
    monkeypatch.setattr(configured, "find_generation", lambda: Generation("5", False, True))


@pytest.mark.usefixtures("podman")
@pytest.mark.parametrize("kind", ["reject", "signedBy"])
def test_why_says_which_rule(world: World, kind: str) -> None:
    settings = settings_of(world)
    run(settings)
    path = refuse(world, {"type": kind})
    answer = judge(gather(app(2), settings))
    # It is still there, and podman doesn't ask the policy.
    assert answer.hit and [each.code for each in answer.reasons] == [Code.IN_STORE, Code.REFUSED]
    run(settings)
    answer = judge(gather(app(2), settings))
    assert [each.code for each in answer.reasons] == [Code.REFUSED]
    assert f"{path} " in answer.reasons[0].text and REPOSITORY in answer.reasons[0].text
    # podman checks signatures itself.
    rule = f"fails: {path} rejects images of {REPOSITORY}"
    run_says = rule if kind == "reject" else f"pulls it from {app(2)}"
    assert answer.podman_run == run_says
    unknown = f"{REPOSITORY}:none"
    run_says = rule if kind == "reject" else f"pulls it from {unknown}"
    assert judge(gather(unknown, settings)).podman_run == run_says
    assert judge(gather(app(1), settings)).hit
    write(world.root / "home/.config/containers/policy.json", b"{")
    assert "policy.json: not valid" in judge(gather(unknown, settings)).podman_run
