# SPDX-License-Identifier: Apache-2.0
"""Whatever the parsers and a sync are given, they answer or refuse, soon, and harm nothing."""
