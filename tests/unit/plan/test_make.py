# SPDX-License-Identifier: Apache-2.0
"""Plans for stores: pure functions, so plain tables."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from podman_cvmfs.names.reference import ImageName, assign_names, parse_repository_path
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.plan.make import make_plan
from podman_cvmfs.plan.retirement import Retention, is_retired
from podman_cvmfs.store.json_files import images_json, layers_json
from podman_cvmfs.store.records import StoreContent
from tests.support.resolved import HUB, image, plan


def test_layers_json_lists_parents_first() -> None:
    content = plan(
        StoreContent(), {f"r/x:{n}": image(str(n), f"{n}{n + 1}{n}") for n in range(6)}
    ).content
    seen: set[str | None] = {None}
    for record in json.loads(layers_json(content)):
        assert record.get("parent") in seen
        seen.add(record["id"])
    assert seen == {None, *content.layers}


@pytest.mark.parametrize(
    ("published", "expected"),
    [
        ([("quay.io/a:1", "A")], {"quay.io/a:1": "A"}),
        ([(f"{HUB}/a:1", "A")], {"docker.io/library/a:1": "A", f"{HUB}/a:1": "A"}),
        (
            [(f"{HUB}/a:1", "A"), ("docker.io/library/a:1", "B")],
            {"docker.io/library/a:1": "B", f"{HUB}/a:1": "A"},
        ),
        (
            [(f"{HUB}/a:1", "A"), ("registry-1.docker.io/library/a:1", "B")],
            {
                "docker.io/library/a:1": "A",
                f"{HUB}/a:1": "A",
                "registry-1.docker.io/library/a:1": "B",
            },
        ),
    ],
)
def test_every_name_has_one_image(
    published: list[tuple[str, str]], expected: dict[str, str]
) -> None:
    pairs = [(parse_repository_path(path), image_id) for path, image_id in published]
    assert assign_names(pairs) == expected


def test_one_image_under_many_names() -> None:
    one = image("1", "ab")
    content = plan(StoreContent(), {"r/x:1": one, "r/y:2": one, f"{HUB}/z:3": one}).content
    (record,) = json.loads(images_json(content))
    assert record["names"] == ["docker.io/library/z:3", "r/x:1", "r/y:2", f"{HUB}/z:3"]


def test_the_same_wishes_give_the_same_content() -> None:
    wanted = {"r/x:1": image("1", "ab"), "r/y:1": image("2", "c")}
    first = plan(StoreContent(), wanted)
    again = plan(first.content, wanted, new="none", now=2000)
    assert again.content == first.content
    assert not (again.layers or again.images or again.added or again.removed or again.moved)
    assert plan(first.content, wanted, now=2000).content == first.content


def test_an_image_that_comes_back_takes_its_layers_up_again() -> None:
    both = {"r/x:1": image("1", "ab"), "r/y:1": image("2", "cd")}
    first = plan(StoreContent(), both).content
    second = plan(first, {"r/y:1": both["r/y:1"]}, new="none", now=2000).content
    third = plan(second, both, now=3000)
    assert third.content.layers == first.layers
    assert third.added == ("r/x:1",)


def test_a_moved_name() -> None:
    first = plan(StoreContent(), {"r/x:1": image("1", "ab")}).content
    second = plan(first, {"r/x:1": image("2", "ac")}, now=2000)
    assert second.moved == ("r/x:1",)
    assert not (second.added or second.removed)
    assert sum(not is_retired(each) for each in second.content.images.values()) == 1


def test_a_wanted_image_that_was_never_resolved_has_no_name() -> None:
    one = image("1", "ab")
    result = make_plan(
        StoreContent(), {ImageName("r", "x", "1"): one.source_id.hex}, {}, "p", Retention(1)
    )
    assert not result.content.names and not result.content.images


def test_two_sources_with_one_synthesised_config_are_one_image() -> None:
    one = image("1", "ab")
    other = replace(one, source_id=Digest("e" * 64))
    content = plan(StoreContent(), {"r/x:1": one, "r/x:2": other}).content
    assert len(content.images) == 1
    assert set(content.names) == {"r/x:1", "r/x:2"}
