# SPDX-License-Identifier: Apache-2.0
"""What ``podman-cvmfs why`` concludes, and from what."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from podman_cvmfs.errors import InputError
from podman_cvmfs.oci.platform import Platform
from podman_cvmfs.podman.storage_conf.generation import Generation
from podman_cvmfs.reports import configured
from podman_cvmfs.reports.configured import Configured
from podman_cvmfs.reports.evidence import Evidence, gather
from podman_cvmfs.reports.own_copy import OwnCopy, own_copy
from podman_cvmfs.reports.sources import target_of
from podman_cvmfs.reports.why import Code, judge
from podman_cvmfs.settings import paths
from podman_cvmfs.settings.files import Settings, load_settings
from podman_cvmfs.setup.store import ensure_store
from podman_cvmfs.store.reader import read_store
from tests.support.cli import Target, podman_cvmfs
from tests.support.many import REGISTRY, make_repository


def name(number: int) -> str:
    return f"{REGISTRY}/project/app{number}:{number}"


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Target:
    """Three images, synced, and a podman that has nothing of its own but uses the store."""
    config = tmp_path / "config.toml"
    config.write_text("offline = true\n")
    registries = tmp_path / "registries.conf"
    registries.write_text(
        f'unqualified-search-registries = ["{REGISTRY}", "docker.io"]\n'
        '[[registry]]\nlocation = "blocked.example.org"\nblocked = true\n'
    )
    (tmp_path / "first").mkdir()
    storage = tmp_path / "storage.conf"
    storage.write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{tmp_path}/graph"\n'
        f'[storage.options]\nadditionalimagestores = ["{tmp_path}/first", "{tmp_path}/store"]\n'
    )
    monkeypatch.setenv("PODMAN_CVMFS_CONFIG", str(config))
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(registries))
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(storage))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(configured, "find_generation", lambda: Generation("5", False, True))
    monkeypatch.setattr(Platform, "of_host", lambda: Platform("amd64"))
    made = Target(
        make_repository(tmp_path / "repository", 3), tmp_path / "store", tmp_path / "cache"
    )
    made.sync()
    return made


@pytest.fixture
def ask(target: Target) -> Callable[..., Evidence]:
    def asked(text: str, **others: Any) -> Evidence:
        settings = Settings(repositories=(str(target.repository),), store=str(target.store))
        return gather(text, replace(settings, **others))

    return asked


Ask = Callable[..., Evidence]


def empty(store: Path) -> None:
    shutil.rmtree(store)
    ensure_store(str(store))


def codes(evidence: Evidence) -> list[str]:
    return [reason.code.value for reason in judge(evidence).reasons]


def test_hit(ask: Ask) -> None:
    evidence = ask(name(1))
    answer = judge(evidence)
    assert answer.hit
    assert codes(evidence) == ["in-store"]
    assert evidence.stored is not None
    assert answer.image_id == evidence.stored.image_id
    assert answer.podman_run == f"starts {answer.image_id[:12]} from the store, without a pull"


@pytest.mark.parametrize("how", ["short", "id", "short id", "digest", "transport"])
def test_hit_by_other_names(ask: Ask, how: str) -> None:
    image = ask(name(1)).stored
    assert image is not None
    text = {
        "short": "project/app1:1",
        "id": image.image_id,
        "short id": image.image_id[:12],
        "digest": f"{REGISTRY}/project/app1@{image.manifest_digest}",
        "transport": f"docker://{name(1)}",
    }[how]
    assert codes(ask(text)) == ["in-store"]
    assert judge(ask(text)).hit


def test_no_name_is_short_behind_a_transport(ask: Ask) -> None:
    evidence = ask("docker://project/app1:1")
    assert evidence.names == ("docker.io/project/app1:1",)
    assert not judge(evidence).hit
    assert judge(evidence).podman_run == "pulls it from docker.io/project/app1:1"
    with pytest.raises(InputError, match="not an image name"):
        ask("docker://")


def test_stale_tag_still_runs(ask: Ask, target: Target) -> None:
    link = target.repository / name(1)
    link.unlink()
    link.symlink_to((target.repository / name(2)).readlink())
    assert codes(ask(name(1))) == ["in-store", "stale-tag"]
    assert judge(ask(name(1))).hit


def test_gone_from_the_repository(ask: Ask, target: Target) -> None:
    (target.repository / name(1)).unlink()
    shutil.rmtree(target.repository / ".metadata" / name(1))
    assert codes(ask(name(1))) == ["in-store", "gone-from-repository"]


def test_repository_down(ask: Ask, target: Target) -> None:
    target.repository.rename(target.repository.with_name("away"))
    answer = judge(ask(name(1)))
    assert [reason.code for reason in answer.reasons] == [Code.IN_STORE, Code.DOWN]
    assert not answer.hit
    assert answer.podman_run.startswith("fails")
    assert codes(ask("project/other:1")) == ["repository-down"]


def test_not_synced(ask: Ask, target: Target) -> None:
    empty(target.store)
    evidence = ask(name(1))
    (reason,) = judge(evidence).reasons
    assert reason.code is Code.NOT_SYNCED
    assert reason.cure == f"podman-cvmfs sync {name(1)} --store {target.store}"
    assert judge(evidence).podman_run == f"pulls it from {name(1)}"


def test_not_wished(ask: Ask, target: Target) -> None:
    empty(target.store)
    assert codes(ask(name(1), exclude=("*app1*",))) == ["not-wished"]


def test_not_in_the_repository_names_other_tags(ask: Ask) -> None:
    (reason,) = judge(ask("project/app1:9")).reasons
    assert reason.code is Code.NOT_IN_REPOSITORY
    assert reason.cure == f"there is {name(1)}"
    assert judge(ask("project/app1:9")).podman_run == (
        f"pulls it from {REGISTRY}/project/app1:9 or docker.io/project/app1:9"
    )


def test_blocked_registry(ask: Ask) -> None:
    answer = judge(ask("blocked.example.org/a/b:1"))
    assert "fails" in answer.podman_run
    assert "blocked" in answer.podman_run


def test_store_not_configured(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "storage.conf").write_text('[storage]\ndriver = "overlay"\n')
    answer = judge(ask(name(1)))
    assert [reason.code for reason in answer.reasons] == [Code.IN_STORE, Code.NOT_CONFIGURED]
    assert not answer.hit
    assert str(tmp_path / "storage.conf") in answer.reasons[1].text
    assert "podman-cvmfs setup" in (answer.reasons[1].cure or "")
    assert answer.podman_run == f"pulls it from {name(1)}"


@pytest.mark.parametrize("missing", ["first", "store"])
def test_podman_fails_while_a_store_is_missing(ask: Ask, tmp_path: Path, missing: str) -> None:
    shutil.rmtree(tmp_path / missing)
    own_record(tmp_path / "graph", "e" * 64, [name(1)], "f" * 64, True)
    answer = judge(ask(name(1)))
    (reason,) = (each for each in answer.reasons if each.code is Code.PODMAN_FAILS)
    assert reason.cure == f"podman-cvmfs doctor --store {tmp_path}/store"
    assert not answer.hit
    assert answer.podman_run.startswith("fails: ")
    assert f"{tmp_path}/{missing}: No such file or directory" in answer.podman_run


def test_podman_fails_with_a_broken_configuration(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "storage.conf").write_text("[storage\n")
    answer = judge(ask(name(1)))
    assert [reason.code for reason in answer.reasons] == [Code.IN_STORE, Code.PODMAN_FAILS]
    assert answer.podman_run.startswith(f"fails: podman can't start: {tmp_path}/storage.conf")


def own_record(place: Path, image_id: str, names: list[str], layer: str, has_layer: bool) -> None:
    for kind in ("images", "layers"):
        (place / f"overlay-{kind}").mkdir(parents=True, exist_ok=True)
    record = {"id": image_id, "names": names, "layer": layer}
    (place / "overlay-images/images.json").write_text(json.dumps([record]))
    layers = [{"id": layer}] if has_layer else []
    (place / "overlay-layers/layers.json").write_text(json.dumps(layers))


@pytest.mark.parametrize("where", ["graph", "first"])
def test_shadowed_by_an_own_copy(ask: Ask, tmp_path: Path, where: str) -> None:
    own_record(tmp_path / where, "e" * 64, [name(1)], "f" * 64, True)
    answer = judge(ask(name(1)))
    assert [reason.code for reason in answer.reasons] == [Code.IN_STORE, Code.SHADOWED]
    assert not answer.hit
    assert answer.podman_run == (
        f"starts eeeeeeeeeeee from {os.path.realpath(tmp_path / where)}, without a pull"
    )


def test_storage_opts_takes_the_place_of_the_file(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    own_record(tmp_path / "other", "e" * 64, [name(1)], "f" * 64, True)
    monkeypatch.setenv("STORAGE_OPTS", f"overlay.imagestore={tmp_path}/other")
    answer = judge(ask(name(1)))
    assert not answer.hit
    assert Code.NOT_CONFIGURED in [reason.code for reason in answer.reasons]
    assert "unset STORAGE_OPTS" in [reason.cure for reason in answer.reasons]
    assert answer.podman_run == f"starts eeeeeeeeeeee from {tmp_path}/other, without a pull"


def test_storage_opts_set_to_nothing(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_OPTS", "")
    answer = judge(ask(name(1)))
    assert not answer.hit and "unset STORAGE_OPTS" in [each.cure for each in answer.reasons]


def test_absent_from_ours_but_in_a_later_store(ask: Ask, tmp_path: Path, target: Target) -> None:
    empty(target.store)
    (tmp_path / "later").mkdir()
    own_record(tmp_path / "later", "e" * 64, [name(1)], "f" * 64, True)
    storage = tmp_path / "storage.conf"
    storage.write_text(storage.read_text().replace('/store"]', f'/store", "{tmp_path}/later"]'))
    answer = judge(ask(name(1)))
    assert not answer.hit
    assert answer.podman_run == f"starts eeeeeeeeeeee from {tmp_path}/later, without a pull"


def test_cure_is_fit_for_a_shell(ask: Ask, tmp_path: Path, target: Target) -> None:
    spaced = tmp_path / "a store"
    target.store.rename(spaced)
    reasons = judge(ask(name(1), store=str(spaced))).reasons
    (cure,) = [each.cure for each in reasons if each.code == Code.NOT_CONFIGURED]
    assert cure is not None and cure.endswith(f"--store '{spaced}'")


def test_the_cure_of_a_shadow_can_be_done(ask: Ask, tmp_path: Path) -> None:
    """podman removes nothing from an additional store."""
    for where, cure in (("first", "additionalimagestores"), ("graph", "podman rmi")):
        own_record(tmp_path / where, "e" * 64, [name(1)], "f" * 64, True)
        assert cure in str(judge(ask(name(1))).reasons[-1].cure)


def test_another_store_has_what_ours_has_not(ask: Ask, tmp_path: Path) -> None:
    """podman goes through all additional stores before it pulls."""
    conf = tmp_path / "storage.conf"
    text = conf.read_text()
    conf.write_text(text.replace('/store"', f'/store", "{tmp_path}/last"'))
    own_record(tmp_path / "last", "e" * 64, [name(1), name(9)], "f" * 64, True)
    assert judge(ask(name(1))).hit
    answer = judge(ask(name(9)))
    assert not answer.hit
    assert answer.podman_run == f"starts eeeeeeeeeeee from {tmp_path}/last, without a pull"
    conf.write_text(text.replace('/store"', '/last"'))
    answer = judge(ask(name(1)))
    assert Code.NOT_CONFIGURED in {reason.code for reason in answer.reasons}
    assert answer.podman_run == f"starts eeeeeeeeeeee from {tmp_path}/last, without a pull"


def test_a_user_without_a_store_asks_about_the_system_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(paths, "SYSTEM_STORE", str(tmp_path / "system"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("PODMAN_CVMFS_CONFIG", str(tmp_path / "config.toml"))
    (tmp_path / "config.toml").touch()
    own = str(tmp_path / "data/podman-cvmfs/store")
    assert target_of(load_settings()).store == own
    (tmp_path / "system").mkdir()
    assert target_of(load_settings()).store == paths.SYSTEM_STORE
    assert target_of(load_settings({"store": own})).store == own
    # The cache goes with the store, however that was found.
    named = {"store": paths.SYSTEM_STORE}
    assert target_of(load_settings()).cache == paths.SYSTEM_CACHE
    assert target_of(load_settings(named)).cache == paths.SYSTEM_CACHE
    assert target_of(load_settings({"cache": "/c"})).cache == "/c"
    assert target_of(load_settings({"cache": "/c", **named})).cache == "/c"


def test_own_record_on_our_layers_is_a_hit(ask: Ask, tmp_path: Path) -> None:
    image = ask(name(1)).stored
    assert image is not None and image.top_layer is not None
    own_record(tmp_path / "graph", image.image_id, [name(1)], image.top_layer, False)
    answer = judge(ask(name(1)))
    assert [reason.code for reason in answer.reasons] == [Code.IN_STORE, Code.OWN_COPY]
    assert answer.hit
    own_record(tmp_path / "graph", image.image_id, [name(1)], image.top_layer, True)
    assert not judge(ask(name(1))).hit


def test_own_image_of_a_later_meaning_does_not_count(ask: Ask, tmp_path: Path) -> None:
    own_record(tmp_path / "graph", "e" * 64, ["docker.io/project/app1:1"], "f" * 64, True)
    assert judge(ask("project/app1:1")).hit
    own_record(tmp_path / "graph", "e" * 64, ["localhost/project/app1:1"], "f" * 64, True)
    assert not judge(ask("project/app1:1")).hit


def test_broken_records_of_others_are_passed_over(target: Target, tmp_path: Path) -> None:
    content = read_store(str(target.store))
    assert content is not None
    (tmp_path / "graph/overlay-images").mkdir(parents=True)
    for text in ("{", "null", "[1, {}]", '[{"names": 3}]'):
        (tmp_path / "graph/overlay-images/images.json").write_text(text)
        assert own_copy([str(tmp_path / "graph")], [name(1)], None, content) is None


def test_other_architecture(ask: Ask) -> None:
    answer = judge(replace(ask(name(1)), host=Platform("arm64")))
    assert [reason.code for reason in answer.reasons] == [Code.IN_STORE, Code.ARCHITECTURE]
    assert not answer.hit
    assert "warning" in answer.podman_run


def test_an_architecture_in_doubt(ask: Ask) -> None:
    """The config contradicts the index: podman warns, and starts the image."""
    arm64 = Platform("arm64")
    evidence = replace(ask(name(1)), host=arm64, published_for=arm64)
    answer = judge(evidence)
    assert [reason.code for reason in answer.reasons] == [Code.IN_STORE, Code.DOUBTFUL]
    assert answer.hit and "warning" in answer.podman_run
    windows = judge(replace(evidence, platform=Platform("arm64", "", "windows")))
    assert [reason.code for reason in windows.reasons] == [Code.IN_STORE, Code.ARCHITECTURE]


def test_synthesised_config(ask: Ask, target: Target) -> None:
    evidence = ask(name(1))
    assert evidence.stored is not None
    made_up = replace(evidence.stored, config_origin="synthesised")
    answer = judge(replace(evidence, stored=made_up))
    assert [reason.code for reason in answer.reasons] == [Code.IN_STORE, Code.SYNTHESISED]
    assert answer.hit


def test_files_that_are_closed_to_the_user(ask: Ask) -> None:
    evidence = replace(ask(name(1)), is_closed=True)
    answer = judge(evidence)
    assert answer.hit
    assert [reason.code for reason in answer.reasons] == [Code.IN_STORE, Code.CLOSED]
    assert f"podman pull {name(1)}" in str(answer.reasons[1].cure)
    own = OwnCopy("e" * 64, "/graph", on_ours=False)
    assert Code.CLOSED not in {reason.code for reason in judge(replace(evidence, own=own)).reasons}


def test_own_image_that_the_store_has_not() -> None:
    evidence = Evidence(
        asked="x:1",
        store="/s",
        names=("localhost/x:1",),
        configured=Configured(True),
        own=OwnCopy("e" * 64, "/graph", on_ours=True),
    )
    assert judge(evidence).podman_run == "starts eeeeeeeeeeee from /graph, without a pull"


def test_nothing_reaches_the_terminal_raw(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", f"{tmp_path}/\x1b[31m.conf")
    for asked in (name(1), "\x1b[31m"):
        done = podman_cvmfs("why", asked, "--store", f"{tmp_path}/\x1b[31m")
        assert r"\x1b" in done.stdout + done.stderr
        assert "\x1b" not in done.stdout + done.stderr


def test_command_says_it_and_exits_with_1(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    places = ("--store", target.store, "--repository", target.repository)
    done = podman_cvmfs("why", name(1), *places, "--format", "json")
    assert done.returncode == 1
    said = json.loads(done.stdout)
    assert said["hit"] is False
    assert [each["code"] for each in said["reasons"]] == ["in-store", "podman-fails"]
    assert "podman is not in PATH" in said["reasons"][1]["text"]
    text = podman_cvmfs("why", name(1), *places).stdout
    assert text.startswith(f"{name(1)}: miss\n")
    assert podman_cvmfs("why", "NO NAME", *places).returncode == 3
