# SPDX-License-Identifier: Apache-2.0
"""The containers/storage of three podman generations on the same stores."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from podman_cvmfs.storage_native import Kind, judge
from podman_cvmfs.store.reader import read_store
from tests.support.native import (
    JudgeMissingError,
    Root,
    disagreements,
    judges,
    other_releases,
    root_directory,
)
from tests.support.required import required
from tests.support.roots import host_codename

_VERSIONS = {"bookworm": "1.43.", "trixie": "1.57.", "sid": "1.6"}


@pytest.fixture(scope="module")
def others() -> dict[str, Path]:
    """Code name -> root file system of the other releases, with everything built."""
    try:
        judges()
        return other_releases()
    except JudgeMissingError as err:
        required(str(err))
        raise


@pytest.fixture(scope="module")
def inside(others: dict[str, Path]) -> Iterator[dict[str, Root]]:
    """Code name -> the release to run commands in."""
    roots = {name: Root(path) for name, path in others.items()}
    yield roots
    for root in roots.values():
        root.close()


def test_each_release_has_its_own_library(others: dict[str, Path], store: Path) -> None:
    found = {
        name: judge(str(store), artefact=artefact).storage for name, artefact in judges().items()
    }
    assert set(found) == {host_codename(), *others}
    for name, version in found.items():
        assert version.startswith(_VERSIONS[name])


@pytest.mark.usefixtures("others")
def test_all_agree_on_every_kind_of_store(all_stores: dict[str, Path]) -> None:
    for name, store in all_stores.items():
        assert (name, disagreements(store, judges())) == (name, [])


@pytest.mark.parametrize("kind", list(Kind))
def test_both_artefacts_where_they_belong(
    others: dict[str, Path],
    inside: dict[str, Root],
    sample_store: Path,
    store: Path,
    tmp_path: Path,
    kind: Kind,
) -> None:
    """In the release itself, with its own Python."""
    stores = [str(sample_store), str(store)]
    for name, root in inside.items():
        # Below the temporary directory, which the release sees too.
        artefact = tmp_path / f"{name}-{kind.value}"
        shutil.copy(root_directory(others[name]) / kind.value, artefact)
        done = root.python(
            *("-m", "podman_cvmfs.storage_native", "judge", *stores),
            PODMAN_CVMFS_NATIVE_LIBRARY=str(artefact),
        )
        assert done.returncode == 0, (name, done.stderr)
        for path, report in json.loads(done.stdout).items():
            content = read_store(path)
            assert content is not None
            assert report["errors"] == []
            assert report["checked"] == (not report["storage"].startswith("1.43."))
            assert report["names"] == dict(content.names)
            assert set(report["layers"]) == set(content.layers)


@pytest.mark.parametrize("kind", list(Kind))
def test_mounting_in_each_release(
    others: dict[str, Path],
    inside: dict[str, Root],
    sample_store: Path,
    tmp_path: Path,
    kind: Kind,
) -> None:
    for name, root in inside.items():
        artefact = tmp_path / f"{name}-{kind.value}"
        shutil.copy(root_directory(others[name]) / kind.value, artefact)
        done = root.python(
            "-c",
            "import os, sys\n"
            "from podman_cvmfs.storage_native import OpenStore\n"
            "with OpenStore(sys.argv[1]) as opened:\n"
            "    for image in opened.images():\n"
            "        with opened.mounted(image.image_id) as root:\n"
            "            print(os.path.isfile(f'{root}/bin/busybox'))\n",
            str(sample_store),
            PODMAN_CVMFS_NATIVE_LIBRARY=str(artefact),
        )
        assert done.stdout.split() == ["True"] * 3, (name, done.stderr)


@pytest.mark.parametrize("kind", list(Kind))
def test_the_configuration_in_each_release(
    others: dict[str, Path], inside: dict[str, Root], tmp_path: Path, kind: Kind
) -> None:
    stores = [str(tmp_path / "one"), str(tmp_path / "two")]
    for store in stores:
        Path(store).mkdir()
    conf = tmp_path / "storage.conf"
    conf.write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{tmp_path}/graph"\n'
        f'runroot = "{tmp_path}/run"\n[storage.options]\n'
        f"additionalimagestores = {json.dumps(stores)}\n"
    )
    for name, root in inside.items():
        artefact = tmp_path / f"{name}-{kind.value}"
        shutil.copy(root_directory(others[name]) / kind.value, artefact)
        done = root.python(
            "-c",
            "from podman_cvmfs.storage_native import effective_config\n"
            "found = effective_config()\n"
            "print(found.driver, found.graph_root, *found.additional_stores)\n",
            CONTAINERS_STORAGE_CONF=str(conf),
            PODMAN_CVMFS_NATIVE_LIBRARY=str(artefact),
        )
        assert done.stdout.split() == ["overlay", f"{tmp_path}/graph", *stores], done.stderr


@pytest.mark.usefixtures("others")
def test_check_finds_what_is_damaged(store: Path) -> None:
    """The library's own Check, from 1.57 on: with digests no layer without its tar headers."""
    for name, artefact in judges().items():
        report = judge(str(store), artefact=artefact, digests=True)
        assert report.checked == (name != "bookworm")
        assert bool(report.errors) == report.checked
        assert all("layer" in line for line in report.errors)
