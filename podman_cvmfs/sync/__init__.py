# SPDX-License-Identifier: Apache-2.0
"""Bring a store up to date: choose images, complete them, plan the store, write it."""
