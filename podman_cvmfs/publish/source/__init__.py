# SPDX-License-Identifier: Apache-2.0
"""Where images to publish come from."""
