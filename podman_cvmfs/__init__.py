# SPDX-License-Identifier: Apache-2.0
"""podman-cvmfs: container images unpacked in CernVM-FS, usable by podman without a pull."""

__version__ = "0.1.0"
