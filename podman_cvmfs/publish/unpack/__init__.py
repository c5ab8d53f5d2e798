# SPDX-License-Identifier: Apache-2.0
"""Unpack layers, and merge them into one root."""
