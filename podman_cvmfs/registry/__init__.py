# SPDX-License-Identifier: Apache-2.0
"""Asks registries for what a repository lacks: configs, manifests, tag lists, blobs."""
