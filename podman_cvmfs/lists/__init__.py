# SPDX-License-Identifier: Apache-2.0
"""File lists: every entry of a layer or an image, and where lists come from."""
