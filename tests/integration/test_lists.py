# SPDX-License-Identifier: Apache-2.0
"""The two real wish lists, against registries and repositories with all that is in them.

Every line is taken apart here by the rules of the tool it is written for, not by ours.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from podman_cvmfs.names.reference import ImageName
from tests.support.cli import podman_cvmfs, succeed
from tests.support.http import serving
from tests.support.osg import OsgBuilt, add_link, add_root, describe
from tests.support.shared_data import DUCC_RECIPE, OSG_LIST, shared_data
from tests.support.stand_in import StandIn, add_ducc, tags_of

HUB = "registry.hub.docker.com"


@dataclass
class Wish:
    """A line, and the images that there are for it."""

    line: str
    registry: str
    repository: str
    tag: str
    expected: dict[str, OsgBuilt] = field(default_factory=dict)


def ducc_lines() -> list[Wish]:
    """``scheme://registry/repository:tag``, as ducc/lib/parse.go takes it."""
    lines = re.findall(r"^ +- '(.*)'$", shared_data(DUCC_RECIPE).read_text(), re.MULTILINE)
    wishes = []
    for line in dict.fromkeys(lines):
        registry, _, path = line.partition("://")[2].partition("/")
        repository, _, tag = path.partition(":")
        wishes.append(Wish(line, registry, repository, tag or "latest"))
    return wishes


def osg_lines() -> list[Wish]:
    """As ``parse_image`` in cvmfs-singularity-sync takes them."""
    wishes = []
    for line in shared_data(OSG_LIST).read_text().splitlines():
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        parts = text.split("/")
        registry, namespace = HUB, "library"
        if len(parts) == 2:
            namespace = parts[0]
        elif len(parts) > 2:
            registry, namespace = parts[0], parts[1]
        last = "/".join(parts[2:]) if len(parts) > 2 else parts[-1]
        name, _, tag = last.partition(":")
        wishes.append(Wish(text, registry, f"{namespace}/{name}", tag or "latest"))
    return wishes


def podman_name(wish: Wish, tag: str) -> str:
    registry = "docker.io" if wish.registry == HUB else wish.registry
    return f"{registry}/{wish.repository}:{tag}"


@dataclass
class Lists:
    """Both repositories and registries, and what is to be found in them."""

    root: Path
    registry: StandIn

    def sync(self, kind: str, place: str, *options: str) -> tuple[int, str, dict[str, object]]:
        where = ("--repository", self.root / kind, "--store", self.root / place / "store")
        done = podman_cvmfs("sync", *where, "--format", "json", *options)
        return done.returncode, done.stderr, json.loads(done.stdout) if done.stdout else {}

    def rows(self, kind: str, place: str) -> dict[str, dict[str, str]]:
        """What ``images`` says of each name."""
        where = ("--repository", self.root / kind, "--store", self.root / place / "store")
        rows = json.loads(succeed("images", *where, "--format", "json"))
        return {row["name"]: row for row in rows}


@pytest.fixture
def lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lists]:
    with serving() as hub, serving() as others:
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("PODMAN_CVMFS_CONFIG", str(tmp_path / "config.toml"))
        monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(tmp_path / "registries.conf"))
        monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
        yield Lists(tmp_path, StandIn(hub, others))


def fill(lists: Lists, kind: str, wishes: list[Wish], wish_list: str) -> dict[str, OsgBuilt]:
    """Publish all wishes, and an image beside each pattern that it doesn't take; returns what is
    wished for by podman's name."""
    repository = lists.root / kind
    wanted = {}
    for wish in wishes:
        tags = [wish.tag]
        if "*" in wish.tag:
            *tags, other = [*tags_of(wish.tag)] if wish.tag != "*" else ["1", "2", "3"]
            if wish.tag != "*":
                publish(lists, repository, kind, wish, other)
        for tag in tags:
            wish.expected[podman_name(wish, tag)] = publish(lists, repository, kind, wish, tag)
        wanted.update(wish.expected)
    shutil.copy(shared_data(wish_list), lists.root / wish_list)
    (lists.root / "config.toml").write_text(
        f'wish_lists = ["{lists.root}/{wish_list}"]\ncache = "{lists.root}/cache"\n'
        'arch = "amd64"\n[registries]\nretries = 0\n'
    )
    lists.registry.registries_conf(lists.root / "registries.conf")
    return wanted


def publish(lists: Lists, repository: Path, kind: str, wish: Wish, tag: str) -> OsgBuilt:
    image = describe([podman_name(wish, tag)], Env=[f"NAME={podman_name(wish, tag)}"])
    name = ImageName(wish.registry, wish.repository, tag)
    lists.registry.push(name, image)
    if kind == "ducc":
        add_ducc(repository, name, image)
    else:
        link = repository / f"{wish.repository}:{tag}"
        if link.is_symlink():
            link.unlink()
        add_root(repository, image.merged, {"PATH": "/bin"})
        add_link(repository, f"{wish.repository}:{tag}", image.merged)
    return image


@pytest.mark.parametrize("kind", ["ducc", "osg"])
def test_every_line_finds_its_image_and_no_other(lists: Lists, kind: str) -> None:
    wishes = ducc_lines() if kind == "ducc" else osg_lines()
    assert len(wishes) > (40 if kind == "ducc" else 500)
    wanted = fill(lists, kind, wishes, DUCC_RECIPE if kind == "ducc" else OSG_LIST)
    code, errors, report = lists.sync(kind, "first")
    assert (code, report["failed"], report["synthesised"]) == (0, {}, 0), errors
    rows = lists.rows(kind, "first")
    assert {name: rows[name]["id"] for name in wanted} == {
        name: image.image_id for name, image in wanted.items()
    }
    assert {rows[name]["manifest"] for name in wanted} == {"genuine"}
    for name, row in rows.items():
        # registry.hub.docker.com's names are there as they are written, too.
        known = name.replace(HUB, "docker.io") in wanted
        assert row["state"] == ("in store" if known else "not wished"), name
    # One manifest and one config for each image; then nothing, even when all is compared again.
    assert lists.registry.asked() <= 2 * len(wanted)
    for _ in range(2):
        shutil.rmtree(lists.root / "cache/stamps", ignore_errors=True)
        assert lists.sync(kind, "first")[0] == 0
    # A site without outside network takes the cache with it.
    archive, inside = lists.root / "cache.tar", lists.root / "inside"
    succeed("cache", "export", archive)
    succeed("cache", "import", archive, "--cache", inside)
    code, errors, report = lists.sync(kind, "second", "--offline", "--cache", str(inside))
    assert (code, report["failed"], report["synthesised"]) == (0, {}, 0), errors
    there = lists.rows(kind, "second")
    for key in ("id", "manifest"):
        assert {name: row[key] for name, row in there.items()} == {
            name: row[key] for name, row in rows.items()
        }
    assert lists.registry.asked() == 0


def test_what_cannot_be_had_is_named_with_its_reason(lists: Lists) -> None:
    wishes = ducc_lines()
    wanted = fill(lists, "ducc", wishes, DUCC_RECIPE)
    plain = [wish for wish in wishes if "*" not in wish.tag and wish.registry == "quay.io"]
    gone, moved, arm, lost = plain[:4]
    repository = lists.root / "ducc"
    names = {w.line: next(iter(w.expected)) for w in (gone, moved, arm, lost)}
    # The publisher hasn't got to it.
    (repository / names[gone.line]).unlink()
    shutil.rmtree(repository / ".metadata" / names[gone.line])
    # Somebody has pushed another image under the tag.
    lists.registry.push(
        ImageName(moved.registry, moved.repository, moved.tag), describe(["another"])
    )
    # It is for other machines.
    other = describe(["arm"], "arm64")
    name = ImageName(arm.registry, arm.repository, arm.tag)
    lists.registry.push(name, other)
    (repository / names[arm.line]).unlink()
    add_ducc(repository, name, other)
    # Its registry has lost it, and the repository holds too little.
    nobody = describe(["nobody"], Env=["X=1"])
    (repository / names[lost.line]).unlink()
    add_ducc(repository, ImageName(lost.registry, lost.repository, lost.tag), nobody, flat=False)
    code, errors, report = lists.sync("ducc", "first")
    assert code == 7
    assert f"in a wish list but not in the repository: {gone.line}" in errors
    assert report["left_out"] == {names[arm.line]: f"{names[arm.line]} is for arm64, not for amd64"}
    assert list(report["failed"]) == [names[lost.line]]  # type: ignore[call-overload]
    assert "no such blob" in report["failed"][names[lost.line]]  # type: ignore[index]
    rows = lists.rows("ducc", "first")
    assert rows[names[moved.line]]["id"] == wanted[names[moved.line]].image_id
    assert rows[names[moved.line]]["manifest"] == "rebuilt"
    assert rows[names[arm.line]]["state"] == "other architecture"
    done = [n for n, row in rows.items() if row["state"] == "in store" and HUB not in n]
    assert set(done) == set(wanted) - set(names.values()) | {names[moved.line]}


@pytest.mark.parametrize("kind", ["ducc", "osg"])
def test_registries_that_limit_the_rate_or_are_dead(lists: Lists, kind: str) -> None:
    wishes = ducc_lines() if kind == "ducc" else osg_lines()[:150]
    wanted = fill(lists, kind, wishes, DUCC_RECIPE if kind == "ducc" else OSG_LIST)
    limited = {name for name in wanted if name.startswith("docker.io/")}
    assert 0 < len(limited) < len(wanted)
    lists.registry.limited["docker.io"] = 3600
    code, errors, report = lists.sync(kind, "first")
    assert code == 6 and report["failed"] == {}
    assert "names with a made-up config or manifest, since docker.io didn't answer" in errors
    assert "limits the rate of requests (HTTP 429)" in errors
    rows = lists.rows(kind, "first")
    for name, image in wanted.items():
        assert rows[name]["state"] == "in store"
        assert (rows[name]["id"] == image.image_id) == (name not in limited)
        assert rows[name]["config"] == ("synthesised" if name in limited else "genuine")
    assert lists.registry.asked_of_hub() <= 20, "who limits the rate is left alone"
    # It answers again: what was waiting is done, and nothing else is asked for.
    lists.registry.asked()
    lists.registry.limited.clear()
    code, errors, report = lists.sync(kind, "first")
    assert code == 0 and report["synthesised"] == 0, errors
    assert lists.registry.asked() <= 2 * len(limited)
    # Nobody answers at all, and nothing is known yet.
    conf = lists.root / "registries.conf"
    conf.write_text(re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:1", conf.read_text()))
    shutil.rmtree(lists.root / "cache")
    code, errors, report = lists.sync(kind, "second")
    assert code == 6 and report["failed"] == {}
    hosts = {name.partition("/")[0] for name in wanted}
    told = re.findall(r"names? with a made-up config or manifest: ", errors)
    assert len(told) == len(hosts)
    rows = lists.rows(kind, "second")
    assert {rows[name]["state"] for name in wanted} == {"in store"}
    assert {rows[name]["config"] for name in wanted} == {"synthesised"}
