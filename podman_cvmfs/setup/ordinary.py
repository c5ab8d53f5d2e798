# SPDX-License-Identifier: Apache-2.0
"""Plans the files that give ordinary users the system's store, or keep it from them.

podman 5 and older use a system's store for ordinary users only if STORAGE_OPTS names it. podman 6
gives them the stores of the system's storage.conf, and of the drop-ins for all users or for
ordinary ones. If only root can read the store, ordinary users' podman fails as soon as a file names
it. So no file may name it to them, not even after an upgrade of podman.
"""

from __future__ import annotations

import os

import tomlkit

from podman_cvmfs.errors import printable
from podman_cvmfs.podman.storage_conf.edit import STORES, add, remove
from podman_cvmfs.podman.storage_conf.effective import names_store, stores_in
from podman_cvmfs.podman.storage_conf.places import Places, with_drop_ins
from podman_cvmfs.podman.storage_conf.toml_file import array_in, plain, read_file
from podman_cvmfs.settings import files as settings
from podman_cvmfs.settings.sharing import ORDINARY
from podman_cvmfs.setup import snippet
from podman_cvmfs.setup.record import Manifest
from podman_cvmfs.setup.request import Plan, SetupRequest

_GUARD = "00-podman-cvmfs-stores.conf"
_GUARD_HEADER = """\
# Made by 'podman-cvmfs setup': root's store isn't for ordinary users, who may not read it. Only
# podman 6 reads this, in the place of the stores that {main} names.
# 'podman-cvmfs setup --users' gives them the store, 'setup --undo' removes this file.
"""
_NO_USERS_TEXT = b"""\
# Made by 'podman-cvmfs setup': ordinary users aren't given the store. 'podman-cvmfs setup --users'
# gives it to them, 'setup --undo' removes this file.
"""
_SETTINGS_TEXT = b"""\
# Made by 'podman-cvmfs setup --users': other users may read root's store. 'podman-cvmfs setup
# --no-users' and 'setup --undo' remove this file.
shared = true
"""
#: The remark if sessions named the store and new sessions don't.
LOGGED_IN = (
    "users who are logged in still have the store in their environment. The next sync closes it to "
    "them, and their podman fails until they log in again"
)


def settings_file() -> str:
    """The settings that keep root's store open once it has been given to ordinary users."""
    return f"{settings.SYSTEM_DIRECTORY}/config.d/50-podman-cvmfs-setup.toml"


def were_given(earlier: Manifest) -> bool:
    """Whether an ``earlier`` set-up was asked to give ordinary users the store."""
    path = settings_file()
    is_ours = any(each.path == os.path.realpath(path) for each in earlier.files)
    return is_ours and read_file(path) is not None


def put_settings(plan: Plan, request: SetupRequest) -> None:
    """Have syncs keep the store open, or leave that to other settings."""
    if request.users:
        plan.put(settings_file(), _SETTINGS_TEXT)
    else:
        plan.take_back(settings_file(), request.earlier, lambda data: data)


def put_environment(plan: Plan, request: SetupRequest) -> None:
    """Reach users of podman 5 and older, who inherit no stores, without touching their files."""
    program = None if request.kernel else request.mount_program
    text = snippet.profile_text(request.store, program, snippet.podman_seen())
    known = len(plan.changes)
    plan.put(snippet.PROFILE, text.encode())
    if len(plan.changes) > known:
        plan.remarks.append("ordinary users get the store at their next login")
    if os.path.isdir("/etc/systemd"):
        plan.put(snippet.GENERATOR, snippet.generator_text().encode(), 0o755)


def drop_environment(plan: Plan, request: SetupRequest) -> None:
    """Take the store out of the environment of new sessions."""
    if snippet.names_a_store():
        plan.remarks.append(LOGGED_IN)
    for path in (snippet.PROFILE, snippet.GENERATOR):
        plan.take_back(path, request.earlier, lambda data: _NO_USERS_TEXT)


def guard(plan: Plan, places: Places, request: SetupRequest, main: str, data: bytes) -> None:
    """Keep the store from ordinary users of podman 6 if ``main`` names it, a storage.conf that they
    read too. Its content is ``data``. A file for ordinary users names its other stores again."""
    path = f"{places.admin}/storage.rootless.conf.d/{_GUARD}"
    stores = (array_in(main, plain(main, data), STORES) or ((), None))[0]
    if request.users or not names_store(stores, request.store):
        plan.take_back(path, request.earlier, lambda data: _NO_USERS_TEXT)
        return
    array = tomlkit.array()
    for each in stores:
        if not names_store([each], request.store):
            array.append(each)
    attribute = tomlkit.inline_table()
    attribute["append"] = False
    array.append(attribute)
    table = {"storage": {"options": {STORES[-1]: array}}}
    text = _GUARD_HEADER.replace("{main}", main) + tomlkit.dumps(table)
    plan.put(path, text.encode())


def put_drop_in(plan: Plan, places: Places, request: SetupRequest, name: str, data: bytes) -> None:
    """Give ordinary users of podman 6 the store, or keep it from them.

    ``data`` is root's drop-in, called ``name``; a drop-in for ordinary users replaces one for all
    users that has the same name.
    """
    path = f"{places.admin}/storage.rootless.conf.d/{name}"
    user = Places.of_user(ORDINARY.uid, "/nonexistent", places)
    files = with_drop_ins(user, "storage")
    named = [each for each in files if os.path.basename(each) == name]
    others = [each for each in files if os.path.basename(each) not in (name, _GUARD)]
    main = others[0] if others and ".conf.d/" not in others[0] else ""
    if main:
        guard(plan, places, request, main, read_file(main) or b"")
    is_named = names_store(stores_in(others), request.store)
    if request.users:
        present = read_file(path)
        is_packaged = [each for each in named if each.startswith(f"{places.vendor}/")]
        is_enough = is_named or names_store(stores_in(is_packaged), request.store)
        if present is None and request.kernel is None and is_enough:
            return
        if is_named:
            data = remove(path, data, STORES, [request.store])
        else:
            data = add(path, data, STORES, [request.store])
        plan.put(path, data)
        return
    packaged = [f"{places.vendor}/storage.{kind}/{name}" for kind in ("conf.d", "rootless.conf.d")]
    if names_store(stores_in(filter(os.path.exists, packaged)), request.store):
        plan.put(path, _NO_USERS_TEXT)
    else:
        plan.take_back(path, request.earlier, lambda data: _NO_USERS_TEXT)
    for each in others:
        if each != main and names_store(stores_in([each]), request.store):
            plan.remarks.append(
                "ordinary users still get the store, because they also read "
                f"{printable(each)}, which names it: "
                "too; take it out there and run this again"
            )
