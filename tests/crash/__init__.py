# SPDX-License-Identifier: Apache-2.0
"""A sync cut off, or failing, at every single file-system call it makes."""
