# SPDX-License-Identifier: Apache-2.0
"""Conditions of repositories and registries."""

from __future__ import annotations

from dataclasses import replace

from podman_cvmfs.doctor.facts import BlobSource, ImagePolicy, Presence, Registries, Targets
from tests.support.doctor_facts import (
    REPOSITORY,
    ROOT,
    USER,
    Case,
    client,
    contents,
    counts,
    options,
    repository,
)

MACHINE_CASES: list[Case] = [
    (
        "repository-missing",
        repository(presence=Presence.MISSING),
        REPOSITORY,
        "cvmfs_config probe unpacked.cern.ch",
    ),
    ("repository-missing", repository(empty=True, in_fstab=True), "empty", f"mount {REPOSITORY}"),
    (
        "repository-missing",
        replace(repository(contents(repositories=()), empty=True, synced=None), has_cvmfs=False),
        "empty",
        "# install and set up CernVM-FS",
    ),
    (
        # It has been there, with a client that isn't in PATH.
        "repository-missing",
        replace(repository(contents(repositories=()), empty=True), has_cvmfs=False),
        "empty",
        f"# mount {REPOSITORY} again",
    ),
    (
        "repository-missing",
        replace(repository(presence=Presence.MISSING, synced=None), has_cvmfs=False),
        REPOSITORY,
        f"# mount {REPOSITORY} again",
    ),
    (
        "containers-stuck",
        replace(ROOT, stuck=("a", "b")),
        "a, b: the image's file system doesn't answer",
        "# mount the repository, then for each container: podman stop",
    ),
    (
        "containers-stuck",
        replace(USER, stuck=("a",)),
        "a: the",
        "# mount the repository, then podman system migrate",
    ),
    (
        "repository-missing",
        repository(replace(ROOT, in_container=True), presence=Presence.MISSING),
        f"{REPOSITORY} isn't there inside this container",
        "# on the host: mount it, and start this container with --volume /cvmfs:/cvmfs:ro,rslave",
    ),
    ("repository-missing", repository(path="/srv/x", empty=True), "empty", "# mount /srv/x"),
    (
        "repository-hangs",
        repository(presence=Presence.HANGS, problem="no answer"),
        "no answer",
        "# check network, proxy and server (cvmfs_config stat unpacked.cern.ch); leave it mounted",
    ),
    (
        "repository-broken",
        repository(problem="Input/output error"),
        "Input/output error",
        "# check network, proxy and server (cvmfs_config stat unpacked.cern.ch); leave it mounted",
    ),
    (
        "repository-broken",
        repository(problem="not connected", is_dead=True),
        "not connected",
        f"umount --lazy {REPOSITORY}; cvmfs_config probe unpacked.cern.ch",
    ),
    (
        "repository-broken",
        replace(
            repository(trouble="its client is ill", is_offline=True),
            targets=Targets(unread={REPOSITORY: ("r/a:1",)}),
        ),
        f"{REPOSITORY}: its client is ill; files of r/a:1 can't be read",
        "# check network, proxy and server (cvmfs_config stat unpacked.cern.ch); leave it mounted",
    ),
    (
        "fetches-fail",
        repository(trouble="its client is ill", is_offline=True),
        f"{REPOSITORY}: its client is ill",
        "# check network, proxy and server (cvmfs_config stat unpacked.cern.ch); leave it mounted",
    ),
    (
        "files-gone",
        replace(ROOT, targets=Targets(gone=("r/a:1", "r/b:1"))),
        "2 names, such as r/a:1: their files have left the repository",
        "podman-cvmfs sync",
    ),
    (
        "mount-unseen",
        replace(ROOT, targets=Targets(hidden=("r/a:1",))),
        "r/a:1: podman's pause process",
        "podman system migrate",
    ),
    (
        "repository-broken",
        repository(problem="not connected", is_dead=True, in_fstab=True),
        "not connected",
        f"umount --lazy {REPOSITORY}; mount {REPOSITORY}",
    ),
    (
        "repository-closed",
        repository(presence=Presence.CLOSED),
        REPOSITORY,
        f"chmod go+rx {REPOSITORY}",
    ),
    (
        "starts-may-hang",
        client(own=("/g",), others=("/h/a", "/h/b")),
        f"/cache (for {REPOSITORY}) is on one file system with the graphroot /g and 2 more",
        "# put CVMFS_SERVER_CACHE_MODE=yes in /etc/cvmfs/default.local and run 'cvmfs_config ",
    ),
    (
        # Other users' podman may mount otherwise than root's.
        "starts-may-hang",
        options(client(own=("/g",), others=("/h",)), mount_program="/f"),
        "the graphroot /h",
        "# put CVMFS_SERVER_CACHE_MODE=yes",
    ),
    ("repository-foreign", repository(foreign=True), REPOSITORY, "# name another"),
    (
        "registries-conf-broken",
        replace(ROOT, registries=Registries("f:1: bad", "mend")),
        "f:1",
        "# mend",
    ),
    (
        "policy-json-broken",
        replace(ROOT, policy=ImagePolicy(problem="p.json: not valid", hint="mend it")),
        "not valid",
        "# mend it",
    ),
    (
        "images-rejected",
        replace(ROOT, policy=ImagePolicy("/p.json", rejected={"r/a:1": "p rejects r/a"})),
        "1 name of the store, such as r/a:1: p rejects r/a",
        "# if podman should take these images, change /p.json",
    ),
    (
        # The cure of an empty store, a sync, would not help.
        "images-rejected",
        counts(replace(ROOT, policy=ImagePolicy("/p.json", rejects_others="p rejects")), images=0),
        "p rejects",
        "# if podman should take these images, change /p.json",
    ),
    (
        "images-unsigned",
        replace(ROOT, policy=ImagePolicy("/p.json", unsigned={"r/a:1": "p demands", "r/b:1": ""})),
        "2 names of the store, such as r/a:1: p demands",
        '# put signatures = "ignored" into /etc/podman-cvmfs/config.toml, or change /p.json',
    ),
    (
        "blob-source-down",
        replace(ROOT, blob_sources=(BlobSource("/b", "no such directory"),)),
        "/b: no such directory",
        "# mend the server",
    ),
    (
        "blob-source-wrong",
        replace(ROOT, blob_sources=(BlobSource("https://b.org", wrong=("sha256:1",)),)),
        "https://b.org has another content under the digest sha256:1",
        "# remove that file",
    ),
    (
        "registry-blocked",
        replace(ROOT, registries=Registries(blocked={"a.org/b:1": "a.org"})),
        "a.org/b:1",
        "# nothing",
    ),
]
