# SPDX-License-Identifier: Apache-2.0
"""Images of this machine's own programs, whose start opens many files: for benchmarks."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from tests.support import images
from tests.support.images import Built, Image
from tests.support.layers import MTIME, Entry, directory, file, symlink

_LIBRARY = re.compile(r"(/\S+) \(0x")
#: A program that imports half of the standard library.
_IMPORTS = (
    "import asyncio, ctypes, decimal, email.message, html.parser, http.server, logging.config, "
    "multiprocessing.pool, sqlite3, ssl, tarfile, unittest, urllib.request, xml.dom.minidom"
)
PYTHON = Image(
    "b/python:1",
    ["programs-base:zstd", "programs-python:zstd"],
    {"Env": ["PATH=/usr/bin"], "Cmd": ["python3", "-I", "-c", _IMPORTS + "; print('ready')"]},
    prints="ready\n",
)
COMPILED = Image(
    "b/curl:1",
    ["programs-base:zstd", "programs-curl:zstd"],
    {"Env": ["PATH=/usr/bin"], "Entrypoint": ["curl"], "Cmd": ["--version"]},
)


def build_programs() -> tuple[Built, Built]:
    """The two images. curl must be installed."""
    curl = shutil.which("curl")
    assert curl is not None
    python = os.path.realpath(shutil.which("python3", path="/usr/bin") or "")
    version = os.path.basename(python)
    library = sysconfig.get_path("stdlib", vars={"installed_base": "/usr"})
    library = f"/usr/lib/{os.path.basename(library)}"
    images.LAYERS["programs-base"] = _base()
    images.LAYERS["programs-curl"] = _files([curl, *_libraries([curl])])
    parts = [
        str(path)
        for path in sorted(Path(library).rglob("*"))
        if path.is_file() and not path.is_symlink()
    ]
    modules = [path for path in parts if path.endswith(".so")]
    python_files = _files([python, *_libraries([python, *modules]), *parts])
    images.LAYERS["programs-python"] = [*python_files, symlink("usr/bin/python3", version)]
    return images.build(PYTHON), images.build(COMPILED)


def _base() -> list[Entry]:
    """The directories and the loader's files that all Debian images have."""
    names = ("dev", "etc", "proc", "sys", "tmp", "usr", "usr/bin", "usr/lib", "usr/lib64", "var")
    entries = [directory(name) for name in names]
    entries += [symlink(name, f"usr/{name}") for name in ("bin", "lib", "lib64")]
    entries.append(file("etc/passwd", "root:x:0:0::/root:/bin/sh\n"))
    configured = [Path("/etc/ld.so.cache"), Path("/etc/ld.so.conf")]
    configured += sorted(Path("/etc/ld.so.conf.d").glob("*.conf"))
    entries.append(directory("etc/ld.so.conf.d"))
    entries += [file(str(path)[1:], path.read_bytes()) for path in configured]
    return entries


def _libraries(programs: Iterable[str]) -> list[str]:
    """The libraries that the loader would load with any of these, and the loader."""
    found: set[str] = set()
    for program in programs:
        done = subprocess.run(["ldd", program], capture_output=True, encoding="utf-8")
        found.update(_LIBRARY.findall(done.stdout))
    return sorted(found)


def _files(paths: Iterable[str]) -> list[Entry]:
    """These files of the machine, with their directories; links to files become the files."""
    entries: dict[str, Entry] = {}
    for path in paths:
        where = Path(os.path.realpath(os.path.dirname(path))) / os.path.basename(path)
        for above in reversed(where.parents[:-1]):
            name = str(above)[1:]
            entries.setdefault(name, directory(name))
        data = where.read_bytes()
        if where.suffix == ".pyc":
            # It names its source's time of change (PEP 552), and all files in layers have this one.
            data = data[:8] + MTIME.to_bytes(4, "little") + data[12:]
        entries[str(where)[1:]] = file(str(where)[1:], data, where.stat().st_mode & 0o777)
    return list(entries.values())
