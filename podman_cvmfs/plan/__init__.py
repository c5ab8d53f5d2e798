# SPDX-License-Identifier: Apache-2.0
"""Compare the present store with the wanted one, and lay out its layers. Pure: no I/O."""
