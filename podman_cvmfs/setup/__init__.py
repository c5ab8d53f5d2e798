# SPDX-License-Identifier: Apache-2.0
"""Makes podman use the store, and takes that back."""
