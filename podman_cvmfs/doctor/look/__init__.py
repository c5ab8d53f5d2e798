# SPDX-License-Identifier: Apache-2.0
"""Look at a machine: the facts of which the doctor judges. Changes nothing."""
