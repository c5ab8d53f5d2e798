# SPDX-License-Identifier: Apache-2.0
"""policy.json as skopeo, built on containers/image, understands it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from podman_cvmfs.errors import InputError
from podman_cvmfs.names.reference import parse_name
from podman_cvmfs.names.short import possible_names
from podman_cvmfs.registry.signature_policy import parse_signature_policy
from tests.support.images import IMAGES, build, push
from tests.support.podman import Host, running
from tests.support.registry import Registry

ACCEPT = [{"type": "insecureAcceptAnything"}]
REJECT = [{"type": "reject"}]
#: Nobody has signed the image.
SIGNED = [{"type": "signedBy", "keyType": "GPGKeys", "keyData": "bm8ga2V5"}]

#: In these, A stands for the registry's address, R for the image's repository, T for its tag.
SCOPES = ["A/R:T", "A/R:other", "A/R", "A/R/below", "A", "127.0.0.1", "*.0.0.1", "*.1", "*.0.2", ""]
DOCUMENTS: list[Any] = [
    *({"default": ACCEPT, "transports": {"docker": {scope: REJECT}}} for scope in SCOPES),
    *({"default": REJECT, "transports": {"docker": {scope: ACCEPT}}} for scope in SCOPES),
    {"default": ACCEPT},
    {"default": REJECT},
    {"default": [*ACCEPT, *REJECT]},
    {"default": SIGNED},
    {"default": [*ACCEPT, *SIGNED]},
    {"default": REJECT, "transports": {"docker": {"": REJECT, "A": SIGNED, "A/R": ACCEPT}}},
    {"default": ACCEPT, "transports": {"dir": {"": REJECT}, "atomic": {"A": REJECT}}},
    {"transports": {}},
    {"default": []},
    {"default": [{"type": "mystery"}]},
    {"default": ACCEPT, "other": 1},
]


def test_the_same_answers(tmp_path: Path, registry_process: Registry) -> None:
    registry_process.start()
    image = build(IMAGES[0])
    name = push(image, registry_process)
    wrong = {}
    for number, document in enumerate(DOCUMENTS):
        text = json.dumps(document)
        for short, full in (
            ("A/R", f"{registry_process.address}/{image.repository}"),
            (":T", f":{image.tag}"),
            ('"A"', f'"{registry_process.address}"'),
        ):
            text = text.replace(short, full)
        path = tmp_path / f"{number}.json"
        path.write_text(text)
        copy = ["copy", "--src-tls-verify=false", f"docker://{name}", f"dir:{tmp_path}/{number}"]
        done = subprocess.run(
            ["skopeo", "--policy", str(path), *copy],
            capture_output=True,
            text=True,
            timeout=120,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        )
        try:
            refusal = parse_signature_policy(text.encode(), str(path)).refusal(parse_name(name))
        except InputError as err:
            refusal = err.message
        if (done.returncode == 0) != (refusal == ""):
            wrong[text] = (done.stderr, refusal)
    assert not wrong


def test_which_name_is_asked_for(
    tmp_path: Path, registry_process: Registry, podman_host: Host
) -> None:
    """The name that is pulled, without the tag if it has a digest; a short one as it was
    completed. Where a mirror has the image doesn't matter."""
    registry_process.start()
    image = build(IMAGES[0])
    push(image, registry_process)
    address, path, tag = registry_process.address, image.repository, image.tag
    both = f"{address}/{path}:{tag}@{image.digest}"
    rules = [
        (f"example.invalid/{path}:{tag}", "example.invalid", True),
        (f"example.invalid/{path}:{tag}", address, False),
        (both, f"{address}/{path}@{image.digest}", True),
        (both, f"{address}/{path}:{tag}", False),
        (f"short:{tag}", f"{address}/{path}", True),
        (f"short:{tag}", "docker.io", False),
    ]
    aliases = {"short": f"{address}/{path}"}
    wrong = []
    with running(
        tmp_path, stores=[], insecure=[address], aliases=aliases, on=podman_host
    ) as podman:
        conf = tmp_path / "etc/registries.conf"
        mirrored = f'prefix = "example.invalid"\nlocation = "{address}"\ninsecure = true\n'
        conf.write_text(f"{conf.read_text()}[[registry]]\n{mirrored}")
        policy = tmp_path / "home/.config/containers/policy.json"
        for name, scope, is_refused in rules:
            document = {"default": ACCEPT, "transports": {"docker": {scope: REJECT}}}
            policy.write_text(json.dumps(document))
            done = podman.run("pull", name, check=False)
            if done.returncode == 0:
                podman.run("rmi", name)
            found = parse_signature_policy(policy.read_bytes(), str(policy))
            [meant] = possible_names(name, aliases, ())
            if not (bool(done.returncode) == bool(found.refusal(meant)) == is_refused):
                wrong.append((name, scope, done.stderr, found.refusal(meant)))
    assert not wrong
