# SPDX-License-Identifier: Apache-2.0
"""What ``podman-cvmfs verify`` prints, and how it ends."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from podman_cvmfs.cli.verify import command
from podman_cvmfs.errors import PartialError, PodmanCvmfsError, StoreError
from podman_cvmfs.storage_native import CallError, StoreReport, Unavailable
from podman_cvmfs.verify import native
from tests.support.stores import Spoilt, small_repository


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def store(tmp_path: Path) -> Spoilt:
    return Spoilt(small_repository(tmp_path / "repository"), tmp_path)


def run(store: Spoilt, *args: str) -> Result:
    places = ["--store", store.path, "--cache", store.root / "cache"]
    repository = ["--repository", store.repository, "--offline"]
    return CliRunner().invoke(command, [*map(str, [*places, *repository]), *args])


def test_a_sound_store(store: Spoilt) -> None:
    done = run(store)
    assert (done.exit_code, done.output) == (0, "")


def test_an_error_ends_the_command_with_5(store: Spoilt) -> None:
    store.image_path("config").unlink()
    done = run(store)
    assert isinstance(done.exception, StoreError)
    assert done.output == (
        f"error: {store.image_path('config')}: is missing\n"
        f"  cure: podman-cvmfs verify --repair --store {store.path}\n"
    )


def test_a_warning_does_not(store: Spoilt) -> None:
    (store.path / ".current.new").symlink_to("x")
    done = run(store, "--format", "json")
    assert done.exit_code == 0
    (finding,) = json.loads(done.output)["findings"]
    assert finding["severity"] == "warning" and finding["path"].endswith("/.current.new")
    assert sorted(finding) == ["cure", "kind", "path", "severity", "what"]
    assert finding["kind"] == "leftover"


def test_a_repair(store: Spoilt) -> None:
    store.image_path("config").unlink()
    done = run(store, "--repair", "--format", "json")
    assert done.exit_code == 0
    shown = {"store": str(store.path), "findings": [], "repaired": True, "lost": []}
    assert json.loads(done.output) == shown
    assert "repaired" not in json.loads(run(store, "--repair", "--format", "json").output)


def test_a_repair_that_loses_something(store: Spoilt) -> None:
    lost = store.image.published[0]
    store.image_path("config").unlink()
    (store.repository / lost).unlink()
    (store.repository / ".metadata" / lost / "manifest.json").unlink()
    done = run(store, "--repair", "--format", "json")
    assert isinstance(done.exception, PartialError)
    assert json.loads(done.output)["lost"] == [lost]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (["the sizes differ"], "the sizes differ"),
        (CallError("storage", "no layer for image"), "no layer for image"),
        ([], ""),
    ],
)
def test_what_the_library_finds(
    store: Spoilt,
    monkeypatch: pytest.MonkeyPatch,
    answer: list[str] | PodmanCvmfsError,
    words: str,
) -> None:
    def asked(path: str) -> tuple[StoreReport, list[str]]:
        assert path == str(store.path)
        if isinstance(answer, PodmanCvmfsError):
            raise answer
        return StoreReport("1", {}, {}, {}, {}, (), True), answer

    monkeypatch.setattr(native, "verify_native", asked)
    done = run(store, "--native")
    assert isinstance(done.exception, StoreError) == bool(answer)
    assert words in done.output


def test_no_library(store: Spoilt, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: str) -> None:
        raise Unavailable("there is no library")

    monkeypatch.setattr(native, "verify_native", missing)
    assert isinstance(run(store, "--native").exception, Unavailable)


def test_a_store_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(command, ["--store", str(tmp_path / "file")])
    assert done.output == (
        f"error: {tmp_path / 'file'}: is not a directory\n  cure: name another path for the store\n"
    )
