# SPDX-License-Identifier: Apache-2.0
"""Finds who uses the store's layers, and removes unused ones."""
