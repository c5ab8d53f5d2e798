# SPDX-License-Identifier: Apache-2.0
"""Reads ``policy.json``: which images of registries podman accepts.

podman asks it when it pulls, but not when it starts an image from a store. So images that podman
wouldn't pull must not get into the store. Format and files: containers-policy.json(5); scopes:
containers/image v5.36 and v5.40 ``docker/policyconfiguration/naming.go``; which name is asked for:
``docker/docker_image_src.go`` (``logicalRef``), containers/common ``libimage/pull.go``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.names.reference import ImageName
from podman_cvmfs.podman.registries_rules import RegistriesRules, registries_rules
from podman_cvmfs.settings.paths import policy_files
from podman_cvmfs.util.foreign_file import read_bounded

_LIMIT = 1024 * 1024
_ACCEPT, _REJECT = "insecureAcceptAnything", "reject"
_SIGNED = ("signedBy", "sigstoreSigned", "signedBaseLayer")
#: Scope -> the types of its requirements. An image must meet all of them.
_Scopes = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class SignaturePolicy:
    """The part of the policy for images of registries.

    ``default`` are the types of the requirements for images without a scope of their own. With
    ``ignores_signatures`` an image that needs a signature counts as accepted.
    """

    path: str
    default: Sequence[str]
    scopes: _Scopes
    ignores_signatures: bool = False

    def refusal(self, name: ImageName) -> str:
        """The rule by which podman doesn't take an image called ``name`` unless it is signed, as a
        sentence; "" if there is no such rule."""
        # Most files have a default alone, and a sync asks for thousands of names.
        scopes = _scopes_of(name.canonical) if self.scopes else ()
        scope = next((each for each in scopes if each in self.scopes), None)
        types = self.default if scope is None else self.scopes[scope]
        where = f"images of {printable(scope)}" if scope else "all other images"
        if _REJECT in types:
            return f"{printable(self.path)} rejects {where}"
        signed = [each for each in types if each != _ACCEPT]
        if signed and not self.ignores_signatures:
            return f"{printable(self.path)} demands a signature for {where} ({signed[0]})"
        return ""


def read_signature_policy(
    ignore_signatures: bool = False, rules: RegistriesRules | None = None
) -> SignaturePolicy | None:
    """The policy of this user's podman, None if there is no file. ``rules`` are those by which
    podman finds its files; None: those of the installed podman. Raises InputError for a file that
    podman can't read either."""
    for path in _places(rules):
        try:
            data = read_bounded(path, _LIMIT)
        except FileNotFoundError:
            continue
        except OSError as err:
            raise InputError(f"can't read {printable(path)}: {err.strerror}") from None
        return parse_signature_policy(data, path, ignore_signatures)
    return None


def _places(rules: RegistriesRules | None) -> Sequence[str]:
    """Where podman looks for the file. It is asked for its rules only where these matter: to run
    podman takes as long as to sync hundreds of images."""
    if rules is not None:
        return policy_files(rules.everywhere)
    new, old = (
        next((path for path in policy_files(everywhere) if os.path.lexists(path)), None)
        for everywhere in (True, False)
    )
    return policy_files(new == old or registries_rules().everywhere)


def parse_signature_policy(
    data: bytes, path: str, ignore_signatures: bool = False
) -> SignaturePolicy:
    """Parse what stands in the file at ``path``. Raises InputError."""

    def unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a key is set twice")
        return found

    try:
        document = json.loads(data.decode("utf-8"), object_pairs_hook=unique)
        if not isinstance(document, dict) or document.keys() - {"default", "transports"}:
            raise ValueError('it must have "default" and may have "transports", nothing else')
        default = _types(document.get("default"))
        transports = document.get("transports", {})
        docker = transports.get("docker", {}) if isinstance(transports, dict) else None
        if not isinstance(docker, dict):
            raise ValueError('"transports" must have an object for each transport')
        scopes = {scope: _types(each) for scope, each in docker.items()}
    except (ValueError, RecursionError) as err:
        raise InputError(
            f"{printable(path)}: not valid: {printable(str(err))}",
            "correct it: see containers-policy.json(5)",
        ) from None
    return SignaturePolicy(path, default, scopes, ignore_signatures)


def _types(value: object) -> tuple[str, ...]:
    """The types of a list of requirements. Raises ValueError."""
    if not isinstance(value, list) or not value:
        raise ValueError("each list of requirements must have an entry")
    found = []
    for each in value:
        kind = each.get("type") if isinstance(each, dict) else None
        if kind not in (_ACCEPT, _REJECT, *_SIGNED):
            raise ValueError(f"no such type of requirement: {kind!r}")
        found.append(kind)
    return tuple(found)


def _scopes_of(name: ImageName) -> Iterator[str]:
    """The scopes that fit an image, the best first: itself, its repository, what is above that, the
    wildcards of its host, and last the default for all registries.

    podman drops the tag of a name that has a digest, too. A mirror's name is never asked for.
    """
    yield str(name if name.digest is None else replace(name, tag=None))
    text = f"{name.registry}/{name.repository}"
    while text:
        yield text
        text = text.rpartition("/")[0]
    host = name.registry.partition(":")[0]
    while "." in host:
        host = host.partition(".")[2]
        yield f"*.{host}"
    yield ""
