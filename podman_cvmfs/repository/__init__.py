# SPDX-License-Identifier: Apache-2.0
"""Reads repositories of unpacked images."""
