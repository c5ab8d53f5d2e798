# SPDX-License-Identifier: Apache-2.0
"""Start-up profiles: which files an image opens when it starts, and how they are fetched early."""
