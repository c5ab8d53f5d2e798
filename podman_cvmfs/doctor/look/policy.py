# SPDX-License-Identifier: Apache-2.0
"""Look at podman's ``policy.json``: which images of the store it refuses."""

from __future__ import annotations

from collections.abc import Iterable

from podman_cvmfs.doctor.facts import ImagePolicy
from podman_cvmfs.errors import InputError
from podman_cvmfs.names.reference import ImageName, parse_name
from podman_cvmfs.registry.signature_policy import SignaturePolicy, read_signature_policy
from podman_cvmfs.settings.files import Settings, Signatures, file_that_sets

#: An image that no policy names.
_ANY = "any.podman-cvmfs.invalid/any:any"


def look_at_policy(names: Iterable[str], settings: Settings) -> ImagePolicy:
    """The policy, and what it says about the store's image ``names``, if the settings heed that."""
    ignores_signatures = settings.signatures is Signatures.IGNORED
    try:
        strict = read_signature_policy(ignores_signatures)
        lax = read_signature_policy(ignore_signatures=True)
    except InputError as err:
        return ImagePolicy(problem=err.message, hint=err.hint or "")
    if strict is None or lax is None:
        return ImagePolicy()
    rejected: dict[str, str] = {}
    unsigned: dict[str, str] = {}
    for text in sorted(names):
        try:
            name = parse_name(text)
        except InputError:
            continue
        rule, is_rejected = _rule(name, strict, lax)
        if rule:
            (rejected if is_rejected else unsigned)[text] = rule
    default, is_rejected = _rule(parse_name(_ANY), strict, lax)
    return ImagePolicy(
        path=strict.path,
        rejected=rejected,
        unsigned=unsigned,
        rejects_others=default if is_rejected else "",
        mistrusts_others="" if is_rejected else default,
        settings_file=file_that_sets(settings, "signatures"),
    )


def _rule(name: ImageName, strict: SignaturePolicy, lax: SignaturePolicy) -> tuple[str, bool]:
    """The rule against an image, "" for no such rule, and whether it rejects the image although
    that were signed."""
    rule = lax.refusal(name)
    return (rule, True) if rule else (strict.refusal(name), False)
