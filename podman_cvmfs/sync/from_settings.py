# SPDX-License-Identifier: Apache-2.0
"""Makes the request to a sync from settings and wish lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.cache.sources import BlobSources
from podman_cvmfs.lists.kept import KeptLists
from podman_cvmfs.lists.maker import ListMaker
from podman_cvmfs.plan.retirement import grace_of
from podman_cvmfs.registry.signature_policy import read_signature_policy
from podman_cvmfs.settings.files import Lists, OnOutage, Settings, Signatures
from podman_cvmfs.settings.policy import View
from podman_cvmfs.store.store import Store
from podman_cvmfs.sync.request import SyncRequest
from podman_cvmfs.sync.selection import Selection

if TYPE_CHECKING:
    from podman_cvmfs.registry.access import RegistrySource
    from podman_cvmfs.registry.web import WebClient


def request_of(settings: Settings, images: tuple[str, ...]) -> tuple[SyncRequest, list[str]]:
    """The request to a sync, and warnings about single entries of wish lists.

    Raises InputError for a list that can't be read.
    """
    specs = None
    warnings: list[str] = []
    if settings.wish_lists:
        from podman_cvmfs.sync.wish_list import read_wish_list

        lists = [read_wish_list(place, settings.cache) for place in settings.wish_lists]
        for each in lists:
            warnings += [*each.warnings, *(problem.message for problem in each.problems)]
        specs = [spec for each in lists for spec in each.specs]
    policy = read_signature_policy(settings.signatures is Signatures.IGNORED)
    refusals = {} if policy is None else {"refusal": policy.refusal}
    kept = KeptLists(settings.cache, settings.lists_budget)
    request = SyncRequest(
        repositories=settings.repositories,
        store=Store(settings.store, lists=kept, budget=settings.lists_budget),
        cache=BlobCache(settings.cache, BlobSources(settings.blob_sources, lambda: _web(settings))),
        registry=None if settings.offline else lambda: _registry(settings),
        requested=images,
        selection=Selection(specs, settings.include, settings.exclude, **refusals),
        platform=settings.platform,
        policy=settings.policy,
        maker=ListMaker(
            kept,
            # For all images of a repository they would be too many.
            makes=bool(images) or specs is not None,
            asks_registries=settings.lists is Lists.REGISTRY,
        ),
        not_exact=settings.not_exact if settings.view is View.EXACT else "",
        names_trusted=settings.reuse_from is not None,
        grace=grace_of(settings.grace_days),
        graphroots=settings.graphroots,
        hide_outage=settings.on_outage is OnOutage.HIDE,
    )
    return request, warnings


def _registry(settings: Settings) -> RegistrySource:
    from podman_cvmfs.registry.client import RegistryClient

    return RegistryClient(
        timeout=settings.registries.timeout,
        retries=settings.registries.retries,
        max_pause=settings.registries.max_pause,
    )


def _web(settings: Settings) -> WebClient:
    from podman_cvmfs.registry.web import WebClient

    limits = settings.registries
    return WebClient(limits.timeout, limits.retries, limits.max_pause)
