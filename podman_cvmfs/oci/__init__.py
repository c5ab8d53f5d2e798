# SPDX-License-Identifier: Apache-2.0
"""The formats of images: documents, digests, platforms, times. No I/O."""
