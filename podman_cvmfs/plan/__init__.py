# SPDX-License-Identifier: Apache-2.0
"""Compare what a store holds with what it is to hold, and lay it out. Pure: no I/O."""
