# SPDX-License-Identifier: Apache-2.0
"""The on-disk format of the additional image store: read, written, locked."""
