# SPDX-License-Identifier: Apache-2.0
"""Services whose podman has storage options of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from podman_cvmfs.podman.services import Service, replacing_options, services_without
from tests.support.storage_confs import STORE, places_below

_BOOTC = "--storage-opt=additionalimagestore=/usr/lib/bootc/storage"


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (f"[Container]\nImage=x\nGlobalArgs={_BOOTC}\n", (_BOOTC,)),
        (f"[Container]\nGlobalArgs=--log-level=debug \\\n  {_BOOTC}\n", (_BOOTC,)),
        ("[Kube]\nGlobalArgs = --root /srv/c --runroot /run/c\n", ("--root=/srv/c",)),
        ("[Container]\n# GlobalArgs=--root=/x\nPodmanArgs=--root=/x\n", ()),
        ("[Container]\nEnvironment=STORAGE_OPTS=x\nExec=podman --root /x ps\n", ()),
        (
            "[Service]\nEnvironment=A=1 STORAGE_OPTS=overlay.imagestore=/x\n",
            ("STORAGE_OPTS=overlay.imagestore=/x",),
        ),
        ('[Service]\nEnvironment="STORAGE_OPTS="\n', ("STORAGE_OPTS=",)),
        (
            "[Service]\nExecStart=podman --log-level info --storage-opt a=b run --root=/x i\n",
            ("--storage-opt=a=b",),
        ),
        ("[Service]\nExecStart=/usr/bin/podman run --storage-opt size=1G i\n", ()),
        ("[Service]\nExecStart=/usr/bin/podmanager --root /x\nExecStop=sh -c 'x\n", ()),
        (
            "[Service]\nExecStartPre=podman --storage-driver=overlay ps\n",
            ("--storage-driver=overlay",),
        ),
    ],
)
def test_options_that_replace(text: str, options: tuple[str, ...]) -> None:
    assert replacing_options(text) == options


def test_where_services_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    text = f"[Container]\nGlobalArgs={_BOOTC}\n"
    expected = []
    for name in (
        *("admin/systemd/a.container", "admin/systemd/group/b.kube", "vendor/systemd/c.pod"),
        "admin/systemd/d.container.d/10-x.conf",
        *(
            "admin/systemd/e.txt",
            "admin/systemd/users/f.container",
            "admin/systemd/x.container.d/y",
        ),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        expected.append(Service(str(path), (_BOOTC,)))
    (tmp_path / "admin/systemd/ours.container").write_text(
        f"{text}GlobalArgs=--storage-opt=imagestore={STORE}\n"
    )
    os.mkfifo(tmp_path / "admin/systemd/fifo.container")
    (tmp_path / "admin/systemd/large.container").write_text("#" * (1 << 17) + text)
    os.symlink("/dev/zero", tmp_path / "admin/systemd/device.container")
    os.symlink(".", tmp_path / "admin/systemd/loop.container.d")
    found = [
        each for each in services_without(STORE, places_below(tmp_path)) if _is_ours(each, tmp_path)
    ]
    assert {each.path for each in found} == {each.path for each in expected[:4]}
    user = tmp_path / "run/containers/systemd/g.container"
    user.parent.mkdir(parents=True)
    user.write_text(text)
    unit = tmp_path / "run/systemd/user/h.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("[Service]\nExecStart=podman --root=/x ps\n")
    found = [
        each
        for each in services_without(STORE, places_below(tmp_path, 1000))
        if _is_ours(each, tmp_path)
    ]
    assert [each.path for each in found] == [str(user), expected[5].path, str(unit)]


def _is_ours(service: Service, tmp_path: Path) -> bool:
    return service.path.startswith(str(tmp_path))
