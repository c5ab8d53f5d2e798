# SPDX-License-Identifier: Apache-2.0
"""Complete the images that repositories offer."""
