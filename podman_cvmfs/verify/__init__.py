# SPDX-License-Identifier: Apache-2.0
"""Examine a store without podman, and mend it.

``inspection`` looks at files and notes faults, ``documents`` reads a generation's JSON. ``frame``,
``layers``, ``targets`` and ``images`` each examine one part, ``store`` drives them. ``repair``
repairs.
"""
