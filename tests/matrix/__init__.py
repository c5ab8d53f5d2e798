# SPDX-License-Identifier: Apache-2.0
"""The same comparisons on several generations of podman, as root and as an ordinary user."""
