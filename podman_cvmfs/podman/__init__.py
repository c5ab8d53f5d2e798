# SPDX-License-Identifier: Apache-2.0
"""The podman on this machine, and its configuration."""
