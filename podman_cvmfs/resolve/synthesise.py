# SPDX-License-Identifier: Apache-2.0
"""Make up an image configuration from the repository's files, if the genuine one is lost.

The sources are the Singularity files in a merged root, in the form DUCC writes them
(``ducc/singularity``)::

    .singularity.d/env/10-docker2singularity.sh    export PATH="<value>"
                                                   export NAME="${NAME:-"<value>"}"
    .singularity.d/runscript                       OCI_ENTRYPOINT='"<word>" "<word>"'
                                                   OCI_CMD='"<word>"'

where a word is escaped for the shell, and a value is so escaped and then quoted as Go's ``%q``.
User, working directory, labels and volumes are in no file: they stay empty.
"""

from __future__ import annotations

import json
import posixpath
import re
import stat
import struct
from collections.abc import Sequence

from podman_cvmfs.errors import RepositoryError
from podman_cvmfs.oci.documents import Digest, ImageConfig, parse_config
from podman_cvmfs.repository.tree import Tree

#: Label of a made-up configuration; its value names the image ID the repository gives.
SYNTHESISED_LABEL = "io.github.podman-cvmfs.synthesised-for"

#: In a merged root; the publisher makes it.
_SCRIPTS = ".singularity.d"
_MAX_SCRIPT = 1024 * 1024
_EXPORT = re.compile(
    r'^export (?P<name>[^=\n]+)="(?:\$\{(?P=name):-"(?P<default>(?:[^"\\\n]|\\.)*)"\}|'
    r'(?P<value>(?!\$)(?:[^"\\\n]|\\.)*))"$',
    re.MULTILINE,
)
_WORDS = r"""'((?:"(?:[^"\\]|\\.)*" ?)*)'\n"""
_RUN = re.compile(f"^OCI_ENTRYPOINT={_WORDS}OCI_CMD={_WORDS}", re.MULTILINE | re.DOTALL)
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_SHELL_ESCAPE = re.compile(r'\\([\\"`$])')
_GO_ESCAPE = re.compile(r'\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|([abfnrtv\\"]))')
_GO_CONTROL = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}

#: ELF e_machine (and byte order, 1 little, 2 big) -> architecture as Go, and so OCI, names it.
_MACHINES = {
    (3, 1): "386",
    (62, 1): "amd64",
    (40, 1): "arm",
    (183, 1): "arm64",
    (243, 1): "riscv64",
    (21, 1): "ppc64le",
    (22, 2): "s390x",
    (258, 1): "loong64",
}
_PROGRAMS = ("bin/sh", "usr/bin/env", "bin/bash", "bin/busybox", "sbin/init")


def synthesise(
    tree: Tree,
    flat: str,
    image_id: Digest,
    diff_ids: Sequence[Digest],
    usual: str = "amd64",
    *,
    complete: bool = True,
) -> ImageConfig:
    """Make the configuration of the image whose merged root is ``flat`` in ``tree``.

    ``diff_ids`` are its layers', base first; ``image_id`` is the digest of the lost original.
    ``usual`` is the architecture if no program tells one. Unless ``complete``, Singularity files
    may be missing: old versions of Singularity wrote only some of them, and DUCC has lost some.
    Equal input gives equal bytes. Raises RepositoryError where the root can't be read.
    """
    directory = f"{flat}/{_SCRIPTS}"
    environment = _script(tree, f"{directory}/env/10-docker2singularity.sh", complete)
    runscript = _script(tree, f"{directory}/runscript", complete)
    entrypoint, command = run_words(runscript)
    runtime: dict[str, object] = {
        "Env": environment_of(environment),
        "Labels": {SYNTHESISED_LABEL: str(image_id)},
    }
    if entrypoint:
        runtime["Entrypoint"] = entrypoint
    if command:
        runtime["Cmd"] = command
    document = {
        "architecture": architecture_of(tree, flat, (*entrypoint[:1], *command[:1])) or usual,
        "os": "windows" if _is_of_windows(tree, flat) else "linux",
        "config": runtime,
        "rootfs": {"type": "layers", "diff_ids": [str(diff_id) for diff_id in diff_ids]},
        "history": [{"comment": "synthesised by podman-cvmfs"} for _ in diff_ids],
    }
    return parse_config(json.dumps(document, sort_keys=True).encode())


def _is_of_windows(tree: Tree, flat: str) -> bool:
    """Whether it is the root of a Windows image: there the files are in ``Files`` and the registry
    in ``Hives`` (hcsshim ``pkg/ociwclayer``)."""
    return all(tree.lstat(f"{flat}/{name}") is not None for name in ("Files", "Hives"))


def has_scripts(tree: Tree, flat: str) -> bool:
    """Whether the merged root ``flat`` has the directory of Singularity's files. Some versions of
    cvmfs have lost all dotfiles of merged roots. Raises RepositoryError."""
    return tree.lstat(f"{flat}/{_SCRIPTS}") is not None


def _script(tree: Tree, path: str, required: bool) -> str:
    data = tree.read(path, _MAX_SCRIPT)
    if data is None and not required:
        return ""
    if data is None:
        raise RepositoryError(f"{path} is missing, so no configuration can be made up from it")
    return data.decode("utf-8", "surrogateescape")


def environment_of(script: str) -> list[str]:
    """Read the ``NAME=value`` pairs out of DUCC's environment script."""
    pairs = []
    for match in _EXPORT.finditer(script):
        quoted = match["value"] if match["default"] is None else match["default"]
        value = _shell_unescape(_go_unquote(quoted))
        pairs.append(_valid_text(f"{match['name']}={value}"))
    return pairs


def run_words(script: str) -> tuple[list[str], list[str]]:
    """Read entrypoint and command out of DUCC's run script."""
    # A word may hold a single quote. DUCC doesn't escape it; our publisher and Singularity do, in
    # two ways.
    match = _RUN.search(script.replace("'\"'\"'", "'\\''"))
    if match is None:
        return [], []
    entrypoint, command = (
        [_valid_text(_shell_unescape(word.replace("'\\''", "'"))) for word in _WORD.findall(part)]
        for part in match.groups()
    )
    return entrypoint, command


def _shell_unescape(text: str) -> str:
    return _SHELL_ESCAPE.sub(r"\1", text)


def _go_unquote(text: str) -> str:
    """Undo Go's strconv.Quote."""

    def replace(match: re.Match[str]) -> str:
        octet, short, long, single = match.groups()
        if octet:
            return bytes.fromhex(octet).decode("utf-8", "surrogateescape")
        if short or long:
            code = int(short or long, 16)
            return "\ufffd" if 0xD800 <= code < 0xE000 or code >= 0x110000 else chr(code)
        return _GO_CONTROL.get(single, single)

    return _GO_ESCAPE.sub(replace, text)


def _valid_text(text: str) -> str:
    """``text`` with bytes that are no UTF-8 replaced, since JSON can't hold them."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def architecture_of(tree: Tree, flat: str, programs: Sequence[str]) -> str:
    """Read the architecture from the ELF header of a program in the merged root; "" if no program
    has one.

    ``programs`` are tried before the usual ones.
    """
    for program in (*(p for p in programs if p.startswith("/")), *_PROGRAMS):
        path = _resolve(tree, flat, program.lstrip("/"))
        header = tree.read_head(path, 20) if path else None
        if header is not None and len(header) == 20 and header[:4] == b"\x7fELF":
            order = header[5]
            machine = struct.unpack("<H" if order == 1 else ">H", header[18:20])[0]
            if (machine, order) in _MACHINES:
                return _MACHINES[(machine, order)]
    return ""


def _resolve(tree: Tree, flat: str, path: str) -> str | None:
    """Follow links as a process in the container would; None if ``path`` leads nowhere.

    Never leaves ``flat``: an absolute target starts at the container's root, and ``..`` stops
    there.
    """
    pending = path.split("/")[::-1]
    current: list[str] = []
    steps = 0
    while pending:
        steps += 1
        part = pending.pop()
        if steps > 100:
            return None
        if part in ("", "."):
            continue
        if part == "..":
            del current[-1:]
            continue
        here = posixpath.join(flat, *current, part)
        attributes = tree.lstat(here)
        if attributes is None:
            return None
        if stat.S_ISLNK(attributes.st_mode):
            target = tree.readlink(here) or ""
            if target.startswith("/"):
                current = []
            pending.extend(target.split("/")[::-1])
        else:
            current.append(part)
    return posixpath.join(flat, *current)
