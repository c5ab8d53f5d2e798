# SPDX-License-Identifier: Apache-2.0
"""Judge the facts of a machine. Pure: no I/O."""
