# SPDX-License-Identifier: Apache-2.0
"""doctor looks at what pulls and syncs ask: policy.json, blob sources."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from podman_cvmfs.cache.sources import BLOBS, path_in_tree
from podman_cvmfs.doctor.facts import BlobSource
from podman_cvmfs.doctor.look.blob_sources import look_at_blob_sources
from podman_cvmfs.doctor.look.policy import look_at_policy
from podman_cvmfs.oci.big_data import big_data_file
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.settings.files import Settings, Signatures
from podman_cvmfs.store.reader import read_store
from tests.support.http import Handler, serving
from tests.support.stores import Spoilt

ACCEPT, REJECT = [{"type": "insecureAcceptAnything"}], [{"type": "reject"}]
SIGNED = [{"type": "sigstoreSigned", "keyPath": "/key"}]


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where podman of any version finds its policy."""
    path = tmp_path / ".config/containers/policy.json"
    path.parent.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".config"))
    monkeypatch.setenv("CONTAINERS_POLICY_JSON", str(path))
    return path


def test_images_that_the_policy_refuses(policy: Path) -> None:
    names = ["docker.io/library/debian:12", "quay.io/a/b:1", "docker.io/c/d:1", "not a name"]
    scopes = {"docker.io/library": REJECT, "quay.io": SIGNED}
    policy.write_text(json.dumps({"default": ACCEPT, "transports": {"docker": scopes}}))
    found = look_at_policy(names, Settings())
    assert list(found.rejected) == names[:1] and list(found.unsigned) == names[1:2]
    assert "rejects images of docker.io/library" in found.rejected[names[0]]
    assert "sigstoreSigned" in found.unsigned[names[1]]
    found = look_at_policy(names, Settings(signatures=Signatures.IGNORED))
    assert list(found.rejected) == names[:1] and not found.unsigned
    assert (found.path, found.rejects_others, found.mistrusts_others) == (str(policy), "", "")


def test_the_policy_for_all_other_images(policy: Path) -> None:
    policy.write_text(json.dumps({"default": REJECT}))
    assert "rejects all other images" in look_at_policy([], Settings()).rejects_others
    policy.write_text(json.dumps({"default": SIGNED}))
    found = look_at_policy([], Settings())
    assert not found.rejects_others and "demands a signature" in found.mistrusts_others
    policy.write_text("{")
    assert "not valid" in look_at_policy([], Settings()).problem


def test_blob_sources(spoilt: Spoilt, tmp_path: Path) -> None:
    content = read_store(str(spoilt.path))
    assert content is not None
    digest = Digest(min(content.images))
    good, spoiled, gone = tmp_path / "good", tmp_path / "spoiled", tmp_path / "gone"
    for place, data in ((good, b""), (spoiled, b"other")):
        path = place / path_in_tree(BLOBS, digest)
        path.parent.mkdir(parents=True)
        path.write_bytes(data or _config(spoilt, digest))

    def answer(handler: Handler) -> None:
        path = spoiled / handler.path.partition("/web/")[2]
        data = path.read_bytes() if path.is_file() else None
        handler.reply(404 if data is None else 200, data or b"")

    def late(handler: Handler) -> None:
        time.sleep(3)
        handler.reply(404)

    with serving() as server:
        server.answers.update({"/web/": answer, "/late/": late, "/bad/": lambda h: h.reply(500)})
        web, slow, bad = (f"http://{server.address}/{each}" for each in ("web", "late", "bad"))
        places = (*map(str, (good, spoiled, gone)), web, bad, slow)
        settings = Settings(store=str(spoilt.path), blob_sources=places)
        found = {each.place: each for each in look_at_blob_sources(settings, 1)}
    assert found[str(good)] == BlobSource(str(good))
    for each in (str(spoiled), web):
        assert found[each] == BlobSource(each, wrong=(str(digest),))
    assert found[str(gone)].problem == "no such directory"
    assert "500" in found[bad].problem and found[slow].problem
    assert look_at_blob_sources(Settings(store="/none", blob_sources=(str(good),)), 9) == (
        BlobSource(str(good)),
    )
    assert look_at_blob_sources(Settings(store=str(spoilt.path)), 9) == ()


def _config(spoilt: Spoilt, digest: Digest) -> bytes:
    """The genuine config of an image of the store."""
    path = Path(spoilt.path) / "overlay-images" / digest.hex / big_data_file(str(digest))
    return path.read_bytes()
