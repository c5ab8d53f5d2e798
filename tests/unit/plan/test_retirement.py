# SPDX-License-Identifier: Apache-2.0
"""Layers that stay in a store when images leave it, and the time they stay."""

from __future__ import annotations

from dataclasses import replace

import pytest

from podman_cvmfs.names.reference import parse_repository_path
from podman_cvmfs.plan.lay_out import view_of
from podman_cvmfs.plan.layers import freed_images, orphaned_views
from podman_cvmfs.plan.make import make_plan, storable_image
from podman_cvmfs.plan.retirement import GRACE, Retention, is_retired, retired_since
from podman_cvmfs.settings.policy import DEFAULT_POLICY
from podman_cvmfs.store.layout import SPACER_ID, piece_of_entry
from podman_cvmfs.store.records import StoreContent, StoredLayer, layers_of
from tests.support.resolved import image, plan


def test_a_removed_image_leaves_its_layers_for_the_grace_period() -> None:
    wanted = {"r/x:1": image("1", "ab"), "r/y:1": image("2", "cd")}
    first = plan(StoreContent(), wanted).content
    del wanted["r/x:1"]
    second = plan(first, wanted, new="none", now=2000)
    assert second.removed == ("r/x:1",)
    assert sum(not is_retired(each) for each in second.content.images.values()) == 1
    assert plan(second.content, wanted, new="none", now=2000).content == second.content
    retired = {layer.layer_id: layer.retired for layer in second.content.layers.values()}
    assert set(retired) == set(first.layers)
    gone = layers_of_image(first, "r/x:1")
    assert len(gone) == 2
    assert {layer_id for layer_id, since in retired.items() if since == 2000} == gone
    assert list(second.content.retired_entries.values()) == [2000]  # the image's own files
    assert not set(map(piece_of_entry, second.content.retired_entries)) - {None}, "still mounted"
    unchanged = plan(second.content, wanted, new="none", now=2000 + GRACE - 1).content
    assert unchanged == second.content
    last = plan(second.content, wanted, new="none", now=2000 + GRACE).content
    assert set(last.layers) == set(first.layers) - gone
    assert not last.retired_entries
    assert last.pieces() < first.pieces()


def test_grace_and_what_is_needed_beyond_it() -> None:
    wanted = {"r/x:1": image("1", "ab"), "r/y:1": image("2", "cd")}
    first = plan(StoreContent(), wanted).content
    top = first.images[first.names["r/x:1"]].top_layer
    assert top is not None
    names = {parse_repository_path("r/y:1"): wanted["r/y:1"].source_id.hex}

    def layers_after(grace: int, needed: tuple[str, ...] = ()) -> int:
        retention = Retention(2000, grace, needed)
        return len(make_plan(first, names, {}, first.policy, retention).content.layers)

    assert layers_after(1) == 4
    assert layers_after(0) == 2
    assert layers_after(0, (top,)) == 4, "with its base"
    assert layers_after(0, ("0" * 64,)) == 2


@pytest.mark.parametrize(
    ("since", "now", "expected"),
    [
        (None, 2_000_000_000, 2_000_000_000),
        (1_900_000_000, 2_000_000_000, 1_900_000_000),
        (2_000_000_001, 2_000_000_000, 2_000_000_000),
        (0, 2_000_000_000, 2_000_000_000),
        (5, 10, 5),
    ],
)
def test_times_that_cannot_be_right(since: int | None, now: int, expected: int) -> None:
    assert retired_since(since, now) == expected


def layers_of_image(content: StoreContent, name: str) -> set[str]:
    """The IDs of the layers that the image of that name has."""
    image_of = content.images[content.names[name]]
    return {layer.layer_id for layer in layers_of(content, image_of)}


def test_a_piece_outlives_its_layers_only_for_what_still_names_it() -> None:
    """A container made on a layer that has been laid out otherwise since names its old pieces."""
    one = image("1", "ab", flat=False)
    first = plan(StoreContent(), {"r/x:1": one}, now=1000).content
    base = one.layers[0].layer_id
    moved = replace(one, layers=tuple(replace(e, files=f"/s{e.files}") for e in one.layers))
    names = {parse_repository_path("r/x:1"): one.source_id.hex}
    storable = {one.source_id.hex: storable_image(moved, view_of(moved, DEFAULT_POLICY), "/s/r")}

    def after(now: int, needed: tuple[str, ...] = ()) -> StoreContent:
        retention = Retention(now, needed=needed)
        return make_plan(second, names, {}, str(DEFAULT_POLICY), retention).content

    second = make_plan(
        first, names, storable, str(DEFAULT_POLICY), Retention(2000), gone={"/r"}
    ).content
    old = set(first.layers[base].lowers or ()) - set(second.layers[base].lowers or ())
    assert old and old <= second.pieces()
    assert old <= after(2000 + GRACE - 1).pieces()
    assert old.isdisjoint(after(2000 + GRACE).pieces())
    assert old <= after(2000 + GRACE, tuple(old)).pieces()


def test_an_image_that_leaves_takes_only_its_own_top_along() -> None:
    """Two configs over the same layers, each with a merged root of its own."""
    one, two = image("1", "ab"), image("2", "ab")
    first = plan(StoreContent(), {"r/x:1": one, "r/x:2": two}).content
    assert len({stored.top_layer for stored in first.images.values()}) == 2
    assert not orphaned_views(first, {one.source_id.hex})
    second = plan(first, {"r/x:2": two}, new="none", now=2000).content
    assert layers_of_image(second, "r/x:2") == layers_of_image(first, "r/x:2")
    assert all(second.layers[each].retired is None for each in layers_of_image(second, "r/x:2"))


def test_a_layer_of_layout_4_stays_as_it_is_while_something_stands_on_it() -> None:
    """What stands on it names its directory, and podman 6 its ID."""
    one = image("1", "ab")
    base, chain_top = (layer.layer_id for layer in one.layers)
    old_base = StoredLayer(
        base,
        f"{base}-{'0' * 16}",
        None,
        100,
        diff_id=one.layers[0].diff_id,
        blob=one.layers[0].blob.digest,
        blob_size=10,
        compression=2,
        repository="/r",
        lowers=None,
    )
    old_top = StoredLayer(
        chain_top,
        f"{chain_top}-{'1' * 16}",
        base,
        100,
        shows=one.source_id.hex,
        merged=True,
        alone=True,
        repository="/r",
        lowers=None,
    )
    spacer = StoredLayer(SPACER_ID, f"{SPACER_ID}-{'2' * 16}", None, 0, lowers=None)
    layers = {each.layer_id: each for each in (old_base, old_top, spacer)}
    made = storable_image(one, view_of(one, DEFAULT_POLICY), "/r")
    stored = replace(made.stored, top_layer=chain_top, published=("r/x:1",))
    old = StoreContent(
        "4 auto base kernel", {stored.image_id: stored}, layers, {"r/x:1": stored.image_id}
    )
    names = {parse_repository_path("r/x:1"): one.source_id.hex}
    storable = {one.source_id.hex: made}

    def laid_out(needed: tuple[str, ...], now: int = 2000) -> StoreContent:
        retention = Retention(now, needed=needed)
        return make_plan(old, names, storable, str(DEFAULT_POLICY), retention).content

    first = laid_out(())
    assert first.layers[base] == replace(
        old_base, retired=2000, diff_id=one.layers[0].diff_id, blob=one.layers[0].blob.digest,
        blob_size=10, compression=2,
    ), "pulls find it as it is"  # fmt: skip
    assert first.layers[chain_top].entry == old_top.entry
    assert {first.layers[each].retired for each in (chain_top, SPACER_ID)} == {2000}
    top = first.layers[first.images[stored.image_id].top_layer or ""]
    assert top.lowers and top.parent == base and top.layer_id != chain_top
    source = {one.source_id.hex}

    def later(now: int, needed: tuple[str, ...] = ()) -> tuple[set[str], StoreContent]:
        retention = Retention(now, needed=needed)
        freed = freed_images(first, source, retention)
        found = {key: each for key, each in storable.items() if key in freed}
        return freed, make_plan(first, names, found, first.policy, retention).content

    assert later(2000 + GRACE - 1) == (set(), first)
    freed, content = later(2000 + GRACE, (base,))
    assert not freed and content.layers[base] == first.layers[base]
    assert chain_top not in content.layers
    freed, content = later(2000 + GRACE)
    assert freed == source and content.layers[base].lowers
    assert {layer.lowers is None for layer in content.layers.values()} == {False}
