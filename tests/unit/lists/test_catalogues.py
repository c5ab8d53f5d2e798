# SPDX-License-Identifier: Apache-2.0
"""Where catalogues are from, and that only the right ones are read."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from podman_cvmfs.errors import InputError, RegistryError
from podman_cvmfs.lists.catalogue_address import DIRECT, CatalogueAddress, CatalogueClient
from podman_cvmfs.lists.catalogues import Catalogues, hash_of
from podman_cvmfs.registry.objects import ObjectClient
from tests.support import catalogues
from tests.support.catalogues import Server

_OBJECTS: dict[str, bytes] = {}


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of ``_OBJECTS``."""
    found = Server(_OBJECTS.get)
    yield found
    found.close()
    _OBJECTS.clear()


def _put(data: bytes) -> str:
    found, packed = catalogues.stored(data)
    _OBJECTS[f"{found}C"] = packed
    return found


def test_a_plain_directory_is_no_client(tmp_path: Path) -> None:
    """Whoever owns it could set the attributes."""
    values = {
        "user.catalog_counters": f"catalog_hash: {'a' * 40}\ncatalog_mountpoint: \n",
        "user.host": "http://127.0.0.1:1",
        "user.proxy": "DIRECT",
    }
    for name, value in values.items():
        os.setxattr(tmp_path, name, value.encode())
    assert CatalogueClient(str(tmp_path)).address_of("") is None


def test_hashes_of_all_kinds() -> None:
    for suffix, algorithm in (("", "sha1"), ("-rmd160", "ripemd160")):
        if algorithm in hashlib.algorithms_available:
            wanted = hashlib.new(algorithm, b"data").hexdigest() + suffix
            assert hash_of(b"data", wanted) == wanted
    shake = hashlib.shake_128(b"data").hexdigest(20) + "-shake128"
    assert hash_of(b"data", shake) == shake and hash_of(b"x", shake) != shake
    address = CatalogueAddress(shake, "", "http://h/cvmfs/r", DIRECT)
    assert address.url == f"http://h/cvmfs/r/data/{shake[:2]}/{shake[2:]}C"


def test_a_catalogue_is_fetched_once(server: Server, tmp_path: Path) -> None:
    (tmp_path / "top").mkdir()
    found = _put(catalogues.database(str(tmp_path / "top"), "/a"))
    address = CatalogueAddress(found, "a", f"{server.address}/cvmfs/r", DIRECT)
    for _ in range(2):
        with Catalogues(str(tmp_path / "cache")).opened(address) as catalogue:
            assert len([*catalogue.rows()]) == 1
    assert server.asked == [f"/cvmfs/r/data/{found[:2]}/{found[2:]}C"]
    # Somebody has exchanged it: it is fetched again.
    (tmp_path / f"cache/catalogues/{found[:2]}/{found[2:]}").write_bytes(b"other")
    with Catalogues(str(tmp_path / "cache")).opened(address):
        assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("packed", "why"),
    [
        (zlib.compress(b"no database"), "damaged"),
        (zlib.compress(b"x" * 1000)[:-9], "damaged"),
        (b"not compressed", "damaged"),
        (b"", "damaged"),
        (zlib.compress(bytes(600 << 20), 1), "larger than"),
    ],
)
def test_damaged_objects_are_refused(
    packed: bytes, why: str, server: Server, tmp_path: Path
) -> None:
    found = hashlib.sha1(packed).hexdigest()
    _OBJECTS[f"{found}C"] = packed
    address = CatalogueAddress(found, "", server.address, DIRECT)
    with pytest.raises(InputError, match=why), Catalogues(None).opened(address):
        pass


def test_missing_ones_and_dead_servers_are_told(server: Server) -> None:
    for host in (server.address, "http://127.0.0.1:1"):
        address = CatalogueAddress("a" * 40, "", host, DIRECT)
        opened = Catalogues(None, ObjectClient(timeout=2)).opened(address)
        with pytest.raises(RegistryError), opened:
            pass
