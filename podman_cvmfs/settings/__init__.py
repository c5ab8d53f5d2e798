# SPDX-License-Identifier: Apache-2.0
"""What was decided, and where things are."""
