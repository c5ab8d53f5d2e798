# SPDX-License-Identifier: Apache-2.0
"""Layers that images have left stay while a real podman needs them, and then go."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from podman_cvmfs.store.reader import read_store
from tests.support.cli import Target, podman_cvmfs, succeed
from tests.support.images import IMAGES, LAYERS, Built, Image, build, push, renamed
from tests.support.layers import file
from tests.support.podman import Host, Podman, running
from tests.support.registry import Registry

#: The one image that never leaves. It shares no layer with the others.
LAYERS["own-base"] = [*LAYERS["base"], file("opt/own", "stays\n")]
_COMMAND = {"Env": ["PATH=/bin"], "Cmd": ["cat", "/opt/own"]}
STAYS = Image("t/stays:1", ["own-base"], _COMMAND, prints="stays\n")


def built(name: str) -> Built:
    """One image of the table."""
    return build(next(image for image in IMAGES if image.name == name))


class Site:
    """A registry, a repository, a store and a podman. One image, ``STAYS``, is always there."""

    def __init__(self, root: Path, registry: Registry, podman: Podman, target: Target) -> None:
        self.root = root
        self.registry = registry
        self.podman = podman
        self.target = target
        self.publish(build(STAYS))

    def name(self, image: str) -> str:
        return f"{self.registry.address}/{image}"

    def publish(self, image: Built, *options: str) -> str:
        """Publish and sync an image; return its full name."""
        name = push(image, self.registry)
        succeed("publish", f"http://{name}", "--repository", self.target.repository)
        self.target.sync("--offline", *options)
        return name

    def withdraw(self, name: str, *options: str) -> None:
        """Take an image out of the repository as DUCC does at first: only its name goes."""
        (self.target.repository / name).unlink()
        shutil.rmtree(self.target.repository / ".metadata" / name)
        self.target.sync("--offline", *options)

    def prune(self, *options: str) -> dict[str, Any]:
        """Prune; return the report."""
        place = ("--store", self.target.store)
        report = json.loads(succeed("prune", *place, "--format", "json", *options))
        assert isinstance(report, dict)
        return report

    def reasons(self, *options: str) -> set[str]:
        """Why what is retired stays once its grace is over."""
        report = self.prune("--dry-run", "--grace", "0", *options)
        return {reason for each in report["retired"] for reason in each["reasons"]}

    def layers(self) -> set[str]:
        content = read_store(str(self.target.store))
        assert content is not None
        return set(content.layers)

    def works(self) -> None:
        """podman lists, and runs what the store still offers."""
        listed = self.podman.json("images", "--format", "json")
        name = self.name(STAYS.name)
        assert name in [name for each in listed for name in each.get("Names") or []]
        assert self.podman.run("run", "--rm", "--pull=never", name).stdout == STAYS.prints
        self.podman.run("ps", "--all")


@pytest.fixture
def site(
    tmp_path: Path, podman_host: Host, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    target = Target(tmp_path / "repository", tmp_path / "store", tmp_path / "cache")
    options = {"stores": [target.store], "insecure": [registry.address]}
    target.store.mkdir()
    with running(tmp_path / "podman", **options) as podman:
        monkeypatch.setenv("CONTAINERS_STORAGE_CONF", podman.env["CONTAINERS_STORAGE_CONF"])
        yield Site(tmp_path, registry, podman, target)


@pytest.mark.parametrize("view", ["flat", "layers"])
def test_layers_stay_for_containers_of_an_image_that_has_left(site: Site, view: str) -> None:
    before = site.layers()
    name = site.publish(built("t/remade:1"), "--view", view)
    podman = site.podman
    podman.run("create", "--name=stopped", "--pull=never", name)
    podman.run("run", "--detach", "--name=running", "--pull=never", name, "sleep", "1000")
    site.withdraw(name, "--view", view)
    assert podman.run("image", "exists", name, check=False).returncode == 1
    where = f"in {site.podman.graphroot}"
    assert site.reasons() == {f"container running {where}", f"container stopped {where}"}

    site.prune("--grace", "0")
    site.works()
    assert podman.run("exec", "running", "cat", "/var/lib/old/young").stdout == "new\n"
    assert podman.run("start", "--attach", "stopped").stdout == "new\n"
    states = {each["Names"][0]: each["State"] for each in podman.json("ps", "-a", "--format=json")}
    # Which of the two it is depends on whether podman has cleaned up behind it yet.
    assert states.pop("stopped") in ("exited", "stopped")
    assert states == {"running": "running"}
    (inspected,) = podman.json("inspect", "stopped")
    assert inspected["ImageName"] == name
    podman.run("rm", "--force", "--time=0", "running")
    assert site.reasons() == {f"container stopped {where}"}
    site.prune("--grace", "0")
    assert podman.run("start", "--attach", "stopped").stdout == "new\n"

    podman.run("rm", "stopped")
    assert site.prune()["changed"] is False, "within the grace period"
    report = site.prune("--grace", "0")
    assert report["changed"] and not any(each["stays"] for each in report["retired"])
    assert site.layers() == before
    site.works()


def test_a_moved_name_leaves_the_old_image_to_its_containers(site: Site) -> None:
    name = site.publish(built("t/app:1"))
    site.podman.run("create", "--name=old", "--pull=never", name)
    old = site.layers()
    site.publish(renamed(built("t/opaque:1"), "t/app:1"))
    assert site.podman.run("run", "--rm", "--pull=never", name).stdout == "only this\n"
    assert site.layers() > old
    assert site.podman.run("start", "--attach", "old").stdout == built("t/app:1").image.prints
    site.prune("--grace", "0")
    assert site.layers() >= old
    assert site.podman.run("start", "--attach", "old").stdout == built("t/app:1").image.prints
    site.podman.run("rm", "old")
    site.prune("--grace", "0")
    assert not site.layers() >= old
    site.works()
    assert site.podman.run("run", "--rm", "--pull=never", name).stdout == "only this\n"


def test_layers_stay_for_a_pulled_image_that_stands_on_them(site: Site) -> None:
    base = site.publish(built("t/single:1"))
    # A pull leaves out the base: our store has it.
    pulled = push(built("t/delete:1"), site.registry)
    site.podman.run("pull", "--quiet", pulled)
    site.withdraw(base)
    assert site.reasons() == {f"image {pulled} in {site.podman.graphroot}"}
    site.prune("--grace", "0")
    assert site.podman.run("run", "--rm", "--pull=never", pulled).stdout == "changed\n"
    site.works()
    site.podman.run("rmi", pulled)
    before = site.layers()
    site.prune("--grace", "0")
    assert site.layers() < before
    site.works()


def test_layers_stay_for_images_that_users_made_of_ours(site: Site, tmp_path: Path) -> None:
    # podman can't build on the flat view of an image with several layers.
    name = site.publish(built("t/opaque:1"), "--view", "layers")
    context = tmp_path / "context"
    context.mkdir()
    (context / "Containerfile").write_text(f"FROM {name}\nCOPY mine /mine\nCMD cat /mine\n")
    (context / "mine").write_text("built\n")
    site.podman.run("build", "--quiet", "--pull=never", "--tag=localhost/mine", str(context))
    site.podman.run("tag", name, "localhost/tagged:1")
    site.withdraw(name, "--view", "layers")
    where = f"in {site.podman.graphroot}"
    mine, tagged = f"image localhost/mine:latest {where}", f"image localhost/tagged:1 {where}"
    assert {mine, tagged} <= site.reasons()
    site.prune("--grace", "0")
    assert site.podman.run("run", "--rm", "localhost/mine").stdout == "built\n"
    # The record that a tag makes in the user's storage reads its documents from ours.
    assert site.podman.run("run", "--rm", "localhost/tagged:1").stdout == "only this\n"
    site.podman.run("rmi", "--all", "--force", check=False)
    before = site.layers()
    assert site.reasons() == set()
    site.prune("--grace", "0")
    assert site.layers() < before
    site.works()


def test_a_vanished_merged_root_goes_before_its_time(site: Site) -> None:
    name = site.publish(built("t/remade:1"))
    site.podman.run("create", "--name=keeper", "--pull=never", name)
    flat = (site.target.repository / name).resolve()
    site.withdraw(name)
    shutil.rmtree(flat)
    report = site.prune()
    (gone,) = (each for each in report["retired"] if each["vanished"])
    assert gone["reasons"] == [f"container keeper in {site.podman.graphroot}"]
    site.podman.run("rm", "keeper")
    report = site.prune()
    going = [each for each in report["retired"] if not each["stays"]]
    assert [each["kind"] for each in going] == ["image", "layer"]
    assert going[1]["name"] == gone["name"]
    assert gone["name"] not in site.layers()
    site.works()


# ---------------------------------------------------------------------- one layer, shown otherwise


def without_root(site: Site, image: Built) -> str:
    """Publish an image that has no merged root, as where DUCC couldn't make one; and sync."""
    name = push(image, site.registry)
    succeed("publish", f"http://{name}", "--repository", site.target.repository)
    link = site.target.repository / name
    shutil.rmtree(link.resolve())
    link.unlink()
    site.target.sync("--offline")
    return name


def form(site: Site, name: str) -> tuple[str, bool]:
    """The ID of an image's top layer, and whether that shows a merged root."""
    content = read_store(str(site.target.store))
    assert content is not None
    top = content.images[content.names[name]].top_layer
    assert top is not None
    return top, content.layers[top].merged


_LOOK = ("sh", "-c", "cd / && find opt usr/share var/lib | sort | xargs ls -d")


def test_what_stands_on_a_merged_root_goes_on_when_the_layer_lies_below_another(
    site: Site,
) -> None:
    """Pulls may take the layer by itself from then on."""
    podman = site.podman
    name = site.publish(built("t/turned:1"), "--reuse", "all")
    top, merged = form(site, name)
    assert merged
    pulled = push(built("t/turned:2"), site.registry)
    podman.run("pull", "--quiet", pulled)
    said = podman.run("run", "--rm", "--pull=never", pulled, *_LOOK).stdout
    ours = podman.run("run", "--rm", "--pull=never", name, *_LOOK).stdout
    podman.run("create", "--name=ours", "--pull=never", name, *_LOOK)
    podman.run("create", "--name=theirs", "--pull=never", pulled, *_LOOK)
    site.publish(built("t/turned:2"), "--reuse", "all")
    assert form(site, name) == (top, True)
    for when in ("at once", "past the grace"):
        assert podman.run("start", "--attach", "ours").stdout == ours, when
        assert podman.run("start", "--attach", "theirs").stdout == said, when
        assert podman.run("run", "--rm", "--pull=never", pulled, *_LOOK).stdout == said, when
        assert podman.run("run", "--rm", "--pull=never", name, *_LOOK).stdout == ours, when
        site.prune("--grace", "0")


def test_what_stands_on_layers_goes_on_when_one_becomes_the_top_of_another_image(
    site: Site,
) -> None:
    """That image has a merged root, of which what stands on the layer knows nothing."""
    podman = site.podman
    name = without_root(site, built("t/remade:1"))
    podman.run("create", "--name=stopped", "--pull=never", name, *_LOOK)
    said = podman.run("run", "--rm", "--pull=never", name, *_LOOK).stdout
    shutil.rmtree(site.target.repository / ".metadata" / name)
    other = site.publish(built("t/delete:1"))
    assert form(site, other)[1]
    site.prune("--grace", "0")
    assert podman.run("start", "--attach", "stopped").stdout == said
    assert podman.run("run", "--rm", "--pull=never", other).stdout == "changed\n"


@pytest.mark.parametrize("views", [("flat", "layers"), ("layers", "flat")])
def test_what_stands_on_an_image_goes_on_when_it_is_shown_otherwise(
    site: Site, views: tuple[str, str]
) -> None:
    podman = site.podman
    name = site.publish(built("t/delete:1"), "--view", views[0])
    top = form(site, name)
    podman.run("create", "--name=stopped", "--pull=never", name, *_LOOK)
    said = podman.run("run", "--rm", "--pull=never", name, *_LOOK).stdout
    site.target.sync("--offline", "--view", views[1])
    otherwise = form(site, name)
    assert otherwise[0] != top[0] and otherwise[1] != top[1]
    site.prune("--grace", "0")
    assert podman.run("start", "--attach", "stopped").stdout == said
    assert podman.run("run", "--rm", "--pull=never", name, *_LOOK).stdout == said
    succeed("verify", "--store", site.target.store)


def test_what_stands_on_a_layer_goes_on_after_another_policy(site: Site) -> None:
    """The layer is the top of an image that is shown by its merged root from then on."""
    podman = site.podman
    by_layers = ("--view", "layers", "--reuse", "none")
    name = site.publish(built("t/remade:1"), *by_layers)
    other = site.publish(built("t/delete:1"), *by_layers)
    podman.run("tag", name, "localhost/tagged:1")
    podman.run("create", "--name=stopped", "--pull=never", name, *_LOOK)
    said = podman.run("run", "--rm", "--pull=never", name, *_LOOK).stdout
    site.withdraw(name, *by_layers)
    site.target.sync("--offline", "--view", "flat", "--reuse", "none")
    assert form(site, other)[1]
    for container in (True, False):
        succeed("verify", "--store", site.target.store)
        site.prune("--grace", "0")
        if container:
            assert podman.run("start", "--attach", "stopped").stdout == said
            podman.run("rm", "stopped")
        # Of what is tagged there is no layer that names those below, as a container's does.
        assert podman.run("run", "--rm", "localhost/tagged:1", *_LOOK).stdout == said
        assert podman.run("run", "--rm", "--pull=never", other).stdout == "changed\n"
    succeed("verify", "--store", site.target.store)


def test_what_stands_on_layers_goes_on_when_the_merged_root_comes_later(site: Site) -> None:
    podman = site.podman
    name = push(built("t/delete:1"), site.registry)
    succeed("publish", f"http://{name}", "--repository", site.target.repository)
    link = site.target.repository / name
    flat, target = link.resolve(), link.readlink()
    link.unlink()
    flat.rename(site.target.repository / "later")
    site.target.sync("--offline")
    podman.run("create", "--name=stopped", "--pull=never", name, *_LOOK)
    said = podman.run("run", "--rm", "--pull=never", name, *_LOOK).stdout
    assert not form(site, name)[1]
    (site.target.repository / "later").rename(flat)
    link.symlink_to(target)
    site.target.sync("--offline")
    assert form(site, name)[1]
    site.prune("--grace", "0")
    assert podman.run("start", "--attach", "stopped").stdout == said
    assert podman.run("run", "--rm", "--pull=never", name, *_LOOK).stdout == said
    succeed("verify", "--store", site.target.store)


def test_who_keeps_layers_of_a_hidden_repository_is_told(site: Site) -> None:
    podman, target = site.podman, site.target
    name = site.publish(built("t/delete:1"))
    podman.run("create", "--name=stopped", "--pull=never", name)
    target.repository.rename(target.repository.with_name("away"))
    hide = target.argv("--offline", "--on-outage=hide")
    said = podman_cvmfs(*hide).stderr
    where = f"container stopped in {podman.graphroot}"
    assert f"layers of {target.repository} stay in the store" in said and where in said
    assert podman.run("run", "--rm", name, check=False).returncode != 0, "what was told"
    podman.run("rm", "stopped")
    podman.run("rmi", "--force", name, check=False)
    assert "stay in the store" not in podman_cvmfs(*hide).stderr
    assert podman.run("run", "--rm", name).stdout == "changed\n"


def test_a_graphroot_that_only_the_settings_name(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """podman is told of it by an environment variable, and prune isn't."""
    name = site.publish(built("t/remade:1"))
    site.podman.run("create", "--name=stopped", "--pull=never", name)
    site.withdraw(name)
    monkeypatch.delenv("CONTAINERS_STORAGE_CONF")
    assert site.reasons() == set()
    settings = site.root / "config.toml"
    monkeypatch.setenv("PODMAN_CVMFS_CONFIG", str(settings))
    settings.write_text(f'graphroots = ["{site.podman.root.parent}/$USER/graph"]\n')
    assert site.reasons() == {f"container stopped in {site.podman.graphroot}"}
    assert not site.prune("--grace", "0")["changed"]
    assert site.podman.run("start", "--attach", "stopped").stdout == "new\n"
    # Its file system isn't mounted: what uses layers there isn't known.
    settings.write_text(f'graphroots = ["{site.root}/not-there/%u"]\n')
    assert not site.prune("--grace", "0")["changed"]
    assert site.reasons() == {f"{site.root}/not-there/%u can't be read"}
    settings.write_text('grace_days = "never"\n')
    assert not site.prune()["changed"]
    site.podman.run("rm", "stopped")
    assert site.prune("--grace", "0")["changed"]
