# SPDX-License-Identifier: Apache-2.0
"""The manual pages: text from the files ``*.rst`` here, synopses and options from the commands."""
