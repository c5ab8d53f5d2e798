# SPDX-License-Identifier: Apache-2.0
"""``python -m podman_cvmfs`` is the same command as ``podman-cvmfs``."""

from podman_cvmfs.cli.main import main

if __name__ == "__main__":
    main()
