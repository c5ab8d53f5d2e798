# SPDX-License-Identifier: Apache-2.0
"""Keeps documents of registries and facts about layers."""
