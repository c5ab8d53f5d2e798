# SPDX-License-Identifier: Apache-2.0
"""Make complete images of what repositories offer."""
