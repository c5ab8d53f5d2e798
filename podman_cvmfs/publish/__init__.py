# SPDX-License-Identifier: Apache-2.0
"""Fill a repository with unpacked images, in DUCC's layout."""
