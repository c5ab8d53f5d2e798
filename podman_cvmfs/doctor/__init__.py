# SPDX-License-Identifier: Apache-2.0
"""Find everything that makes podman with our store fail or slow, and say what it means and what
cures it.

``look`` examines the machine and collects ``facts``. ``judge`` derives ``conditions`` from the
facts alone. Nothing is changed.
"""
