# SPDX-License-Identifier: Apache-2.0
"""Everything that makes podman with our store fail or slow: found, explained, and how it is cured.

``gather`` looks at the machine and writes down ``facts``; the ``judge_*`` modules find
``conditions`` in them and do nothing else. Nothing is changed.
"""
