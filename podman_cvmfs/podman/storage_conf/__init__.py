# SPDX-License-Identifier: Apache-2.0
"""The engine's own configuration: which files are in force, what they say, how to edit them."""
