# SPDX-License-Identifier: Apache-2.0
"""The command line: parses arguments, prints results, sets the exit code."""
