# SPDX-License-Identifier: Apache-2.0
"""What images are called. Pure: no I/O."""
