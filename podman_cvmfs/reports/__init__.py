# SPDX-License-Identifier: Apache-2.0
"""Answers to users' questions about store and repository. Nothing here changes either."""
