# SPDX-License-Identifier: Apache-2.0
"""A registry client that knows nothing of this host, and what it asks for."""

from __future__ import annotations

import json
from typing import Any

from podman_cvmfs.oci import documents
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.registry.client import RegistryClient
from podman_cvmfs.registry.credentials import CredentialStore
from podman_cvmfs.registry.registries_conf import RegistriesConf

MANIFEST = json.dumps({"schemaVersion": 2, "mediaType": documents.OCI_MANIFEST, "x": " "}).encode()
DIGEST = Digest.of(MANIFEST)
BLOB = bytes(range(256)) * 4000


def new_client(**options: Any) -> RegistryClient:
    """A client that knows nothing of this host's configuration."""
    defaults = {"timeout": 5, "conf": RegistriesConf(), "credentials": CredentialStore([])}
    return RegistryClient(**{**defaults, **options})
