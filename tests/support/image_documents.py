# SPDX-License-Identifier: Apache-2.0
"""An image's config and manifest with every field that podman knows, and some that it doesn't."""

from __future__ import annotations

from typing import Any

from podman_cvmfs.oci import documents

_DIGEST = "sha256:" + "a" * 64
TIME = "2020-09-13T12:26:40.5+02:00"
SETTINGS: dict[str, Any] = {
    **dict.fromkeys(("User", "WorkingDir", "StopSignal", "Hostname", "Domainname"), "text"),
    **dict.fromkeys(("Image", "MacAddress"), "text"),
    **{name: {"80/tcp": {}, "/data": None} for name in ("ExposedPorts", "Volumes")},
    **{name: ["word", None] for name in ("Env", "Cmd", "Entrypoint", "OnBuild", "Shell")},
    **dict.fromkeys(("AttachStdin", "AttachStdout", "AttachStderr", "Tty"), False),
    **dict.fromkeys(("OpenStdin", "StdinOnce", "ArgsEscaped", "NetworkDisabled"), True),
    "Labels": {"name": "value", "none": None},
    "Healthcheck": {
        **dict.fromkeys(("StartPeriod", "StartInterval", "Interval", "Timeout", "Retries"), 5),
        "Test": ["CMD", "true"],
    },
    "StopTimeout": 5,
    "Memory": 0,
}
CONFIG: dict[str, Any] = {
    **dict.fromkeys(("architecture", "os", "os.version", "variant"), "text"),
    **dict.fromkeys(("id", "parent", "comment", "container"), "text"),
    **dict.fromkeys(("docker_version", "author"), "text"),
    "os.features": ["feature"],
    "created": TIME,
    "config": SETTINGS,
    "container_config": {**SETTINGS, "Cmd": "one word"},
    "rootfs": {"type": "layers", "diff_ids": [_DIGEST]},
    "history": [
        {**dict.fromkeys(("created_by", "author", "comment"), "text"), "empty_layer": True},
        {"created": TIME},
        None,
    ],
    "Size": 5,
    "moby.buildkit.cache.v0": {"any": [1, 2.5, "thing"]},
}
DESCRIPTOR: dict[str, Any] = {
    "mediaType": documents.OCI_LAYER,
    "digest": _DIGEST,
    "size": 5,
    "urls": ["https://example.org/"],
    "annotations": {"name": "value"},
    "data": "aGVsbG8=",
    "platform": {
        **dict.fromkeys(("architecture", "os", "os.version", "variant"), "text"),
        "os.features": ["feature"],
    },
    "artifactType": "text",
}
MANIFEST: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": documents.OCI_MANIFEST,
    "artifactType": "text",
    "config": {**DESCRIPTOR, "mediaType": documents.OCI_CONFIG},
    "layers": [DESCRIPTOR],
    "subject": DESCRIPTOR,
    "annotations": {"name": "value"},
    "history": None,
}
