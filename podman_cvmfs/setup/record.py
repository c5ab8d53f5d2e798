# SPDX-License-Identifier: Apache-2.0
"""Records the changes of set-up, to undo them: a JSON file, and a backup beside each edited file.

``{"version": 1, "stores": [...], "volumes": [...], "directories": [...], "files": [{"path": ...,
"written": ["<sha256 hex of what we wrote>", ...], "before": "<of what was there>" or null}]}``
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from podman_cvmfs.errors import PodmanCvmfsError, printable
from podman_cvmfs.podman.storage_conf.edit import STORES, VOLUMES, remove
from podman_cvmfs.podman.storage_conf.toml_file import read_file
from podman_cvmfs.setup.changes import Change, make, missing_directories
from podman_cvmfs.util.files import write_whole

SYSTEM_MANIFEST = "/var/lib/podman-cvmfs/setup.json"

_BACKUP = ".podman-cvmfs-backup"
_VERSION = 1


@dataclass(frozen=True)
class Record:
    """One file: the SHA-256 of each content that we wrote, and of the content before (None: no
    file)."""

    path: str
    written: tuple[str, ...]
    before: str | None

    @property
    def backup(self) -> str:
        """The path of the backup."""
        return self.path + _BACKUP


@dataclass(frozen=True)
class Manifest:
    """All changes of set-up that are not undone yet."""

    stores: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()
    files: tuple[Record, ...] = ()


def user_manifest() -> str:
    """Where the manifest of an ordinary user is."""
    state = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):
        state = os.path.expanduser("~/.local/state")
    return f"{state}/podman-cvmfs/setup.json"


def load(path: str) -> Manifest:
    """Read the manifest, empty where there is none. Raises PodmanCvmfsError."""
    data = read_file(path)
    if data is None:
        return Manifest()
    try:
        content = json.loads(data)
        if content["version"] != _VERSION:
            raise ValueError(f"version {content['version']}")
        return Manifest(
            tuple(map(str, content["stores"])),
            tuple(map(str, content["volumes"])),
            tuple(map(str, content["directories"])),
            tuple(
                Record(each["path"], tuple(map(str, each["written"])), each["before"])
                for each in content["files"]
            ),
        )
    except (ValueError, KeyError, TypeError) as err:
        raise PodmanCvmfsError(
            f"{printable(path)} is not a record of podman-cvmfs setup: {printable(str(err))}",
            "undo the changes of setup by hand, then remove that file",
        ) from err


def perform(
    manifest_path: str,
    changes: Sequence[Change],
    stores: Sequence[str],
    volumes: Sequence[str],
) -> None:
    """Record what each change replaces, then make the changes.

    Raises PodmanCvmfsError. If the process is killed, all files are whole and ``plan_undo`` can
    read the record.
    """
    manifest = load(manifest_path)
    if not changes:
        return
    records = {record.path: record for record in manifest.files}
    backups = []
    directories: list[str] = []
    for change in changes:
        earlier = records.get(change.path)
        original = _original(earlier, change, manifest)
        ours = [] if change.after in (None, original) else [_digest_or_none(change.after)]
        written = _joined(earlier.written if earlier else (), filter(None, ours))
        record = Record(change.path, written, _digest_or_none(original))
        if original is not None and read_file(record.backup) != original:
            # A backup is as private as its file.
            mode = os.stat(change.path).st_mode & 0o777
            backups.append(Change(record.backup, None, original, mode))
        records[change.path] = record
        directories += missing_directories(change.path)
    manifest = Manifest(
        stores=_joined(manifest.stores, stores),
        volumes=_joined(manifest.volumes, volumes),
        directories=_joined(manifest.directories, directories),
        files=tuple(records.values()),
    )
    _save(manifest_path, manifest)
    try:
        for change in [*backups, *changes]:
            make(change)
    except PodmanCvmfsError as err:
        hint = "'podman-cvmfs setup --undo' undoes the earlier changes"
        raise PodmanCvmfsError(err.message, hint) from err


def plan_undo(manifest: Manifest) -> tuple[list[Change], list[str]]:
    """The changes that put every file back, and remarks about files that others have changed
    since."""
    changes: list[Change] = []
    remarks: list[str] = []
    for record in reversed(manifest.files):
        change, is_certain = undo_of(record, manifest)
        if change is not None:
            changes.append(change)
        if is_certain:
            continue
        if not os.path.lexists(record.path):
            remarks.append(f"{record.path} has been removed since set-up: it is not restored")
        elif is_podmans(record.path):
            remarks.append(
                f"{record.path} has been changed since set-up: only our entry is removed"
            )
        else:
            remarks.append(f"{record.path} has been changed since set-up: look at it and remove it")
    return changes, remarks


def undo_of(record: Record, manifest: Manifest) -> tuple[Change | None, bool]:
    """The change that puts one file back, None if there is nothing to do or nothing can be done;
    and whether the file is then as before. That is unknown if others have changed it since."""
    now = read_file(record.path)
    digest = _digest_or_none(now)
    backup = read_file(record.backup) if record.before is not None else None
    if digest == record.before:
        return None, True
    if digest in record.written and _digest_or_none(backup) == record.before:
        return Change(record.path, now, backup), True
    if now is not None and is_podmans(record.path):
        rest = without_entries(record.path, now, manifest)
        if rest != now:
            return Change(record.path, now, rest), False
    return None, False


def finish_undo(manifest_path: str, manifest: Manifest) -> None:
    """Remove backups, directories that set-up made and that are empty again, and the manifest."""
    for record in manifest.files:
        if record.before is not None and _digest_or_none(read_file(record.path)) == record.before:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(record.backup)
    for directory in reversed(manifest.directories):
        with contextlib.suppress(OSError):
            os.rmdir(directory)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(manifest_path)


def is_podmans(path: str) -> bool:
    """Whether ``path`` is a file to whose arrays set-up only adds: a storage.conf or a
    containers.conf, or a drop-in of one."""
    return path.endswith(".conf") and "/crio.conf.d/" not in path


def without_entries(path: str, data: bytes, manifest: Manifest) -> bytes:
    """``data`` without what set-up added to arrays. Raises InputError for broken TOML."""
    data = remove(path, data, STORES, manifest.stores)
    return remove(path, data, VOLUMES, manifest.volumes)


def _original(record: Record | None, change: Change, manifest: Manifest) -> bytes | None:
    """The content that undoing restores: not one that an earlier set-up had written."""
    if record is None or change.before is None:
        return change.before
    if _digest(change.before) in record.written:
        backup = read_file(record.backup) if record.before is not None else None
        if _digest_or_none(backup) == record.before:
            return backup
    if not is_podmans(change.path):
        return None
    # Others have changed it in between, or the backup is lost: restore it without our entry.
    return without_entries(change.path, change.before, manifest)


def _save(path: str, manifest: Manifest) -> None:
    content = {
        "version": _VERSION,
        "stores": manifest.stores,
        "volumes": manifest.volumes,
        "directories": manifest.directories,
        "files": [vars(record) for record in manifest.files],
    }
    try:
        write_whole(path, (json.dumps(content, indent=2) + "\n").encode())
    except OSError as err:
        raise PodmanCvmfsError(f"can't write {printable(path)}: {err.strerror}") from err


def _joined(first: Iterable[str], second: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*first, *second]))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _digest_or_none(data: bytes | None) -> str | None:
    return None if data is None else _digest(data)
