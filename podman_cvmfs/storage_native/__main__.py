# SPDX-License-Identifier: Apache-2.0
"""``python3 -m podman_cvmfs.storage_native``: the process that ``child`` starts, and by hand::

version              what was found, as JSON
config               this user's configuration as the library reads it, as JSON
judge STORE..        the library's verdict on stores, as JSON; exit status 1 if one is bad
serve LIBRARY        answer the requests on standard input with the shared library
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict

from podman_cvmfs.errors import PodmanCvmfsError
from podman_cvmfs.storage_native.artefact import locate
from podman_cvmfs.storage_native.binding import SharedLibrary
from podman_cvmfs.storage_native.calls import Calls
from podman_cvmfs.storage_native.envelope import MAX_REQUEST
from podman_cvmfs.storage_native.report import judge
from podman_cvmfs.storage_native.session import effective_config, started


def serve(path: str) -> int:
    """Answer the lines of standard input until it ends."""
    # Whatever the library prints must not come between the answers.
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        library = SharedLibrary(path)
        while True:
            request = sys.stdin.buffer.readline(MAX_REQUEST + 1)
            if not request:
                break
            answers.write(library.call(request) + b"\n")
            answers.flush()
            while len(request) > MAX_REQUEST and not request.endswith(b"\n"):
                request = sys.stdin.buffer.readline(MAX_REQUEST + 1)
        Calls(library.call).close_all()
    return 0


def main() -> int:
    """Do one of the above; the exit status."""
    parser = argparse.ArgumentParser(prog="python3 -m podman_cvmfs.storage_native")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("version")
    commands.add_parser("config")
    commands.add_parser("judge").add_argument("stores", metavar="STORE", nargs="+")
    commands.add_parser("serve").add_argument("library")
    arguments = parser.parse_args()
    try:
        if arguments.command == "serve":
            return serve(arguments.library)
        if arguments.command == "judge":
            reports = {store: judge(store) for store in arguments.stores}
            print(json.dumps({store: report.as_data() for store, report in reports.items()}))
            return int(any(report.errors for report in reports.values()))
        if arguments.command == "config":
            print(json.dumps(asdict(effective_config())))
        else:
            artefact = locate()
            with started(artefact) as (_, version):
                print(json.dumps({"path": artefact.path, **asdict(version)}))
    except PodmanCvmfsError as err:
        print(f"{parser.prog}: error: {err.message}", file=sys.stderr)
        if err.hint:
            print(f"  hint: {err.hint}", file=sys.stderr)
        return err.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
