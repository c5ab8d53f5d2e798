# SPDX-License-Identifier: Apache-2.0
"""The attacks that have succeeded once, and the tests that run each of them.

``tests/hostile.sh`` runs all of these: ``python -m tests.support.attacks`` prints them for pytest.
Add a row for each attack that is found.
"""

from __future__ import annotations

#: What the attacker reached -> tests: a file, or ``file::function``, from ``tests/``.
ATTACKS: dict[str, tuple[str, ...]] = {
    "a repository's owner decides what images of others hold": (
        "integration/test_trust.py",
        "unit/sync/test_trust.py",
    ),
    "what root publishes gives users of the host rights": ("unit/publish/test_exposure.py",),
    "users write into directories that containers of others show": (
        "integration/test_strangers.py",
        "unit/sync/test_written_files.py",
    ),
    "a registry sends us, and tokens, to services inside": (
        "unit/registry/test_addresses.py",
        "unit/registry/test_hostile.py",
        "unit/registry/test_inside.py",
    ),
    "root deletes and writes elsewhere, led by who owns a store, cache or repository": (
        "fuzz/test_hostile_images.py::test_hostile_repository",
        "unit/publish/test_command.py",
        "unit/publish/test_places.py",
        "unit/sync/test_strange_places.py",
        "unit/util/test_trusted_place.py",
    ),
    "publish reads root's files through links in a layout": (
        "fuzz/test_hostile_images.py::test_hostile_layout",
        "unit/publish/test_places.py::test_no_link_in_a_layout",
        "unit/publish/test_places.py::test_the_digest_of_a_file_is_not_told",
    ),
    "users stop syncs and publishes by holding locks": (
        "unit/publish/test_places.py::test_the_lock_file_is_its_owners",
        "unit/publish/test_places.py::test_who_holds_the_lock_too_long_is_named",
        "unit/store/test_held_locks.py",
    ),
    "a user's files stop or kill root's commands": (
        "integration/test_hostile_users.py",
        "packaging/test_purge.py",
        "unit/registry/test_special_files.py",
        "unit/usage/test_layer_users.py::test_a_graphroot_that_never_answers_costs_its_time",
    ),
    "small images cost a publish hours or terabytes": (
        "fuzz/test_hostile_images.py::test_hostile_image",
        "unit/publish/test_budget.py",
    ),
    "a link put in after a sync shows the host's files in containers": (
        "unit/sync/test_sync.py::test_an_image_whose_files_became_a_link_leaves_the_store",
        "unit/sync/test_sync.py::test_an_image_with_other_files_stays_without_the_link",
        "unit/sync/test_stamp.py::test_a_link_in_the_place_of_files_is_seen",
    ),
    "special files are waited for, and an image's fault is called the repository's": (
        "fuzz/test_hostile_images.py::test_hostile_repository",
        "unit/publish/test_places.py::test_a_capability_of_invalid_form_is_the_image_s_fault",
        "unit/sync/test_strange_places.py::test_a_special_file_in_a_store_is_not_read",
    ),
    "a repository's content harms a sync": ("fuzz/test_hostile.py",),
}


def what_to_run() -> list[str]:
    """All these tests, each once: paths from the checkout, for pytest."""
    named = {each for tests in ATTACKS.values() for each in tests}
    whole = {each for each in named if "::" not in each}
    alone = {each for each in named - whole if each.partition("::")[0] not in whole}
    return sorted(f"tests/{each}" for each in whole | alone)


if __name__ == "__main__":
    print("\n".join(what_to_run()))
