# SPDX-License-Identifier: Apache-2.0
"""Who stands on the store's layers, and what may go because nobody does."""
