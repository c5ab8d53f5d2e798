# SPDX-License-Identifier: Apache-2.0
"""Judges podman, its configuration, and the user's rights. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from podman_cvmfs.doctor import cures, edits
from podman_cvmfs.doctor.conditions import CONDITIONS
from podman_cvmfs.doctor.facts import Facts, Presence
from podman_cvmfs.doctor.finding import Finding
from podman_cvmfs.errors import printable
from podman_cvmfs.podman.storage_conf.effective import DATABASES, DRIVERS, is_overlay
from podman_cvmfs.podman.storage_conf.use import in_words, why_unnamed
from podman_cvmfs.repository.owners import serve_users
from podman_cvmfs.util.words import counted

#: With so many images podman 4 takes 0.1 s longer for each command that only looks.
_MANY = 1000
#: What podman-run(1) suggests for ``--userns=auto``.
_AUTO_IDS = "containers:2147483647:2147483648"
#: How many subordinate IDs a user usually gets.
_SUBIDS = 65536


def engine(facts: Facts) -> Iterator[Finding]:
    """podman itself."""
    podman = facts.engine
    if podman.problem and not facts.lacks_podman:
        hint = podman.hint or "install podman"
        yield Finding(CONDITIONS["podman-broken"], podman.problem, hint, by_hand=True)
    if podman.failure:
        yield Finding(
            CONDITIONS["podman-fails"],
            f"podman says: {podman.failure}",
            "cure the other errors first; if there are none, see 'podman info --log-level=debug'",
            by_hand=True,
        )
    major = podman.major
    if major is not None and major < 4:
        found = f"podman {podman.version}"
        yield Finding(CONDITIONS["podman-old"], found, "install podman 4 or later", by_hand=True)
    if major == 4 and facts.contents.images > _MANY:
        yield Finding(
            CONDITIONS["podman-slow"],
            f"podman {podman.version} and {counted(facts.contents.images, 'image')}",
            "name the images you need in a wish list (wish_lists in config.toml), or use podman 5",
            by_hand=True,
        )
    host = facts.configuration.environment.get("CONTAINER_HOST")
    if host:
        found = f"CONTAINER_HOST is {printable(host)}"
        yield Finding(CONDITIONS["podman-remote"], found, "unset CONTAINER_HOST")


def user(facts: Facts) -> Iterator[Finding]:
    """What an ordinary user needs of the machine. Only root can provide it."""
    if facts.is_root:
        return
    person = facts.user
    if not person.namespaces:
        yield Finding(
            CONDITIONS["namespaces-off"],
            "a kernel setting forbids user namespaces for ordinary users",
            "sysctl -w user.max_user_namespaces=28633; "
            "sysctl -w kernel.unprivileged_userns_clone=1 || true",
        )
    has_ids = person.subuids != 0 and person.subgids != 0
    if has_ids and person.bad_programs:
        programs = " and ".join(person.bad_programs)
        yield Finding(
            CONDITIONS["id-maps-broken"],
            f"{programs}: missing, or without the right to map IDs",
            "install the package that has newuidmap (uidmap, shadow-utils), or install it again",
            by_hand=True,
        )
    if not has_ids:
        files = [
            path
            for path, number in (("/etc/subuid", person.subuids), ("/etc/subgid", person.subgids))
            if number == 0
        ]
        first = person.free_id
        ids = f"{first}-{first + _SUBIDS - 1}"
        yield Finding(
            CONDITIONS["id-maps-missing"],
            f"{' and '.join(files)}: no line for {printable(person.name)}",
            cures.shell("usermod", "--add-subuids", ids, "--add-subgids", ids, person.name),
        )


def configuration(facts: Facts) -> Iterator[Finding]:
    """Our settings and storage.conf, as far as they can be read."""
    for warning in facts.warnings:
        yield Finding(CONDITIONS["settings-unknown"], warning, "correct or remove it", by_hand=True)
    for problem, cure in facts.bad_wish_lists.items():
        yield Finding(CONDITIONS["wish-list-broken"], problem, cure, by_hand=True)
    conf = facts.configuration
    if conf.problem:
        yield Finding(CONDITIONS["storage-conf-broken"], conf.problem, conf.hint, by_hand=True)
        return
    if conf.lacking and conf.effective.main:
        yield Finding(
            CONDITIONS["storage-conf-incomplete"],
            f"{printable(conf.effective.main)} doesn't set {' and '.join(conf.lacking)}",
            *_add(facts, conf.lacking),
        )
    state = f"is {facts.engine.version}" if facts.engine.version else "doesn't start"
    for path in conf.with_append:
        yield Finding(
            CONDITIONS["storage-conf-append"],
            f"{printable(path)} has {{append=true}}, and podman {state}",
            edits.remove_append(path),
        )
    yield from _driver(facts)
    is_ours = facts.is_configured or facts.store.path in conf.dropped_stores
    if conf.dropped_stores and is_ours:
        stores = ", ".join(map(printable, conf.dropped_stores))
        found = f"STORAGE_OPTS is set and replaces {stores} in storage.conf"
        yield Finding(CONDITIONS["options-replaced"], found, "unset STORAGE_OPTS")
    elif not facts.is_configured and not facts.lacks_podman:
        yield from _not_configured(facts)
    elif _leaves_users_out(facts):
        found = "the settings share the store, but no login script names it to ordinary users"
        cure = cures.setup(facts, "--users")
        by_hand = False
        if conf.effective.main and not conf.effective.driver:
            # Set-up leaves them out then: podman 4 would take vfs for them.
            found += f", and {printable(conf.effective.main)} sets no driver"
            driver, by_hand = _add(facts, {"driver": "overlay"})
            cure = f"{driver}; then: {cure}" if by_hand else f"{driver} && {cure}"
        yield Finding(CONDITIONS["users-unserved"], found, cure, by_hand)
    owners = _strange_owners(facts)
    if facts.is_root and conf.profile and not conf.profile_program and owners:
        found = (
            f"{conf.profile} gives ordinary users the store, but its files belong to user "
            f"{' and '.join(map(str, owners))}"
        )
        cure = cures.setup(facts, "--no-users")
        yield Finding(CONDITIONS["users-cannot-start"], found, cure)
    if facts.unreached:
        more = f" (and {len(facts.unreached) - 3} more)" if len(facts.unreached) > 3 else ""
        yield Finding(
            CONDITIONS["users-not-reached"],
            "; ".join(facts.unreached[:3]) + more,
            f"each of these users: podman-cvmfs setup --user --store {facts.store.path}",
            by_hand=True,
        )


def automatic(facts: Facts) -> Iterator[Finding]:
    """The IDs for automatic user namespaces of root's containers."""
    if facts.is_root and facts.configuration.userns.startswith("auto") and not facts.user.auto_ids:
        found = "/etc/subuid or /etc/subgid has no line for containers"
        cure = f"echo {_AUTO_IDS} | tee --append /etc/subuid /etc/subgid"
        yield Finding(CONDITIONS["auto-ids-missing"], found, cure)


def services(facts: Facts) -> Iterator[Finding]:
    """Services that start podman with options of their own."""
    if not facts.services or not facts.is_configured:
        return
    first = facts.services[0]
    more = f" (and {len(facts.services) - 1} more)" if facts.services[1:] else ""
    found = f"{printable(first.path)} has {printable(' '.join(first.options))}{more}"
    option = f"--storage-opt=imagestore={facts.store.path}"
    cure = f"give podman {option} there, too (in a quadlet: GlobalArgs={option})"
    yield Finding(CONDITIONS["service-without-store"], found, cure, by_hand=True)


def _strange_owners(facts: Facts) -> list[int]:
    """The owners of the repositories' files, if no owner is an ordinary user."""
    owners = sorted({owner for each in facts.repositories for owner in each.owners})
    return [] if serve_users(owners) else owners


def _leaves_users_out(facts: Facts) -> bool:
    conf = facts.configuration
    is_older = bool(facts.engine.version) and not facts.engine.drop_ins
    is_named = "CONTAINERS_STORAGE_CONF" in conf.environment
    # On others' files their containers couldn't start.
    is_apt = facts.shared and not _strange_owners(facts)
    return facts.is_root and is_older and not is_named and not conf.profile and is_apt


def _driver(facts: Facts) -> Iterator[Finding]:
    conf, asked = facts.configuration, facts.engine.driver
    driver = asked or conf.driver
    if is_overlay(driver):
        return
    reason = conf.driver_reason if driver == conf.driver else "its database says so"
    found = f"podman uses the driver {printable(driver)}: {printable(reason)}"
    if "STORAGE_DRIVER" in conf.environment:
        yield Finding(CONDITIONS["driver-not-overlay"], found, "unset STORAGE_DRIVER")
        return
    # Whatever the files say by then: the other driver refuses the options of this one.
    reset = cures.shell("podman", "--storage-driver", driver, "system", "reset", "--force")
    path = conf.set_in.get("driver")
    removes = "all its images and containers"
    if driver not in DRIVERS:
        # podman can't reset storage of a driver that it doesn't know, but remembers its name.
        databases = (f"{conf.graphroot}/{name}" for name in DATABASES)
        reset, removes = cures.shell("rm", "--force", *databases), "podman's database of containers"
    # The destructive command comes last, and runs only if the others succeed..
    if path and "driver" in conf.fixed and not is_overlay(conf.effective.driver):
        cure = f'set driver = "overlay" in {printable(path)}; then: {reset}'
        yield Finding(CONDITIONS["driver-not-overlay"], found, cure, by_hand=True)
        return
    if path and not is_overlay(conf.effective.driver):
        cure = f"{edits.set_key('driver', 'overlay', path)} && {reset}"
    elif conf.effective.driver:
        cure = reset
    else:
        # .. but set-up refuses while there are images of another driver.
        cure = f"{reset}; {cures.setup(facts)}"
    found += f"; '{reset}' removes {removes}"
    yield Finding(CONDITIONS["driver-not-overlay"], found, cure)


def _add(facts: Facts, values: Mapping[str, str]) -> tuple[str, bool]:
    """How keys get into ``[storage]`` of the main file, and whether that is to be done by hand."""
    path, is_there = facts.configuration.effective.main or "", facts.configuration.has_table
    if is_there is None:
        lines = " and ".join(f'{key} = "{value}"' for key, value in values.items())
        return f"set {lines} in the table storage of {printable(path)}", True
    return edits.add_to_storage(values, path, is_there=is_there), False


def _not_configured(facts: Facts) -> Iterator[Finding]:
    conf = facts.configuration
    if facts.store.presence is Presence.OTHER:
        return  # Nothing that could be configured.
    if facts.store.presence is Presence.CLOSED and not facts.is_own:
        found = f"{printable(facts.store.path)} can be read by its owner only"
        yield Finding(CONDITIONS["store-not-configured"], found, cures.own_store(facts))
        return
    if conf.profile and conf.effective.inherited:
        driver = facts.engine.driver or conf.driver
        if facts.store.presence is not Presence.THERE or not is_overlay(driver):
            # The file sets nothing in this case, so it is not the cause.
            return
        found = f"{conf.profile} names the store, but STORAGE_OPTS in this environment doesn't"
        yield Finding(CONDITIONS["login-needed"], found, f". {conf.profile}")
        return
    why = why_unnamed(conf.effective)
    found = in_words(why, printable(facts.store.path), conf.effective)
    cure, by_hand = cures.setup(facts), False
    if facts.store.presence is Presence.MISSING:
        found += ", and the store isn't there"
        cure, by_hand = cures.make_store(facts)
    yield Finding(CONDITIONS["store-not-configured"], found, cure, by_hand)


def native(facts: Facts) -> Iterator[Finding]:
    """Whether the real library reads the configuration as we do."""
    theirs, conf = facts.native, facts.configuration
    if theirs.problem and theirs.mode == "require":
        install = "install podman-cvmfs-native, or unset PODMAN_CVMFS_NATIVE"
        yield Finding(CONDITIONS["native-missing"], theirs.problem, install, by_hand=True)
    if not theirs.version or conf.problem:
        return
    by_hand = "compare the versions: if podman's own storage library has another one, ignore this"
    if theirs.failure:
        found = f"containers/storage {theirs.version} can't read it: {theirs.failure}"
        yield Finding(CONDITIONS["native-disagrees"], found, by_hand, by_hand=True)
        return
    # podman's database may have another driver. The library reads the configuration alone.
    driver = conf.driver if "STORAGE_DRIVER" in conf.environment else conf.effective.driver
    driver = driver or conf.driver
    for what, here, there in (
        ("additional stores", conf.effective.stores, theirs.stores),
        ("driver", (driver,), (theirs.driver or driver,)),
        ("graphroot", (conf.graphroot,), (theirs.graphroot,)),
    ):
        if here != there:
            found = (
                f"{what}: containers/storage {theirs.version} reads "
                f"{printable(', '.join(there)) or 'none'}, podman-cvmfs "
                f"{printable(', '.join(here)) or 'none'}"
            )
            yield Finding(CONDITIONS["native-disagrees"], found, by_hand, by_hand=True)
