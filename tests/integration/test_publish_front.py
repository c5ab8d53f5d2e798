# SPDX-License-Identifier: Apache-2.0
"""A registry whose push means "available": real clients push to it, and podman runs at once."""

from __future__ import annotations

import base64
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.support.cli import Target
from tests.support.guarded_registry import PASSWORD, USER, GuardedRegistry, htpasswd
from tests.support.images import Image, build, push, renamed, write_layout
from tests.support.podman import Host, running
from tests.support.registry import Registry
from tests.support.tls import Authority

INSECURE = ("--src-tls-verify=false", "--dest-tls-verify=false")
IMAGE = Image("t/app:1", ["base", "app"], {"Cmd": ["echo", "it runs"]})


class Front:
    """``podman-cvmfs registry`` before the registry ``upstream``."""

    def __init__(
        self,
        root: Path,
        upstream: str,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.target = Target(root / "repository", root / "store", root / "cache")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        self.url = f"http://{self.address}"
        settings = root / "settings.toml"
        settings.write_text(
            f'store = "{self.target.store}"\ncache = "{self.target.cache}"\n'
            f'repositories = ["{self.target.repository}"]\n'
        )
        (root / "token").write_text("s3cret\n")
        argv = [sys.executable, "-m", "podman_cvmfs", "registry", "--listen", self.address]
        argv += [
            "--upstream",
            f"http://{upstream}",
            "--repository",
            str(self.target.repository),
            "--sync",
        ]
        argv += ["--assume-nosuid", "--token-file", str(root / "token"), *options]
        self.log = root / "log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stderr=log,
                env={
                    "PODMAN_CVMFS_CONFIG": str(settings),
                    "PATH": "/usr/bin:/bin",
                    "HOME": str(root),
                    **(environment or {}),
                },
            )
        deadline = time.monotonic() + 30
        while "listening on" not in self.log.read_text():
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def count(self, what: str) -> float:
        found = re.search(rf"^podman_cvmfs_registry_{what}_total (\S+)", self.metrics(), re.M)
        assert found
        return float(found.group(1))

    def metrics(self) -> str:
        return requests.get(f"{self.url}/metrics", timeout=10).text

    def close(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


@pytest.fixture
def front(tmp_path: Path, registry: Registry) -> Iterator[Front]:
    root = tmp_path / "front"
    root.mkdir()
    found = Front(root, registry.address)
    try:
        yield found
    finally:
        if found.process.poll() is None:
            assert found.close() == 0, found.log.read_text()


def test_what_is_pushed_runs_at_once(
    front: Front, registry: Registry, tmp_path: Path, podman_host: Host
) -> None:
    source = push(build(IMAGE), registry)
    here = [registry.address, front.address]
    with running(tmp_path / "author", stores=[], insecure=here, on=podman_host) as author:
        author.run("pull", "--quiet", source)
        author.run("tag", source, f"{front.address}/lab/one:1")
        author.run("push", "--quiet", f"{front.address}/lab/one:1")
        author.tool(
            "skopeo",
            "copy",
            "-q",
            *INSECURE,
            f"docker://{source}",
            f"docker://{front.address}/lab/two:1",
        )
        author.tool("buildah", "push", "-q", source, f"docker://{front.address}/lab/three:1")
    names = [f"{front.address}/lab/{name}:1" for name in ("one", "two", "three")]
    with running(tmp_path / "user", stores=[front.target.store], on=podman_host) as user:
        for name in names:
            done = user.run("run", "--rm", "--pull=never", name)
            assert done.stdout == "it runs\n"
            assert user.inspect(name)["Id"] == build(IMAGE).image_id
    # Pulls go through it.
    with running(tmp_path / "other", stores=[], insecure=here, on=podman_host) as other:
        other.run("pull", "--quiet", names[0])
        assert other.run("run", "--rm", names[0]).stdout == "it runs\n"
    assert (front.count("pushes"), front.count("failed")) == (3, 0)
    assert requests.get(f"{front.url}/healthz", timeout=10).text == "ok\n"


def test_a_failed_publication_fails_the_push(
    front: Front, registry: Registry, tmp_path: Path, podman_host: Host
) -> None:
    source = push(build(IMAGE), registry)
    name = f"{front.address}/lab/app:1"
    # Something else is in the place of the repository's layers.
    front.target.repository.mkdir(mode=0o755)
    (front.target.repository / ".layers").write_text("in the way")
    copy = ["skopeo", "copy", "-q", *INSECURE, f"docker://{source}", f"docker://{name}"]
    with running(
        tmp_path / "author", stores=[], insecure=[registry.address, front.address], on=podman_host
    ) as author:
        done = author.tool(*copy, check=False)
        assert done.returncode != 0
        assert "pushed, but not published" in done.stderr
        assert ".layers is not a directory" in done.stderr
        (front.target.repository / ".layers").unlink()
        author.tool(*copy)
    with running(tmp_path / "user", stores=[front.target.store], on=podman_host) as user:
        user.run("run", "--rm", "--pull=never", name)


def test_many_pushes_share_batches(front: Front, registry: Registry) -> None:
    built = build(IMAGE)
    push(built, registry)
    manifest = built.manifest

    def put(number: int) -> int:
        return requests.put(
            f"{front.url}/v2/{built.repository}/manifests/tag{number}",
            data=manifest,
            headers={"Content-Type": built.media_type},
            timeout=120,
        ).status_code

    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(put, range(20))) == {201}
    assert front.count("published") == 20
    assert front.count("batches") < 10
    links = front.target.repository / front.address / "t"
    assert len([link for link in links.iterdir() if link.is_symlink()]) == 20


def test_notifications_of_other_registries(front: Front, registry: Registry) -> None:
    push(build(IMAGE), registry)
    push(renamed(build(IMAGE), "t/app:2"), registry)
    address = f"{front.url}/notifications"
    event = {"events": [{"action": "push", "target": {"repository": "t/app", "tag": "1"}}]}
    harbor = {
        "type": "PUSH_ARTIFACT",
        "event_data": {"resources": [{"tag": "2"}], "repository": {"repo_full_name": "t/app"}},
    }
    login = {"Authorization": "Bearer s3cret"}
    assert requests.post(address, json=event, timeout=10).status_code == 401
    wrong = {"Authorization": "Bearer other"}
    assert requests.post(address, json=event, headers=wrong, timeout=10).status_code == 401
    for bad in (
        b"{",
        b"[]",
        json.dumps(
            {"events": [{"action": "push", "target": {"repository": "../../etc", "tag": "1"}}]}
        ).encode(),
    ):
        assert requests.post(address, data=bad, headers=login, timeout=10).status_code == 400
    assert requests.post(address, json=event, headers=login, timeout=10).status_code == 202
    assert requests.post(address, json=harbor, headers=login, timeout=10).status_code == 202
    deadline = time.monotonic() + 60
    while front.count("published") < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    names = sorted(path.name for path in (front.target.repository / front.address / "t").iterdir())
    assert names == ["app:1", "app:2"]


def test_the_registry_behind_it_is_down(front: Front, registry: Registry) -> None:
    registry.stop()
    try:
        answer = requests.get(f"{front.url}/v2/", timeout=30)
        assert answer.status_code == 502
        assert "doesn't answer" in answer.json()["errors"][0]["message"]
        assert requests.get(f"{front.url}/healthz", timeout=30).status_code == 503
    finally:
        registry.start()
    assert requests.get(f"{front.url}/v2/", timeout=30).status_code == 200


def test_nothing_else_is_passed_on(front: Front) -> None:
    for path in ("/", "/debug/pprof", "/v1/x"):
        assert requests.get(front.url + path, timeout=10).status_code == 404
    big = requests.put(f"{front.url}/v2/t/app/manifests/1", data=bytes(5 << 20), timeout=30)
    assert big.status_code == 413


def test_tls_of_its_own_and_logins_of_the_registry(tmp_path: Path, podman_host: Host) -> None:
    authority = Authority(tmp_path / "ca")
    made = authority.issue("front")
    upstream = GuardedRegistry(tmp_path / "upstream", auth=htpasswd(tmp_path / "auth"))
    root = tmp_path / "front"
    root.mkdir()
    login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    (root / "auth.json").write_text(json.dumps({"auths": {upstream.address: {"auth": login}}}))
    try:
        front = Front(
            root,
            upstream.address,
            ("--tls-cert", str(made.certificate), "--tls-key", str(made.key)),
            {"REGISTRY_AUTH_FILE": str(root / "auth.json")},
        )
        try:
            layout = tmp_path / "layout"
            write_layout([build(IMAGE)], layout)
            name = f"docker://{front.address}/lab/app:1"
            with running(tmp_path / "author", stores=[], on=podman_host) as author:
                trusted = tmp_path / "trusted"
                trusted.mkdir()
                shutil.copy(authority.certificate, trusted / "ca.crt")
                copy = ["skopeo", "copy", "-q", f"--dest-cert-dir={trusted}"]
                refused = author.tool(*copy, f"oci:{layout}", name, check=False)
                assert refused.returncode != 0 and "authentication required" in refused.stderr
                creds = f"--dest-creds={USER}:{PASSWORD}"
                author.tool(*copy, creds, f"oci:{layout}", name)
            with running(tmp_path / "user", stores=[front.target.store], on=podman_host) as user:
                done = user.run("run", "--rm", "--pull=never", f"{front.address}/lab/app:1")
                assert done.stdout == "it runs\n"
        finally:
            assert front.close() == 0, front.log.read_text()
    finally:
        upstream.stop()
