# SPDX-License-Identifier: Apache-2.0
"""podman's configuration in the manner of distributions, administrators, users and guides: one
file, or a few, of each kind.

``@fuse@`` stands for fuse-overlayfs, ``@link@`` for a link to it, ``@site@`` for a program of the
site's own, ``@there@`` for an additional store, ``@gone@`` for a path where nothing is, and
``@home@`` for a directory of podman's user.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.support.storage_confs import DEBIAN, FEDORA, SHAPES

#: Files by their path below .../containers.
Kind = Mapping[str, bytes]
_HEAD = """\
[storage]
driver = "overlay"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
"""
_STORES = "[storage.options]\nadditionalimagestores = [{}]\n"
_OVERLAY = "[storage.options.overlay]\n{}\n"
_DROP_IN = "storage.conf.d/50-site.conf"
_CONTAINERS_DROP_IN = "containers.conf.d/50-site.conf"


def _main(text: str, head: str = _HEAD, drop_in: str = "") -> Kind:
    files = {"storage.conf": f"{head}{text}".encode()}
    return {**files, _DROP_IN: drop_in.encode()} if drop_in else files


def _headed(**values: str) -> str:
    """The first table with other values; an empty one is left out."""
    lines = [line.split(" = ") for line in _HEAD.splitlines()[1:]]
    keys = {**{key: text.strip('"') for key, text in lines}, **values}
    return "[storage]\n" + "".join(f'{key} = "{each}"\n' for key, each in keys.items() if each)


_SPELT = {name: {"storage.conf": data} for name, data in SHAPES.items()}
_MOUNTS = {
    "program, old form": _main('[storage.options]\nmount_program = "@fuse@"\n'),
    "program": _main(_OVERLAY.format('mount_program = "@fuse@"\nmountopt = "nodev,fsync=0"')),
    "options of a program alone": _main(_OVERLAY.format('mountopt = "nodev,fsync=0"')),
    "gone program with options": _main(
        _OVERLAY.format('mount_program = "@gone@/fuse-overlayfs"\nmountopt = "fsync=0,nodev"')
    ),
    "program without options": _main(_OVERLAY.format('mount_program = "@fuse@"')),
    "program in both tables": _main(
        '[storage.options]\nmount_program = "@fuse@"\n'
        + _OVERLAY.format('mount_program = "@site@"\nskip_mount_home = "true"')
    ),
    "program, then an empty one": _main(
        '[storage.options]\nmount_program = "@fuse@"\n' + _OVERLAY.format('mount_program = ""')
    ),
    "program by a link": _main(_OVERLAY.format('mount_program = "@link@"')),
    "program that is gone": _main(_OVERLAY.format('mount_program = "@gone@/fuse-overlayfs"')),
    "gone program and mask": _main(
        _OVERLAY.format('mount_program = "@gone@/fuse-overlayfs"\nforce_mask = "0755"')
    ),
    "site's program": _main(_OVERLAY.format('mount_program = "@site@"')),
    "site's program, old form": _main('[storage.options]\nmount_program = "@site@" # ours\n'),
    "site's program that is gone": _main(_OVERLAY.format('mount_program = "@gone@/fuse-1.13"')),
    "mask and program": _main(
        _OVERLAY.format('force_mask = "0755"\nmount_program = "@fuse@"\nmountopt="nodev"')
    ),
    "mask and site's program": _main(
        _OVERLAY.format('mount_program = "@site@"\nforce_mask = "shared"')
    ),
    "mask alone": _main(_OVERLAY.format("force_mask = 'private'")),
    "mask, old form": _main('[storage.options]\n"force_mask" = "0755"\n'),
    "mask in a line": _main('overlay = {force_mask = "0755"}\n', f"{_HEAD}[storage.options]\n"),
    "composefs": _main(_OVERLAY.format('use_composefs = "true"')),
    "composefs in a line": _main(
        'options = {overlay = {use_composefs = "true", mountopt = "nodev"}}\n'
    ),
    "mount options": _main(_OVERLAY.format('mountopt = "nodev,metacopy=on"\nsize = "10G"')),
    "errors of owners ignored": _main(_OVERLAY.format('ignore_chown_errors = "true"')),
}
_DRIVERS = {
    "vfs": _main("", _headed(driver="vfs")),
    "vfs and its options": _main(
        '[storage.options]\nadditionalimagestores = []\nignore_chown_errors = "true"\n',
        _headed(driver="vfs"),
    ),
    "vfs, dotted": {
        "storage.conf": b'storage.driver = "vfs"\nstorage.runroot = "/run/containers/storage"\n'
        b'storage.graphroot = "/var/lib/containers/storage"\n'
    },
    "vfs in a line": {
        "storage.conf": b'storage = {driver = "vfs", runroot = "/run/containers/storage", '
        b'graphroot = "/var/lib/containers/storage"}\n'
    },
    "btrfs": _main('[storage.options.btrfs]\nmin_space = "1G"\n', _headed(driver="btrfs")),
    "zfs": _main('[storage.options.zfs]\nfsname = "tank/c"\n', _headed(driver="zfs")),
    "overlay2": _main("", _headed(driver="overlay2")),
    "no such driver": _main("", _headed(driver="overla")),
    "former driver": _main("", _headed(driver="devicemapper")),
    "no driver": _main("", _headed(driver="")),
    "empty driver": _main("", _headed().replace('"overlay"', '""')),
}
_PLACES = {
    "graphroot elsewhere": _main("", _headed(graphroot="@home@/graph")),
    "own runroot": _main("", _headed(runroot="@home@/run")),
    "no runroot": _main(_OVERLAY.format('mountopt = "nodev"'), _headed(runroot="")),
    "no directories": _main("", _headed(runroot="", graphroot="")),
    "options alone": _main("", '[storage.options]\nsize = ""\n'),
    "comments alone": _main("", "# nothing yet\n\n# [storage]\n# driver = 'vfs'\n"),
    "for ordinary users": _main("", _headed(rootless_storage_path="@home@/rootless")),
    "short-lived": _main("", f"{_HEAD}transient_store = true\n"),
}
_OTHERS = {
    "another store": _main(_STORES.format('"@there@"')),
    "stores, over lines": _main(_STORES.format('\n  # first\n  "@there@", # theirs\n')),
    "a store that is gone": _main(_STORES.format('"@there@", "@gone@"')),
    "a store twice": _main(_STORES.format('"@there@", "@there@/"')),
    "appending": _main(_STORES.format('"@there@", {append=true}')),
    "appending, over lines": _main(_STORES.format('\n"@there@",\n{ append = false },\n')),
    "not an array": _main('[storage.options]\nadditionalimagestores = "@there@"\n'),
    "indented": _main(
        "\t[storage.options]\n\t  additionalimagestores = []\n\t[storage.options.overlay]\n"
        "\t  mount_program = '@fuse@'\n",
        _HEAD.replace("\n", "\n  "),
    ),
    "capitals": _main("", _HEAD.replace("driver", "Driver").replace("graphroot", "GraphRoot")),
    "options of pulls": _main(
        '[storage.options]\npull_options = {enable_partial_images = "false", ostree_repos = ""}\n'
    ),
    "maps of users": _main(
        '[storage.options]\nremap-uids = "0:1668442479:65536"\nauto-userns-min-size = 1024\n'
    ),
    "unknown keys": _main('[storage.options]\nmagic = "yes"\n[more]\nx = 1\n'),
    "an open quotation mark": _main('[storage.options]\nsize = "1G\n'),
    "a table twice": _main('[storage]\ndriver = "vfs"\n'),
    "latin letters": {"storage.conf": f"# caf\xe9\n{_HEAD}".encode("latin-1")},
}
_DROPPED = {
    "drop-in with a driver": _main("", drop_in='[storage]\ndriver = "vfs"\n'),
    "drop-in with a program": _main("", drop_in=_OVERLAY.format('mount_program = "@fuse@"')),
    "drop-in with a mask": _main(
        _OVERLAY.format('force_mask = "0700"'), drop_in=_OVERLAY.format('force_mask = "0755"')
    ),
    "drop-in that appends": _main("", drop_in=_STORES.format('"@there@", {append=true}')),
    "drop-in that replaces": _main(_STORES.format('"@gone@"'), drop_in=_STORES.format('"@there@"')),
    "drop-in alone": {_DROP_IN: _OVERLAY.format('mountopt = "nodev"').encode()},
}
_CONTAINERS = {
    name: {"storage.conf": DEBIAN, _CONTAINERS_DROP_IN: f"[containers]\n{text}\n".encode()}
    for name, text in {
        "kept IDs": 'userns = "keep-id"',
        "automatic IDs": 'userns = "auto"\nvolumes = ["/cvmfs:/cvmfs:ro"]',
        "volumes of no array": 'volumes = "/cvmfs:/cvmfs"',
        "an open bracket": 'userns = "host"\ndevices = [',
        "a runtime that is gone": '[engine]\nruntime = "gone"\ncgroup_manager = "cgroupfs"',
        "usual IDs": 'userns = "host"\n[engine]\nenv = ["STORAGE_OPTS=overlay.mountopt=nodev"]',
    }.items()
}
#: Names that no image of the tests has.
_PREFIX = '[[registry]]\nprefix = "example.org"\n'
_REGISTRIES = {
    name: {"storage.conf": DEBIAN, f"registries.conf{place}": text.encode()}
    for name, place, text in (
        ("version 1", "", "[registries.search]\nregistries = ['docker.io']\n"),
        ("both versions", "", f"[registries.block]\nregistries = []\n{_PREFIX}"),
        ("a blocked registry", "", f"{_PREFIX}blocked = true\n"),
        ("mirrors", "", f'{_PREFIX}location = "a.org"\n[[registry.mirror]]\nlocation = "b.org"\n'),
        ("a bad mode", "", 'short-name-mode = "maybe"\n'),
        ("a bad prefix", "", '[[registry]]\nprefix = "https://example.org"\n'),
        ("search with capitals", "", 'Unqualified-Search-Registries = ["quay.io"]\n'),
        ("aliases", ".d/50-site.conf", '[aliases]\n"app" = "example.org/app"\n'),
        ("broken drop-in", ".d/50-site.conf", "[[registry]\n"),
        ("marked", "", "\ufeff" + _PREFIX),
    )
}
_NOTHING: Mapping[str, Kind] = {"nothing": {}}
KINDS: Mapping[str, Kind] = {
    **_SPELT,
    "in the manner of Fedora, with a program": {
        "storage.conf": FEDORA.replace(
            b"[storage.options.thinpool]", b'mount_program = "@fuse@"\n[storage.options.thinpool]'
        )
    },
    **_MOUNTS,
    **_DRIVERS,
    **_PLACES,
    **_OTHERS,
    **_DROPPED,
    **_CONTAINERS,
    **_REGISTRIES,
    **_NOTHING,
}
