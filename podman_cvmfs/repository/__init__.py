# SPDX-License-Identifier: Apache-2.0
"""What lies in a repository of unpacked images. Reads only."""
