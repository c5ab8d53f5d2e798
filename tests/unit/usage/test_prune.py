# SPDX-License-Identifier: Apache-2.0
"""What a prune removes, what it keeps, and what it says about both."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from podman_cvmfs.errors import InputError, StoreError
from podman_cvmfs.names.reference import parse_repository_path
from podman_cvmfs.plan.lay_out import view_of
from podman_cvmfs.plan.make import make_plan, storable_image
from podman_cvmfs.plan.retirement import GRACE, NEVER, Retention, is_retired, retired_name
from podman_cvmfs.resolve.image import FlatRoot, ResolvedImage
from podman_cvmfs.settings.policy import Policy, View
from podman_cvmfs.store.layout import link_name, lower_of
from podman_cvmfs.store.reader import read_store
from podman_cvmfs.store.records import StoreContent
from podman_cvmfs.store.store import Store
from podman_cvmfs.usage import graphroots as graphroots_module
from podman_cvmfs.usage.graphroots import Graphroots
from podman_cvmfs.usage.needs import needed_layers
from podman_cvmfs.usage.prune import PruneReport, prune
from tests.support.cli import podman_cvmfs
from tests.support.resolved import image
from tests.support.trees import snapshot

START = 1_800_000_000
DAY = 24 * 3600


class Site:
    """A repository, a store and one graphroot below one directory."""

    def __init__(self, root: Path) -> None:
        self.repository = root / "repository"
        self.graphroot = root / "graph"
        self.store = Store(str(root / "store"))
        self.graphroots = Graphroots(own=[str(self.graphroot)])
        self._tops: dict[str, str] = {}
        for kind in ("containers", "images", "layers"):
            (self.graphroot / f"overlay-{kind}").mkdir(parents=True)

    def image(self, letters: str) -> ResolvedImage:
        """An image of one layer a letter; its files are in the repository."""
        found = image(letters, letters)
        layers = []
        for letter, layer in zip(letters, found.layers):
            files = self.repository / ".layers" / letter
            files.mkdir(parents=True, exist_ok=True)
            layers.append(replace(layer, files=str(files)))
        flat = self.repository / ".flat" / letters
        flat.mkdir(parents=True, exist_ok=True)
        return replace(found, layers=tuple(layers), flat=FlatRoot(str(flat), ()))

    def top(self, letters: str) -> str:
        """The ID of the layer by which the image of these layers is shown."""
        if letters not in self._tops:
            view = view_of(self.image(letters), Policy())
            self._tops[letters] = view.layers[-1][0].layer_id
        return self._tops[letters]

    def sync(self, *wanted: str, now: int = START, view: View = View.AUTO) -> None:
        """Make the store hold just these images, each given by its layers."""
        images = [self.image(letters) for letters in wanted]
        storable = {
            each.source_id.hex: storable_image(each, view_of(each, Policy(view=view)), "/r")
            for each in images
        }
        names = {
            parse_repository_path(f"r/{letters}:1"): each.source_id.hex
            for letters, each in zip(wanted, images)
        }
        with self.store.opened() as current:
            plan = make_plan(current, names, storable, str(view), Retention(now))
            self.store.replace(plan.content, plan.layers, plan.images, plan.pieces)

    @property
    def layers(self) -> set[str]:
        """The IDs of the layers that the store has of images."""
        return set(self.content.layers)

    def use(self, **containers: str) -> None:
        """Have the graphroot hold these containers: name -> layer below."""
        for kind, records in (
            ("containers", [{"id": n, "names": [n], "layer": f"rw-{n}"} for n in containers]),
            ("layers", [{"id": f"rw-{n}", "parent": below} for n, below in containers.items()]),
        ):
            path = self.graphroot / f"overlay-{kind}/{kind}.json"
            path.write_text(json.dumps(records))

    def prune(
        self, now: int, grace: int = GRACE, dry_run: bool = False, named: Sequence[str] = ()
    ) -> PruneReport:
        return prune(self.store, grace, named, dry_run, now)

    @property
    def content(self) -> StoreContent:
        found = read_store(self.store.path)
        assert found is not None
        return found


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    site = Site(tmp_path)
    monkeypatch.setattr(graphroots_module, "find_graphroots", lambda named, **_: site.graphroots)
    return site


def said(report: PruneReport) -> dict[str, tuple[str, ...]]:
    return {each.name: each.reasons for each in report.verdicts if each.kind == "layer"}


def test_grace_then_gone(site: Site) -> None:
    site.sync("ab", "cd")
    site.sync("ab", now=START + DAY)
    before = snapshot(Path(site.store.path))
    report = site.prune(START + 2 * DAY)
    assert not report.changed and snapshot(Path(site.store.path)) == before
    assert set(said(report)) == {site.top("c"), site.top("cd")}
    assert {reason[:12] for reasons in said(report).values() for reason in reasons} == {
        "grace until "
    }
    report = site.prune(START + DAY + GRACE)
    assert report.changed and not any(each.stays for each in report.verdicts)
    assert site.layers == {site.top("a"), site.top("ab")}
    assert not site.content.retired_entries
    left = {each for layer in site.content.layers.values() for each in layer.lowers or ()}
    assert len(os.listdir(f"{site.store.path}/pool/layers")) == 2 + len(left)
    assert site.prune(START + 99 * DAY).verdicts == []


def test_a_dry_run_says_the_same_and_changes_nothing(site: Site) -> None:
    site.sync("ab", "cd", "cde")
    site.sync("ab")
    site.use(web=site.top("cd"))
    before = snapshot(Path(site.store.path))
    dry = site.prune(START + GRACE, dry_run=True)
    assert snapshot(Path(site.store.path)) == before and not dry.changed
    assert site.prune(START + GRACE).verdicts == dry.verdicts
    by_container = (f"container web in {site.graphroot}",)
    assert {name: reasons for name, reasons in said(dry).items() if reasons} == {
        site.top("c"): by_container,
        site.top("cd"): by_container,
    }


def test_a_base_stays_for_a_child_within_its_grace(site: Site) -> None:
    site.sync("ab", "a")
    site.sync("ab", "x")
    site.sync("x", now=START + DAY)
    site.use()
    with site.store.opened() as current:
        layers = dict(current.layers)
        layers[site.top("a")] = replace(layers[site.top("a")], retired=START)
        site.store.replace(replace(current, layers=layers), (), ())
    report = site.prune(START + GRACE)
    assert said(report)[site.top("a")] == (f"layer {site.top('ab')[:12]} needs it",)
    assert site.top("a") in site.content.layers
    site.prune(START + DAY + GRACE)
    assert site.layers == {site.top("x")}


def test_what_listed_images_need_is_never_touched(site: Site) -> None:
    site.sync("ab", "abc")
    site.sync("ab")
    site.prune(START, grace=0)
    assert site.layers == {site.top("a"), site.top("ab")}
    assert len(site.content.images) == 1


def test_superseded_entries_stay_while_their_layer_is_used(site: Site) -> None:
    site.sync("ab", "x")
    entry, pieces = site.content.layers[site.top("a")].entry, site.content.pieces()
    first = site.top("ab")
    site.repository = site.repository.with_name("another")
    site.sync("ab", "x")
    assert entry in site.content.retired_entries and pieces < site.content.pieces()
    site.use(web=first)
    report = site.prune(START + GRACE)
    kinds = {each.kind: each.name for each in report.verdicts if each.stays}
    assert kinds == {"layer": first, "entry": entry}
    assert os.path.isdir(f"{site.store.path}/pool/layers/{entry}")
    site.use()
    site.prune(START + GRACE)
    assert not os.path.exists(f"{site.store.path}/pool/layers/{entry}")
    assert len(os.listdir(f"{site.store.path}/pool/layers")) == len(site.layers) + len(
        site.content.pieces()
    )


def test_pieces_stay_for_whoever_still_mounts_them(site: Site) -> None:
    """What was made on a layer names for ever the pieces that it mounted then."""
    site.sync("ab", "x")
    base = site.content.layers[site.top("a")]
    old = set(base.lowers or ())
    site.repository = site.repository.with_name("another")
    site.sync("ab", "x")
    layer = site.graphroot / "overlay/rw-web"
    layer.mkdir(parents=True)
    (layer / "lower").write_text(":".join(["l/" + base.link, *lower_of(old).split(":")]))
    site.use(web=base.layer_id)
    site.prune(START + GRACE)
    assert old <= site.content.pieces()
    overlay = Path(site.store.path) / "overlay"
    for piece in old:
        assert (overlay / piece / "diff").is_dir()
        assert os.readlink(overlay / "l" / link_name(piece)) == f"../{piece}/diff"
    shutil.rmtree(layer)
    site.use()
    site.prune(START + GRACE)
    unshared = {each for each in old if not (overlay / each).exists()}
    assert unshared and unshared.isdisjoint(site.content.pieces())


def test_a_broken_graphroot_of_ours_keeps_everything_another_s_is_told(site: Site) -> None:
    site.sync("ab", "cd")
    site.sync("ab")
    (site.graphroot / "overlay-containers/containers.json").write_text("[")
    before = site.layers
    report = site.prune(START, grace=0)
    assert site.layers == before
    assert set(report.unreadable) == {str(site.graphroot)}
    assert set(said(report).values()) == {(f"{site.graphroot} can't be read",)}
    site.graphroots = Graphroots(others=[str(site.graphroot)])
    report = site.prune(START, grace=0)
    assert set(report.unreadable) == {str(site.graphroot)}
    assert site.layers == {site.top("a"), site.top("ab")}


def test_a_storage_conf_that_cannot_be_read_keeps_everything(site: Site) -> None:
    site.sync("ab", "cd")
    site.sync("ab")
    site.graphroots = Graphroots(unseen={"/etc/x.conf": "bad"}, own_unseen=("/etc/x.conf",))
    site.prune(START + GRACE)
    assert site.top("cd") in site.content.layers


def test_vanished_files(site: Site) -> None:
    site.sync("ab", "cd", "ef")
    site.sync("ab")
    site.use(web=site.top("cd"))
    shutil.rmtree(site.repository / ".flat/cd")
    report = site.prune(START)
    assert not report.changed
    assert {each.name for each in report.verdicts if each.vanished} == {site.top("cd")}
    site.use()
    report = site.prune(START)
    assert said(report)[site.top("cd")] == ()
    assert site.layers == {site.top(each) for each in ("a", "ab", "c", "e", "ef")}


@pytest.mark.parametrize("how", ["absent", "empty", "no trees"])
def test_a_repository_that_is_not_there_proves_nothing(site: Site, how: str) -> None:
    site.sync("ab", "cd")
    site.sync("ab")
    shutil.rmtree(site.repository)
    if how != "absent":
        site.repository.mkdir()
    if how == "no trees":
        (site.repository / ".flat").mkdir()
    report = site.prune(START)
    assert not report.changed and not any(each.vanished for each in report.verdicts)


@pytest.mark.parametrize("told", [START + 1000 * DAY, 0, 12345])
def test_a_time_that_cannot_be_right_neither_keeps_for_ever_nor_removes_at_once(
    site: Site, told: int
) -> None:
    site.sync("ab", "cd")
    site.sync("ab", now=told)
    site.prune(START)
    assert site.top("cd") in site.content.layers
    assert site.content.layers[site.top("cd")].retired == START
    assert set(site.content.retired_entries.values()) == {START}
    site.prune(START + GRACE - 1)
    assert site.top("cd") in site.content.layers
    site.prune(START + GRACE)
    assert site.top("cd") not in site.content.layers and not site.content.retired_entries


def test_needed_layers_looks_only_when_something_is_due(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.sync("ab", "cd")
    site.sync("ab")
    site.use(web=site.top("cd"))
    needed = needed_layers(site.content, START + GRACE)
    assert set(needed) == {site.top("c"), site.top("cd")}
    assert set(needed_layers(site.content, START, grace=0)) == {site.top("c"), site.top("cd")}
    monkeypatch.setattr(graphroots_module, "find_graphroots", None)
    assert not needed_layers(site.content, START + GRACE - 1)


def test_retired_images_stay_for_their_containers(site: Site) -> None:
    site.sync("ab", "cd")
    with site.store.opened() as current:
        images = {
            key: replace(each, published=() if each.top_layer == site.top("cd") else each.published)
            for key, each in current.images.items()
        }
        (entry,) = (each.entry for each in images.values() if is_retired(each))
        names = {name: key for name, key in current.names.items() if not is_retired(images[key])}
        names.update((retired_name(key), key) for key in images if is_retired(images[key]))
        content = replace(current, images=images, names=names, retired_entries={entry: START})
        site.store.replace(content, (), ())
    site.use(web=site.top("cd"))
    site.prune(START + GRACE)
    assert len(site.content.images) == 2 and site.content.retired_entries == {entry: START}
    assert sum(name.startswith("retired.") for name in site.content.names) == 1
    site.use()
    (verdict,) = [e for e in site.prune(START + GRACE).verdicts if e.kind == "image"]
    assert not verdict.stays
    assert len(site.content.images) == 1 and not site.content.retired_entries
    assert len(site.content.names) == 1


def test_there_must_be_a_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store"):
        prune(Store(str(tmp_path / "none")))
    assert not (tmp_path / "none").exists()


def test_a_named_graphroot_must_be_there(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.sync("ab")
    with pytest.raises(InputError, match="no graphroot"):
        site.prune(START, named=[str(tmp_path)])


def test_the_command(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.sync("ab", "cd")
    site.sync("ab")
    site.use(**{f"web{number}": site.top("cd") for number in range(5)})
    options = ("prune", "--store", site.store.path, "--graphroot", site.graphroot, "--grace", "0")
    done = podman_cvmfs(*options, "--dry-run")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert any(
        line.startswith(f"layer {site.top('cd')[:12]}: kept: container web0") for line in lines
    )
    assert any(line.endswith(", and 2 more") for line in lines)
    assert any(line.startswith("image ") and "web4" not in line for line in lines)
    report = json.loads(podman_cvmfs(*options, "--format", "json").stdout)
    assert report["changed"] and str(site.graphroot) in report["graphroots"]
    assert len(site.layers) == 4
    site.use()
    assert podman_cvmfs(*options).returncode == 0
    assert len(site.layers) == 2
    assert podman_cvmfs("prune", "--store", tmp_path / "none").returncode == 5
    assert podman_cvmfs(*options, "--grace", "-1").returncode == 2


def test_a_grace_that_never_ends(site: Site) -> None:
    """Users on other machines can't be seen: not even layers without files leave."""
    site.sync("ab", "cd")
    site.sync("ab")
    shutil.rmtree(site.repository / ".flat/cd")
    later = START + 100 * 365 * DAY
    report = site.prune(later, grace=NEVER)
    assert not report.changed and said(report)[site.top("cd")] == ('grace_days is "never"',)
    report = site.prune(later, grace=0)
    assert report.changed and site.top("cd") not in site.content.layers
