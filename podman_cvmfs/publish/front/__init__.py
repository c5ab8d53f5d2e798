# SPDX-License-Identifier: Apache-2.0
"""A front of a registry: a push to it is done when the image is in the repository."""
