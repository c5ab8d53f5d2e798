# SPDX-License-Identifier: Apache-2.0
"""Everything that makes podman with our store fail or slow: found, explained, and how it is cured.

``look`` looks at the machine and writes down ``facts``; ``judge`` finds ``conditions`` in them and
does nothing else. Nothing is changed.
"""
