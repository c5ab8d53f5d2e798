# SPDX-License-Identifier: Apache-2.0
"""Wish lists at a web server: asked for at each sync, and kept for the day it is down."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from podman_cvmfs.cache.list_copies import ListCopy, copy_path, keep_copy, read_copy
from podman_cvmfs.errors import InputError
from podman_cvmfs.registry import certificates
from podman_cvmfs.settings.files import RegistrySettings, Settings
from podman_cvmfs.sync import fetch_lists
from podman_cvmfs.sync.fetch_lists import ListFetcher
from podman_cvmfs.sync.wish_list import read_wish_list
from tests.support.cli import Target, podman_cvmfs
from tests.support.http import Handler, Server, give
from tests.support.settled import target_of
from tests.support.tls import Authority
from tests.support.world import app


def recipe(*images: str) -> bytes:
    return f"version: 1\nuser:\ninput: {json.dumps(images)}\n".encode()


def versioned(data: bytes, etag: str) -> Callable[[Handler], None]:
    """Answers as a web server does that knows the version of a file."""

    def answer(handler: Handler) -> None:
        if handler.headers.get("If-None-Match") == etag:
            handler.reply(304, ETag=etag)
        else:
            handler.reply(200, data, ETag=etag, Last_Modified="Mon, 30 Nov 2026 12:00:00 GMT")

    return answer


class Site:
    """A repository of three images, and a server with the list of the wanted ones."""

    def __init__(self, target: Target, server: Server, settings: Path) -> None:
        self.target, self.server, self.settings = target, server, settings
        self.address = f"http://{server.address}/list.yaml?token=secret"
        settings.write_text(
            f'wish_lists = ["{self.address}"]\noffline = true\n[registries]\nretries = 0\n'
        )

    def sync(self) -> subprocess.CompletedProcess[str]:
        return podman_cvmfs(*self.target.argv("--format", "json"), settings=self.settings)

    def report(self) -> tuple[bool, int, str]:
        """Whether a sync changed the store, how many images there are, and what it said."""
        done = self.sync()
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        return found["changed"], found["images"], done.stderr


@pytest.fixture
def site(tmp_path: Path, repository: Path, server: Server) -> Site:
    return Site(target_of(tmp_path, repository), server, tmp_path / "settings.toml")


def test_a_list_is_fetched_kept_and_asked_for_again(site: Site) -> None:
    site.server.answers["/list.yaml"] = versioned(recipe(app(0)), '"1"')
    assert site.report()[:2] == (True, 1)
    assert site.report() == (False, 1, "")
    asked = [headers.get("If-None-Match") for _, headers in site.server.requests]
    assert asked == [None, '"1"']
    assert site.server.requests[1][1]["If-Modified-Since"].startswith("Mon, 30 Nov")
    site.server.answers["/list.yaml"] = versioned(recipe(app(0), app(1)), '"2"')
    assert site.report()[:2] == (True, 2)


@pytest.mark.parametrize("bad", [give(b"", 500), give(b"<html>log in"), give(b"", 404)])
def test_the_last_good_copy_stays_in_force(site: Site, bad: Callable[[Handler], None]) -> None:
    site.server.answers["/list.yaml"] = versioned(recipe(app(0)), '"1"')
    site.report()
    site.server.answers["/list.yaml"] = bad
    changed, images, said = site.report()
    assert (changed, images) == (False, 1)
    assert "the last good copy is used" in said and "secret" not in said
    site.server.answers["/list.yaml"] = versioned(recipe(app(0)), '"1"')
    assert site.report() == (False, 1, "")


def test_a_list_that_was_never_fetched_is_an_error(site: Site) -> None:
    done = site.sync()
    assert done.returncode == 3
    assert "the wish list http://" in done.stderr and "answered HTTP 404" in done.stderr
    assert "secret" not in done.stderr
    assert not site.target.store.exists()
    with pytest.raises(InputError, match="has never been fetched") as caught:
        read_wish_list(site.address, str(site.target.cache))
    assert "secret" not in caught.value.line


def test_a_list_is_not_longer_than_others(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_lists, "MAX_WISH_LIST", 100)
    server.answers["/"] = give(recipe(*["image"] * 50))
    settings = Settings(wish_lists=(f"http://{server.address}/r.yaml",), cache=str(tmp_path))
    with pytest.raises(InputError, match="exceeds 100 bytes"):
        ListFetcher(settings).refresh()


def test_a_list_may_not_come_by_http_from_elsewhere(tmp_path: Path, server: Server) -> None:
    server.answers["/"] = give(b"", 302, Location="http://192.0.2.1/r.yaml")
    limits = RegistrySettings(timeout=0.3, retries=0)
    settings = Settings(
        wish_lists=(f"http://{server.address}/r",), cache=str(tmp_path), registries=limits
    )
    with pytest.raises(InputError):
        ListFetcher(settings).refresh()


def test_a_watch_asks_once_a_minute(tmp_path: Path, server: Server) -> None:
    server.answers["/"] = give(recipe("debian"))
    settings = Settings(wish_lists=(f"http://{server.address}/r.yaml",), cache=str(tmp_path))
    watch = ListFetcher(settings, fetch_lists.WATCH_PAUSE)
    assert watch.refresh() == watch.refresh() == ()
    assert len(server.requests) == 1
    each_time = ListFetcher(settings)
    each_time.refresh()
    each_time.refresh()
    assert len(server.requests) == 3


def test_a_watch_tells_once_that_a_list_is_not_to_be_had(site: Site) -> None:
    site.server.answers["/list.yaml"] = give(recipe(app(0)))
    site.report()
    site.server.answers["/list.yaml"] = give(b"", 500)
    argv = [sys.executable, "-m", "podman_cvmfs", *site.target.argv("--watch", "--interval", "0.1")]
    environment = {**os.environ, "PODMAN_CVMFS_CONFIG": str(site.settings)}
    asked = len(site.server.requests)
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, env=environment) as watch:
        try:
            end = time.monotonic() + 20
            while len(site.server.requests) == asked and time.monotonic() < end:
                time.sleep(0.05)
            time.sleep(1)
            watch.send_signal(signal.SIGTERM)
            _, said = watch.communicate(timeout=20)
        finally:
            watch.kill()
    assert len(site.server.requests) == asked + 1
    assert said.count("the last good copy is used") == 1, said


def test_certificates_are_those_for_registries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path / "authority")
    issued = authority.issue("server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    monkeypatch.setattr(certificates, "SYSTEM_DIRECTORIES", (str(tmp_path / "certs.d"),))
    with Server() as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.answers["/"] = give(recipe("debian"))
        threading.Thread(target=ThreadingHTTPServer.serve_forever, args=(server, 0.01)).start()
        try:
            address = f"https://{server.address}/r.yaml"
            settings = Settings(wish_lists=(address,), cache=str(tmp_path / "cache"))
            with pytest.raises(InputError, match="certificate"):
                ListFetcher(settings).refresh()
            trusted = tmp_path / "certs.d" / server.address
            trusted.mkdir(parents=True)
            (trusted / "ca.crt").write_bytes(authority.certificate.read_bytes())
            assert ListFetcher(settings).refresh() == ()
            assert len(read_wish_list(address, settings.cache).specs) == 1
        finally:
            server.shutdown()


def test_copies(tmp_path: Path) -> None:
    cache, address = str(tmp_path), "https://a.example.org/list"
    assert read_copy(cache, address) is None
    copy = ListCopy(b"a\nb\n", '"x"', "")
    keep_copy(cache, address, copy)
    assert read_copy(cache, address) == copy
    for spoilt in (b"", b"{}\n", b"[]\na", b'{"address": "b", "etag": "", "modified": ""}\na'):
        Path(copy_path(cache, address)).write_bytes(spoilt)
        assert read_copy(cache, address) is None
