# SPDX-License-Identifier: Apache-2.0
"""``podman-cvmfs setup``."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Sequence

import click

from podman_cvmfs.cli.options import DIRECTORY, setting, settings_given
from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.podman.crio_conf import has_crio
from podman_cvmfs.podman.storage_conf.effective import Places, read_effective
from podman_cvmfs.podman.storage_conf.generation import (
    OTHER_ENGINES,
    Generation,
    find_generation,
    reads_no_drop_ins,
)
from podman_cvmfs.repository.owners import owner_of_first, serve_users
from podman_cvmfs.settings.advice import on_store
from podman_cvmfs.settings.policy import Overlay, View
from podman_cvmfs.setup import record as records
from podman_cvmfs.setup.changes import Change, as_diff, make
from podman_cvmfs.setup.crio import put_crio, put_hint, undo_remarks, was_set_up
from podman_cvmfs.setup.mounts import volumes_for
from podman_cvmfs.setup.ordinary import LOGGED_IN, were_given
from podman_cvmfs.setup.plan import plan_setup, serves
from podman_cvmfs.setup.request import Plan, SetupRequest
from podman_cvmfs.setup.snippet import PROFILE, names_a_store, present_program
from podman_cvmfs.setup.store import can_be_opened, ensure_store, is_store, open_store
from podman_cvmfs.setup.users import shadowed
from podman_cvmfs.store.store import Store

log = logging.getLogger(__name__)


@click.command("setup")
@click.option(
    "--user/--system",
    "for_user",
    default=None,
    help="Set up podman for you, or for the whole machine. Default: for the "
    "machine if you are root, otherwise for you.",
)
@setting(
    "store",
    "--store",
    type=DIRECTORY,
    help="The additional image store. Default: the settings' store.",
)
@click.option("--undo", is_flag=True, help="Put every file back as it was.")
@click.option("--dry-run", is_flag=True, help="Only print what would change, as a diff.")
@click.option(
    "--mount-cvmfs",
    "repositories",
    metavar="[=REPO,...]",
    is_flag=False,
    flag_value="",
    help="Show /cvmfs, or only these repositories, inside every container.",
)
@click.option(
    "--overlay",
    type=click.Choice([each.value for each in Overlay]),
    help="Also set what podman mounts layers with.",
)
@click.option(
    "--crio",
    is_flag=True,
    help="Set up CRI-O as well, with or without podman on the machine. Later runs "
    "of setup keep this.",
)
@click.option(
    "--users/--no-users",
    "users",
    default=None,
    help="Give root's store to ordinary users too, or to root alone. Default: as "
    "in the last run; in the first run root alone.",
)
@click.option(
    "--prefetch",
    is_flag=True,
    help="Also have podman read a container's files early, in the background, when it starts the "
    "container.",
)
@click.option(
    "--exact",
    is_flag=True,
    help='Also set mountopt = "metacopy=on" in storage.conf. The exact view needs it: without it '
    "commits and builds would lose data. Default: only if the settings ask for that view.",
)
def command(
    for_user: bool | None,
    undo: bool,
    dry_run: bool,
    repositories: str | None,
    overlay: str | None,
    crio: bool,
    users: bool | None,
    prefetch: bool,
    exact: bool,
) -> None:
    """Make podman use the store, or undo that.

    It makes an empty store if there is none. For podman 5 and older it edits storage.conf, or
    makes one from the settings in force. Newer podman gets a drop-in.
    """
    root = os.geteuid() == 0
    if for_user is not None and for_user == root:
        raise InputError(
            "root sets up the system" if root else "setting up the system needs root",
            "run it as the user whose podman you mean"
            if root
            else "run it with sudo, or use --user",
        )
    if (users is not None or crio or exact) and not root:
        raise click.UsageError("--users, --no-users, --crio and --exact are for root")
    manifest_path = records.SYSTEM_MANIFEST if root else records.user_manifest()
    if undo:
        _undo(manifest_path, dry_run)
    else:
        settings = settings_given()
        store = Store(settings.store).path
        earlier = records.load(manifest_path)
        crio = root and (crio or was_set_up(earlier))
        asks_podman = bool(overlay or users or repositories is not None)
        generation = _generation(crio and not asks_podman)
        request = SetupRequest(
            store,
            earlier=earlier,
            volumes=_volumes(repositories),
            kernel=None if overlay is None else overlay == Overlay.KERNEL.value,
            mount_program=_mount_program(generation, overlay),
            users=root and (were_given(earlier) if users is None else users),
            older=generation is not None
            and generation.drop_ins
            and any(map(reads_no_drop_ins, OTHER_ENGINES)),
            prefetch=prefetch,
            exact=root and (exact or settings.view is View.EXACT),
        )
        _set_up(manifest_path, generation, request, crio, dry_run, settings.repositories)


def _why_no_users(repositories: Sequence[str], request: SetupRequest) -> str:
    """Why ordinary users should not get the system's store; "" if they can use it.

    Their podman can't start its images, or images pulled onto its layers, unless the files belong
    to the user.
    """
    owned = owner_of_first(repositories)
    if owned is None or serve_users(owned[1:]) or request.mount_program:
        return ""
    return (
        f"ordinary users' podman starts no container on the store: the files in "
        f"{printable(owned[0])} belong to user {owned[1]}, and the kernel's overlayfs mounts them. "
        "Each user can have a store of their own (podman-cvmfs setup --user && podman-cvmfs sync); "
        "or use --overlay fuse-overlayfs; --no-users takes the store from them"
    )


def _generation(may_lack: bool) -> Generation | None:
    """podman's generation; None without podman, if it ``may_lack``. Raises InputError."""
    if shutil.which("podman") is None:
        if may_lack:
            return None
        if has_crio():
            raise InputError("podman is not in PATH", "use --crio alone to set up CRI-O only")
    return find_generation()


def _mount_program(generation: Generation | None, overlay: str | None) -> str | None:
    """The program to mount layers with. By default it is that of an earlier set-up."""
    if overlay == Overlay.FUSE.value:
        return _fuse_overlayfs()
    if overlay is not None or generation is None:
        return None
    if not generation.drop_ins and (program := present_program()):
        return program
    return read_effective(Places.of_process(), generation).options.get("mount_program") or None


def _set_up(
    manifest_path: str,
    generation: Generation | None,
    request: SetupRequest,
    crio: bool,
    dry_run: bool,
    repositories: Sequence[str],
) -> None:
    places = Places.of_process()
    store = request.store
    is_new = not is_store(store)
    opens = request.users and not is_new and can_be_opened(store)
    plan = Plan() if generation is None else plan_setup(places, generation, request)
    if crio:
        put_crio(plan, request)
    elif not places.uid:
        put_hint(plan)
    if request.users:
        why = _why_no_users(repositories, request)
        plan.remarks += [why] if why else []
    if dry_run:
        if is_new:
            log.info("would make the empty store %s", store)
        if opens:
            log.info("would open the empty store %s to other users", store)
        click.echo(as_diff(plan.changes), nl=False)
        _tell(plan.remarks)
        return
    if ensure_store(store, shared=request.users):
        log.info("made the empty store %s: '%s' fills it", store, on_store(store, "sync"))
    if opens:
        open_store(store)
        log.info("opened the empty store %s to other users", store)
    records.perform(manifest_path, plan.changes, [store], request.volumes)
    for change in plan.changes:
        log.info("%s %s", _done(change), change.path)
    _tell(plan.remarks)
    if generation is None:
        return
    if request.users and not places.storage_conf:
        for line in shadowed(places, generation, store):
            log.warning("not reached: %s", line)
    if not serves(places, generation, request):
        log.warning("podman doesn't use %s yet because of other settings", store)
    else:
        state = "now uses" if plan.changes else "already uses"
        log.info("podman %s %s %s", generation.version, state, store)


def _done(change: Change) -> str:
    if change.after is None:
        return "removed"
    return "made" if change.before is None else "edited"


def _undo(manifest_path: str, dry_run: bool) -> None:
    manifest = records.load(manifest_path)
    changes, remarks = records.plan_undo(manifest)
    if any(change.path == PROFILE for change in changes) and names_a_store():
        remarks.append(LOGGED_IN)
    remarks += undo_remarks(changes, manifest.stores)
    if dry_run:
        click.echo(as_diff(changes), nl=False)
        _tell(remarks)
        return
    for change in changes:
        make(change)
        log.info("%s %s", _undone(change), change.path)
    _tell(remarks)
    records.finish_undo(manifest_path, manifest)
    if not manifest.files:
        log.info("nothing to undo")


def _undone(change: Change) -> str:
    return "removed" if change.after is None else "restored"


def _tell(remarks: list[str]) -> None:
    for remark in remarks:
        log.warning("%s", remark)


def _volumes(repositories: str | None) -> tuple[str, ...]:
    if repositories is None:
        return ()
    return tuple(volumes_for([name for name in repositories.split(",") if name]))


def _fuse_overlayfs() -> str:
    program = shutil.which("fuse-overlayfs")
    if program is None:
        raise InputError("fuse-overlayfs is not in PATH", "install fuse-overlayfs first")
    return program
