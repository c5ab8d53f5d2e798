# SPDX-License-Identifier: Apache-2.0
"""Whatever repositories offer and however it changes, every name leads to one image.

containers/storage refuses a whole store for one name on two images, so this must hold for the very
bytes that podman reads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from podman_cvmfs.names.reference import ImageName, parse_repository_path, podman_names
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.plan.lay_out import view_of
from podman_cvmfs.plan.make import make_plan, storable_image
from podman_cvmfs.plan.retirement import GRACE, Retention, is_retired
from podman_cvmfs.resolve.image import ResolvedImage
from podman_cvmfs.settings.policy import DEFAULT_POLICY
from podman_cvmfs.store.json_files import images_json, layers_json
from podman_cvmfs.store.records import StoreContent
from tests.support.resolved import image

#: Docker Hub's names for one image among them.
_REGISTRIES = ("docker.io", "registry.hub.docker.com", "index.docker.io", "quay.io", "r:5000")
_REPOSITORIES = ("library/a", "a", "g/b")
_TAGS = ("1", "2", f"sha256:{'d' * 64}")


@dataclass(frozen=True)
class Published:
    """An image, and the source by which the repository knows it: not always the config's digest."""

    image: ResolvedImage
    source: Digest


def _published(label: str, diffs: str, source: int) -> Published:
    found = image(label, diffs)
    chosen = found.source_id if source == 0 else Digest(f"{source}" * 64)
    return Published(replace(found, source_id=chosen), chosen)


paths = st.builds(
    lambda registry, repository, tag: f"{registry}/{repository}:{tag}",
    st.sampled_from(_REGISTRIES),
    st.sampled_from(_REPOSITORIES),
    st.sampled_from(_TAGS),
)
published = st.builds(
    _published, st.sampled_from("xyz"), st.sampled_from(["a", "ab", "abc", "b"]), st.integers(0, 3)
)
#: What is on offer, what of it fails to be resolved anew, and how long after the step before.
steps = st.tuples(
    st.dictionaries(paths, published, max_size=8),
    st.sets(st.integers(0, 7)),
    st.sampled_from([1, GRACE // 2, 2 * GRACE]),
)


def _of_one_image(offer: Mapping[str, Published]) -> dict[str, Published]:
    """A source means one image at a time, as in ``Offers.by_source``."""
    first: dict[Digest, Published] = {}
    return {path: first.setdefault(each.source, each) for path, each in offer.items()}


def _check(content: StoreContent, resolved: Mapping[ImageName, str]) -> None:
    records = json.loads(images_json(content))
    names = [name for record in records for name in record["names"]]
    assert len(names) == len(set(names)), "a name on two images"
    assert len({record["id"] for record in records}) == len(records)
    holders = {name: record["id"] for record in records for name in record["names"]}
    layers = [record["id"] for record in json.loads(layers_json(content))]
    assert len(layers) == len(set(layers))
    assert {record["layer"] for record in records} <= set(layers)
    for name, image_id in resolved.items():
        assert holders[str(name)] == image_id, "a name as it is written leads to another image"
    possible = {other: set() for name in resolved for other in podman_names(name)}  # type: ignore[var-annotated]
    for name, image_id in resolved.items():
        for other in podman_names(name):
            possible[other].add(image_id)
    for text, ids in possible.items():
        assert holders[text] in ids
    listed = {i.image_id for i in content.images.values() if not is_retired(i)}
    assert {name for name, holder in holders.items() if holder in listed} == set(possible)


@settings(max_examples=200, deadline=None)
@given(st.lists(steps, min_size=1, max_size=4))
def test_no_input_puts_a_name_on_two_images(
    history: list[tuple[dict[str, Published], set[int], int]],
) -> None:
    content = StoreContent()
    now = 2_000_000_000
    for offer, failing, later in history:
        now += later
        wanted = _of_one_image(offer)
        names = {parse_repository_path(path): each for path, each in wanted.items()}
        storable = {
            each.source.hex: storable_image(each.image, view_of(each.image, DEFAULT_POLICY), "/r")
            for number, each in enumerate(names.values())
            if number not in failing
        }
        kept = {
            source: stored.image_id
            for stored in sorted(content.images.values(), key=is_retired, reverse=True)
            for source in stored.all_sources
        }
        sources = {name: each.source.hex for name, each in names.items()}
        plan = make_plan(content, sources, storable, str(DEFAULT_POLICY), Retention(now))
        image_of = {**kept, **{s: each.stored.image_id for s, each in storable.items()}}
        resolved = {name: image_of[s] for name, s in sources.items() if s in image_of}
        _check(plan.content, resolved)
        content = plan.content
