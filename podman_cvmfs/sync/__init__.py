# SPDX-License-Identifier: Apache-2.0
"""Bring a store up to date: what is wished for, chosen, completed, planned and written."""
