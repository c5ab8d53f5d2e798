# SPDX-License-Identifier: Apache-2.0
"""Build hook: puts the library built from containers/storage into the wheel, where it can be, and
manual pages, completions and files for the administrator.

PODMAN_CVMFS_NATIVE=auto (the default) makes a pure wheel where Go or the sources are missing;
``require`` fails there, ``off`` always makes a pure one. An editable installation is to be quick:
it builds only when told ``require``, straight into the package directory.

PODMAN_CVMFS_SHARE=off leaves the rest out: a distribution's package has places of its own for it.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import tempfile
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

#: What installations have below ``share``, and where it is here. An administrator copies the files
#: of ``share/podman-cvmfs`` to where they belong; only a package knows that.
_SHARE = {
    "bash-completion/completions/podman-cvmfs": "packaging/completions/podman-cvmfs",
    "zsh/site-functions/_podman-cvmfs": "packaging/completions/_podman-cvmfs",
    "fish/vendor_completions.d/podman-cvmfs.fish": "packaging/completions/podman-cvmfs.fish",
    "podman-cvmfs/PACKAGES.md": "packaging/PACKAGES.md",
    "podman-cvmfs/config.toml": "packaging/debian/config.toml",
    "podman-cvmfs/containers.conf.d": "packaging/containers.conf.d",
    "podman-cvmfs/selinux": "packaging/selinux",
    "podman-cvmfs/storage.rootful.conf.d": "storage.conf.d",
    "podman-cvmfs/systemd": "packaging/systemd",
    "podman-cvmfs/tmpfiles.d": "packaging/tmpfiles.d",
}


class BuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Called by hatchling for each wheel."""

    _scratch: str | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build before the files are gathered. ``version`` is "editable" or "standard"."""
        if version == "standard" and os.environ.get("PODMAN_CVMFS_SHARE") != "off":
            self._add_share(build_data)
        self._add_library(version, build_data)

    def _add_share(self, build_data: dict[str, Any]) -> None:
        places = [self.root, os.path.join(self.root, "packaging")]
        sys.path[:0] = places
        try:
            from manual.pages import write_pages
        finally:
            del sys.path[: len(places)]
        pages = os.path.join(self._scratch_directory(), "man")
        write_pages(pages)
        shared = build_data["shared_data"]
        shared[pages] = "share/man"
        for inside, path in _SHARE.items():
            shared[os.path.join(self.root, path)] = f"share/{inside}"

    def _scratch_directory(self) -> str:
        if self._scratch is None:
            self._scratch = tempfile.mkdtemp(prefix="podman-cvmfs-wheel-")
        return self._scratch

    def _add_library(self, version: str, build_data: dict[str, Any]) -> None:
        sys.path.insert(0, self.root)
        try:
            from podman_cvmfs.storage_native import Unavailable
            from podman_cvmfs.storage_native.artefact import PACKAGE_DIRECTORY, Mode, mode
            from podman_cvmfs.storage_native.build import build, toolchain
        finally:
            sys.path.remove(self.root)
        wanted = mode()
        editable = version == "editable"
        if wanted is Mode.OFF or (editable and wanted is not Mode.REQUIRE):
            return
        try:
            tools = toolchain()
            if editable:
                build(PACKAGE_DIRECTORY, tools)
                return
            built = build(self._scratch_directory(), tools)
        except Unavailable as err:
            if wanted is Mode.REQUIRE:
                raise
            self.app.display_warning(f"without the containers/storage library: {err.message}")
            return
        for path in built:
            inside = f"podman_cvmfs/storage_native/{os.path.basename(path)}"
            build_data["force_include"][path] = inside
        build_data["pure_python"] = False
        # The library is loaded by ctypes, so any Python of this platform will do.
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Clean up."""
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
